//! Many rings of many guests: commands per second, and whether a command costs more where there
//! are more rings.
//!
//! One thread is the producer of all rings. It writes pieces of 64 commands, as Linux inserts them,
//! into each busy ring that has room, and rings its doorbell; so the entries come from another
//! core, as they do from a guest. The other rings are enabled and idle.

use crate::cores::{OnCpus, Pair};
use crate::data::{Cost, Placed};
use crate::options::{Options, Part, Progress};
use crate::vm::{Door, Queue, Vm, small_software};
use serde::{Deserialize, Serialize};
use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use smmu_core::spec::command::{RawCommand, opcode};
use std::sync::Arc;
use std::thread::yield_now;
use std::time::{Duration, Instant};
use vcmdq::{Engine, Settings};
use vcmdq_benches::rounds::median;
use vcmdq_benches::streams::{PIECE, neighbours, random, recorded};

/// 63 neighbouring pages and a SYNC, again and again.
pub const NEIGHBOURS: &str = "neighbours";
/// What a Linux guest sent.
pub const RECORDED: &str = "recorded";
/// 63 pages anywhere and a SYNC, again and again.
pub const RANDOM: &str = "random";

/// log2 of a ring's entries.
const LOG2SIZE: u8 = 8;
/// No guest has more rings than are served by turns as one.
const MOST_OF_ONE: usize = 64;
/// Rings, and how many of them are busy.
const LAYOUTS: [(usize, usize); 6] = [
    (1, 1),
    (16, 16),
    (256, 16),
    (256, 256),
    (4096, 16),
    (4096, 4096),
];
/// Compared with each other: as many are busy.
const FEW: (usize, usize) = (16, 16);
const MANY: (usize, usize) = (4096, 16);

/// A machine on which a worker does not get to count for so long measures nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// Each stream with each number of rings and workers.
    pub points: Vec<Point>,
    /// Whether idle rings cost anything, with [`NEIGHBOURS`] and one worker: the cheapest commands,
    /// of which a cost of rings would be the largest part.
    pub flat: Flat,
}

/// A number of rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its name.
    pub stream: String,
    /// Rings of all guests; a guest has up to 64.
    pub rings: usize,
    /// Those that get commands.
    pub busy: usize,
    /// Threads that consume.
    pub workers: usize,
    /// Commands in a round, for all rings together.
    pub commands: u64,
    /// A round's time by its commands: what is seen from outside, producer and worker overlapping.
    pub ns_per_command: Cost,
    /// In the median round.
    pub commands_per_second: f64,
}

/// 16 busy rings, and the same beside 4080 idle ones. The entries are not written anew: the
/// worker is what limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flat {
    /// Per command, 16 rings.
    pub rings_16: Cost,
    /// Per command, 4096 rings of which 16 are busy.
    pub rings_4096: Cost,
    /// The median over the rounds of the second by the first of the same round.
    pub ratio: f64,
}

/// An engine whose worker sleeps while others are measured.
struct Site {
    rings: usize,
    workers: usize,
    busy: Vec<Queue>,
    /// Commands into all of them.
    written: u64,
    _idle: Vec<Queue>,
    _vms: Vec<Vm>,
    engine: Engine,
}

impl Site {
    fn new((rings, busy): (usize, usize), cpus: OnCpus, workers: usize) -> Result<Self, String> {
        let settings = Settings {
            workers,
            max_rings: rings.max(64),
            ..Settings::default()
        };
        let engine = Engine::start(settings, Arc::new(cpus)).map_err(|error| error.to_string())?;
        let guests = rings.min(MOST_OF_ONE);
        let each = rings / guests;
        let vm = |_| Vm::new(&engine, small_software(), (each, LOG2SIZE), Door::Call);
        let mut vms = (0..guests).map(vm).collect::<Result<Vec<_>, _>>()?;
        // One of each guest, then the next of each.
        let mut queues = Vec::with_capacity(rings);
        let mut all: Vec<_> = vms.iter_mut().map(|vm| vm.queues.drain(..)).collect();
        for _ in 0..each {
            queues.extend(all.iter_mut().filter_map(Iterator::next));
        }
        drop(all);
        let idle = queues.split_off(busy);
        Ok(Self {
            rings,
            workers,
            busy: queues,
            written: 0,
            _idle: idle,
            _vms: vms,
            engine,
        })
    }

    /// Has `pieces` pieces consumed by each busy ring; nanoseconds.
    fn round(&mut self, plan: &Plan, pieces: usize) -> u64 {
        // Whoever slept is awake behind this, and every entry has been written.
        let whole = (1 << LOG2SIZE) / PIECE;
        self.pass(&plan.commands, if plan.fresh { 1 } else { whole }, true);
        let start = Instant::now();
        self.pass(&plan.commands, pieces, plan.fresh);
        start.elapsed().as_nanos() as u64
    }

    fn pass(&mut self, stream: &[RawCommand], pieces: usize, fresh: bool) {
        let shares = self.workers > 1;
        let mut left = vec![pieces; self.busy.len()];
        let mut unfinished = self.busy.len() * pieces;
        while unfinished > 0 {
            let before = unfinished;
            for (number, (queue, left)) in self.busy.iter_mut().zip(&mut left).enumerate() {
                if *left == 0 || !queue.has_room(PIECE as u32) {
                    continue;
                }
                let from = (number + *left) * PIECE % (stream.len() - PIECE);
                match fresh {
                    true => queue.publish(&stream[from..][..PIECE]),
                    false => queue.publish_again(PIECE as u32),
                }
                self.written += PIECE as u64;
                *left -= 1;
                unfinished -= 1;
            }
            if before == unfinished && shares {
                // A worker may be waiting for this very CPU.
                yield_now();
            }
        }
        for queue in &mut self.busy {
            while !queue.is_done() {
                if shares {
                    yield_now();
                }
            }
        }
    }

    /// Whether what the engine has counted is what was written. CONS comes first, so the last
    /// window may be counted a little later.
    fn adds_up(&self) -> bool {
        let counted = || {
            let each = self.busy.iter().map(|queue| queue.metrics().commands);
            each.sum::<u64>()
        };
        let begun = Instant::now();
        while counted() < self.written && begun.elapsed() < PATIENCE {
            yield_now();
        }
        counted() == self.written
    }
}

/// SYNCs that signal nothing: producers here look at CONS.
fn quiet(stream: Vec<RawCommand>) -> Vec<RawCommand> {
    let sync = encode(&Command::Sync(Signal::None));
    let quiet = |raw: RawCommand| {
        if raw.opcode() == opcode::SYNC {
            sync
        } else {
            raw
        }
    };
    stream.into_iter().map(quiet).collect()
}

/// What is to be measured with a site.
struct Plan {
    site: usize,
    /// Every entry is written anew; else it lies where it lay the last time round.
    fresh: bool,
    stream: &'static str,
    commands: Vec<RawCommand>,
    times: Vec<f64>,
}

fn plans(sites: &[Site]) -> Vec<Plan> {
    let streams = [
        (NEIGHBOURS, quiet(neighbours(64))),
        (RECORDED, quiet(recorded())),
        (RANDOM, quiet(random(64))),
    ];
    let mut plans = Vec::new();
    for (site, at) in sites.iter().zip(0..) {
        for (stream, commands) in &streams {
            let everywhere = *stream == RECORDED || site.workers == 1;
            if everywhere && (*stream != RANDOM || site.rings == 16) {
                plans.push(Plan {
                    site: at,
                    fresh: true,
                    stream,
                    commands: commands.clone(),
                    times: Vec::new(),
                });
            }
        }
    }
    // Side by side, so that both see the machine in the same state.
    for layout in [FEW, MANY] {
        let is = |site: &Site| (site.rings, site.busy.len()) == layout && site.workers == 1;
        plans.extend(sites.iter().position(is).map(|site| Plan {
            site,
            fresh: false,
            stream: NEIGHBOURS,
            commands: streams[0].1.clone(),
            times: Vec::new(),
        }));
    }
    plans
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<Throughput, String> {
    let rounds = options.rounds(51, 2);
    let least = options.rounds(1 << 16, 1 << 12);
    let mut sites = Vec::new();
    for workers in numbers_of_workers(pair.cpus()) {
        for layout in LAYOUTS.into_iter().filter(|(rings, _)| *rings >= workers) {
            sites.push(Site::new(layout, pair.workers(), workers)?);
        }
    }
    let mut plans = plans(&sites);
    progress.part(Part::Throughput, rounds as u64);
    let pieces = |site: &Site| (least / PIECE / site.busy.len()).max(1);
    for round in 0..rounds {
        for turn in 0..plans.len() {
            let count = plans.len();
            let plan = &mut plans[(turn + round) % count];
            let site = &mut sites[plan.site];
            let pieces = pieces(site);
            let ns = site.round(plan, pieces);
            let commands = (pieces * site.busy.len() * PIECE) as u64;
            if !site.adds_up() {
                return Err("other commands were counted than were written".to_owned());
            }
            plan.times.push(ns as f64 / commands as f64);
        }
        progress.step();
    }
    for site in &sites {
        site.engine.stop();
    }
    let point = |plan: &Plan| {
        let site = &sites[plan.site];
        let cost = Cost::of(plan.stream, plan.times.clone());
        Point {
            stream: plan.stream.to_owned(),
            rings: site.rings,
            busy: site.busy.len(),
            workers: site.workers,
            commands: (pieces(site) * site.busy.len() * PIECE) as u64,
            commands_per_second: 1e9 / cost.ns.max(f64::MIN_POSITIVE),
            ns_per_command: cost,
        }
    };
    Ok(Throughput {
        placement: placement(pair),
        points: plans.iter().filter(|plan| plan.fresh).map(point).collect(),
        flat: flat(&plans, &sites),
    })
}

fn flat(plans: &[Plan], sites: &[Site]) -> Flat {
    let times = |layout: (usize, usize)| {
        let is = |plan: &&Plan| {
            let site = &sites[plan.site];
            let here = (site.rings, site.busy.len()) == layout && site.workers == 1;
            here && !plan.fresh
        };
        let plan = plans.iter().find(is);
        plan.map(|plan| plan.times.clone()).unwrap_or_default()
    };
    let (few, many) = (times(FEW), times(MANY));
    let ratios = few.iter().zip(&many).map(|(few, many)| many / few);
    Flat {
        ratio: median(ratios.collect()),
        rings_16: Cost::of("16 rings", few),
        rings_4096: Cost::of("4096 rings", many),
    }
}

/// 1, 2, 4, … and one for each CPU.
fn numbers_of_workers(cpus: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |number| Some(number * 2));
    let mut numbers: Vec<usize> = powers.take_while(|number| *number < cpus).collect();
    numbers.push(cpus.min(64));
    numbers
}

fn placement(pair: &Pair) -> Vec<Placed> {
    let (first, _) = pair.numbers();
    let mut placed = vec![Placed::on("the producer of all rings", first)];
    for (number, cpu) in pair.workers().0.iter().enumerate() {
        let beside = if cpu.id == first {
            ", beside the producer"
        } else {
            ""
        };
        placed.push(Placed::on(&format!("worker {number}{beside}"), cpu.id));
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_workers_go_up_to_the_cpus() {
        assert_eq!(numbers_of_workers(1), [1]);
        assert_eq!(numbers_of_workers(2), [1, 2]);
        assert_eq!(numbers_of_workers(6), [1, 2, 4, 6]);
        assert_eq!(numbers_of_workers(8), [1, 2, 4, 8]);
    }
}
