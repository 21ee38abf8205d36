//! Producer threads that work through their scripts, against whatever consumes.

use crate::check::{Checker, Tally};
use crate::error::ToolError;
use crate::machine::{Figures, Machine};
use crate::progress::Progress;
use hdrhistogram::Histogram;
use serde::Serialize;
use smmu_core::spec::command::RawCommand;
use std::ops::Range;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use vcmdq::testing::QueueError;

/// What one producer submits, one submission after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    commands: Vec<RawCommand>,
    submissions: Vec<Submission>,
}

#[derive(Clone, Debug)]
struct Submission {
    commands: Range<usize>,
    /// Index into the workload's names of operations.
    operation: usize,
    /// The guest's operation is done when this submission is.
    ends_operation: bool,
}

impl Script {
    /// Appends a submission: `commands` and the SYNC that the producer waits for.
    pub(crate) fn push(&mut self, commands: &[RawCommand], operation: usize, ends_operation: bool) {
        let start = self.commands.len();
        self.commands.extend_from_slice(commands);
        self.submissions.push(Submission {
            commands: start..self.commands.len(),
            operation,
            ends_operation,
        });
    }

    fn submissions(&self) -> impl Iterator<Item = (&Submission, &[RawCommand])> {
        self.submissions
            .iter()
            .map(|step| (step, &self.commands[step.commands.clone()]))
    }

    pub(crate) fn len(&self) -> usize {
        self.submissions.len()
    }
}

/// Scripts for all producers, and what their operations are called.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) operations: Vec<&'static str>,
    pub(crate) scripts: Vec<Script>,
    /// How often each script is worked through.
    pub(crate) repeat: u32,
}

/// How long something took, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    fn of(times: &Times) -> Self {
        Self {
            count: times.len(),
            mean: times.mean(),
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            p999: times.value_at_quantile(0.999),
            max: times.max(),
        }
    }
}

/// What a consumer made of a workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) consumer: &'static str,
    /// Commands inserted, SYNCs too; without those of the checks' second looks.
    pub(crate) commands: u64,
    /// Sum over the producers of commands per second while they were submitting.
    pub(crate) commands_per_second: f64,
    /// From the first submission to the last, with the checks between them.
    pub(crate) seconds: f64,
    /// From submission to completed SYNC, for each producer.
    pub(crate) vcpus: Vec<Latency>,
    /// The same, of all producers together.
    pub(crate) all: Latency,
    /// Whole operations of the guest, by name.
    pub(crate) operations: Vec<Operation>,
    pub(crate) figures: Figures,
    pub(crate) checks: Tally,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) latency: Latency,
}

type Times = Histogram<u64>;

/// A minute in nanoseconds: more than any producer waits.
const LONGEST: u64 = 60_000_000_000;

/// Three digits, up to a minute; what is longer counts as one.
fn times() -> Times {
    Times::new_with_bounds(1, LONGEST, 3)
        .expect("it takes any range from 1 to at least 2, and up to 5 digits")
}

/// What one producer brings home.
struct Home {
    submissions: Times,
    operations: Vec<Times>,
    commands: u64,
    busy: Duration,
    checks: Tally,
}

/// Has every script worked through by a thread of its own, against `machine`.
pub(crate) fn drive(
    machine: &Machine,
    workload: &Workload,
    check_every: u32,
    progress: &Progress,
) -> Result<Outcome, ToolError> {
    let consumer = machine.name;
    let submissions: usize = workload.scripts.iter().map(Script::len).sum();
    let what = format!("{}, {consumer}", workload.name);
    progress.begin(&what, submissions as u64 * u64::from(workload.repeat));
    let start = Barrier::new(workload.scripts.len() + 1);
    let produce = |vcpu: usize| {
        start.wait();
        work_through(machine, workload, vcpu, check_every, progress)
    };
    let (homes, elapsed) = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..workload.scripts.len())
            .map(|vcpu| scope.spawn(move || produce(vcpu)))
            .collect();
        start.wait();
        let begun = Instant::now();
        let homes: Vec<_> = producers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        (homes, begun.elapsed())
    });
    let mut whole = Vec::with_capacity(homes.len());
    for (vcpu, home) in homes.into_iter().enumerate() {
        let home = home.map_err(|_| ToolError::Died { consumer })?;
        whole.push(home.map_err(|source| ToolError::Producer {
            consumer,
            vcpu,
            source,
        })?);
    }
    Ok(outcome(machine, workload, whole, elapsed))
}

fn work_through(
    machine: &Machine,
    workload: &Workload,
    vcpu: usize,
    check_every: u32,
    progress: &Progress,
) -> Result<Home, QueueError> {
    let script = &workload.scripts[vcpu];
    let mut checker = Checker::new(machine, vcpu as u16);
    let mut home = Home {
        submissions: times(),
        operations: workload.operations.iter().map(|_| times()).collect(),
        commands: 0,
        busy: Duration::ZERO,
        checks: Tally::default(),
    };
    let (mut number, mut operation) = (0, Duration::ZERO);
    for _ in 0..workload.repeat {
        for (step, commands) in script.submissions() {
            let checked = number % u64::from(check_every) == 0;
            let turn = machine.turn.read();
            if checked {
                checker.plant(commands);
            }
            let begun = Instant::now();
            machine.queue(vcpu).submit(commands)?;
            let took = begun.elapsed();
            let sound = !checked || checker.verify();
            drop(turn);
            if !sound {
                checker.verify_alone(commands)?;
            }
            home.commands += commands.len() as u64 + 1;
            home.busy += took;
            record(&mut home.submissions, took);
            operation += took;
            if step.ends_operation {
                record(
                    &mut home.operations[step.operation],
                    std::mem::take(&mut operation),
                );
            }
            progress.step(number);
            number += 1;
        }
    }
    home.checks = checker.tally;
    Ok(home)
}

fn record(times: &mut Times, took: Duration) {
    times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST));
}

fn outcome(machine: &Machine, workload: &Workload, homes: Vec<Home>, elapsed: Duration) -> Outcome {
    let mut all = times();
    let mut operations: Vec<_> = workload.operations.iter().map(|_| times()).collect();
    let mut checks = Tally::default();
    let (mut vcpus, mut commands, mut per_second) = (Vec::new(), 0, 0.0);
    for home in homes {
        all += &home.submissions;
        for (sum, own) in operations.iter_mut().zip(&home.operations) {
            *sum += own;
        }
        vcpus.push(Latency::of(&home.submissions));
        commands += home.commands;
        per_second += home.commands as f64 / home.busy.as_secs_f64().max(f64::MIN_POSITIVE);
        checks.add(home.checks);
    }
    let named = workload.operations.iter().zip(&operations);
    Outcome {
        consumer: machine.name,
        commands,
        commands_per_second: per_second,
        seconds: elapsed.as_secs_f64(),
        vcpus,
        all: Latency::of(&all),
        operations: named
            .map(|(name, times)| Operation {
                name,
                latency: Latency::of(times),
            })
            .collect(),
        figures: machine.figures(),
        checks,
    }
}
