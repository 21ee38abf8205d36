//! The main job, whole or in part: workloads through both consumers, then a report.

use crate::args::RunArgs;
use crate::drain;
use crate::drive::{Workload, drive};
use crate::error::ToolError;
use crate::machine::{Kind, Machine, MachineSettings};
use crate::progress::Progress;
use crate::report::{Comparison, Report, json, text};
use crate::trace::{self, Trace};
use crate::{replay, storm};
use std::collections::BTreeSet;
use std::process::ExitCode;

/// What to run.
#[derive(Debug)]
pub(crate) enum Part {
    /// The bundled streams, the storm, and the drains.
    All,
    /// Recorded streams; whether as they were published.
    Replay(Vec<Trace>, bool),
    /// The storm.
    Storm,
}

/// Runs, reports, and says whether every check held.
pub(crate) fn run(args: &RunArgs, part: Part) -> Result<ExitCode, ToolError> {
    let progress = Progress::new(args.json);
    let result = report(args, part, &progress);
    progress.clear();
    let report = result?;
    if args.json {
        json::print(&report)?;
    } else {
        text::print(&report)?;
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(args: &RunArgs, part: Part, progress: &Progress) -> Result<Report, ToolError> {
    let drains = args.drain_rounds > 0;
    let (traces, as_published, storms, drains) = match part {
        Part::All => (trace::bundled()?, false, true, drains),
        Part::Replay(traces, as_published) => (traces, as_published, false, drains),
        Part::Storm => (Vec::new(), false, true, false),
    };
    let mut workloads = Vec::new();
    for trace in &traces {
        let caps = MachineSettings::new(args, true, BTreeSet::new()).caps;
        let mut settings = MachineSettings::new(args, true, replay::streams(trace, &caps));
        let workload = if as_published {
            let workload = replay::as_published(trace, args.repeat)?;
            settings.rings = workload.scripts.len();
            workload
        } else {
            replay::workload(trace, args.vcpus, args.repeat)
        };
        workloads.push(compare(args, &settings, &workload, progress)?);
    }
    for ril in [true, false].into_iter().filter(|_| storms) {
        let settings = MachineSettings::new(args, ril, storm::streams(args.vcpus));
        let workload = storm::workload(args.vcpus, args.ops, args.seed, ril);
        workloads.push(compare(args, &settings, &workload, progress)?);
    }
    let drains = match traces.first().filter(|_| drains) {
        Some(trace) => {
            let settings = MachineSettings::new(args, true, BTreeSet::new());
            Some(drain::measure(
                &settings,
                trace,
                args.drain_rounds,
                progress,
            )?)
        }
        None => None,
    };
    Ok(Report {
        vcpus: args.vcpus,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        check_every: args.check_every,
        streams: traces.iter().map(|trace| trace.shape.clone()).collect(),
        ok: workloads.iter().all(Comparison::holds),
        workloads,
        drains,
    })
}

/// One workload through the engine, then through the baseline, each with memory, queue and
/// translation core of its own.
fn compare(
    args: &RunArgs,
    settings: &MachineSettings,
    workload: &Workload,
    progress: &Progress,
) -> Result<Comparison, ToolError> {
    let by = |kind| {
        let machine = Machine::build(kind, settings)?;
        drive(&machine, workload, args.check_every, progress)
    };
    let engine = by(Kind::Engine)?;
    let baseline = by(Kind::Baseline)?;
    Ok(Comparison::new(workload.name.clone(), engine, baseline))
}
