//! Fairness: what a guest waits for a SYNC while another one floods the worker that serves both.
//!
//! One thread plays both guests, so that neither waits for a CPU: it keeps the flooding guest's
//! ring full, between all looks at anything else, and now and then sends a TLBI and a SYNC of
//! the idle guest. Gaps between those are shorter than the time for which a worker looks for work
//! before it sleeps: alone, the idle guest finds the worker awake, too.

use crate::cores::Pair;
use crate::data::{Gathered, Latencies, Placed};
use crate::options::{Options, Part, Progress};
use crate::vm::{Door, Queue, Vm, small_software};
use serde::{Deserialize, Serialize};
use smmu_core::Asid;
use smmu_core::spec::command::RawCommand;
use std::hint::spin_loop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vcmdq::{Engine, Settings};
use vcmdq_benches::ping_pong::{Trips, no_trips};
use vcmdq_benches::streams::{Numbers, PIECE, random, tlbi};

/// Both guests ring doorbells.
pub const DOORBELLS: &str = "doorbell calls";
/// The PRODs of both guests lie in pages that the worker polls.
pub const PAGES: &str = "shared pages";

/// The flooding guest's ring has 4096 entries.
const LOG2SIZE: u8 = 12;
/// Gaps between two SYNCs of the idle guest are up to so long.
const GAP: Duration = Duration::from_micros(20);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// By doorbells and by pages.
    pub cases: Vec<Fair>,
}

/// One way to the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fair {
    /// One of the constants of the module.
    pub name: String,
    /// The idle guest's SYNCs while the other one does nothing.
    pub alone: Latencies,
    /// While the other one floods.
    pub beside_flood: Latencies,
    /// What the flooding guest got done meanwhile.
    pub flood_commands_per_second: f64,
    /// The share of looks at the flooding ring that found it empty: it is to be near zero.
    pub flood_found_empty: f64,
    /// Second by first, of the medians over the rounds of the 99.9th percentiles.
    pub ratio_p999: f64,
    /// The same of the medians.
    pub ratio_p50: f64,
}

impl Fairness {
    /// A case by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Fair> {
        self.cases.iter().find(|case| case.name == name)
    }
}

struct Flood {
    queue: Queue,
    commands: Vec<RawCommand>,
    next: usize,
    looks: u64,
    empty: u64,
}

impl Flood {
    /// Fills what is free.
    fn refill(&mut self) {
        if self.queue.has_room(PIECE as u32) {
            let piece = &self.commands[self.next * PIECE..][..PIECE];
            self.next = (self.next + 1) % (self.commands.len() / PIECE);
            self.looks += 1;
            self.empty += u64::from(self.queue.is_done());
            self.queue.publish(piece);
        }
    }
}

struct Site {
    name: &'static str,
    idle: Queue,
    flood: Flood,
    alone: Gathered,
    beside: Gathered,
    flooded: (u64, Duration),
    _kept: (Vm, Vm, Engine),
}

impl Site {
    fn new(name: &'static str, door: Door, pair: &Pair) -> Result<Self, String> {
        let engine = Engine::start(Settings::default(), Arc::new(pair.workers()));
        let engine = engine.map_err(|error| error.to_string())?;
        let vm = || {
            let mut vm = Vm::new(&engine, small_software(), (1, LOG2SIZE), door)?;
            let queue = vm.queues.pop().ok_or("a guest without a queue")?;
            Ok::<_, String>((vm, queue))
        };
        let ((vm, idle), (other, queue)) = (vm()?, vm()?);
        let flood = Flood {
            queue,
            commands: random(64),
            next: 0,
            looks: 0,
            empty: 0,
        };
        Ok(Self {
            name,
            idle,
            flood,
            alone: Gathered::new("alone"),
            beside: Gathered::new("beside a flood"),
            flooded: (0, Duration::ZERO),
            _kept: (vm, other, engine),
        })
    }

    /// The idle guest's trips; `meanwhile` runs between all looks.
    fn trips(idle: &mut Queue, count: u64, mut meanwhile: impl FnMut()) -> Trips {
        let mut trips = no_trips();
        let mut numbers = Numbers::new(count);
        for number in 0..count {
            let gap = Duration::from_nanos(numbers.word() % GAP.as_nanos() as u64);
            let begun = Instant::now();
            while begun.elapsed() < gap || !idle.has_room(2) {
                meanwhile();
                spin_loop();
            }
            let before = Instant::now();
            let pending = idle.publish_with_sync(tlbi(Asid(1), number));
            while !idle.has_synced(pending) {
                meanwhile();
            }
            trips.saturating_record(before.elapsed().as_nanos() as u64);
        }
        trips
    }

    fn round(&mut self, count: u64) {
        let Self { idle, flood, .. } = self;
        // The worker is awake behind this.
        Self::trips(idle, 10, || {});
        self.alone.add(Self::trips(idle, count, || {}));
        while flood.queue.has_room(PIECE as u32) {
            flood.refill();
        }
        let (begun, before) = (Instant::now(), flood.queue.metrics().commands);
        self.beside.add(Self::trips(idle, count, || flood.refill()));
        self.flooded.0 += flood.queue.metrics().commands - before;
        self.flooded.1 += begun.elapsed();
        flood.queue.wait();
    }

    fn sum_up(&self) -> Fair {
        let (alone, beside) = (self.alone.sum_up(), self.beside.sum_up());
        let ratio = |beside: u64, alone: u64| beside as f64 / alone.max(1) as f64;
        Fair {
            name: self.name.to_owned(),
            ratio_p999: ratio(beside.median_p999, alone.median_p999),
            ratio_p50: ratio(beside.p50, alone.p50),
            flood_commands_per_second: self.flooded.0 as f64
                / self.flooded.1.as_secs_f64().max(f64::MIN_POSITIVE),
            flood_found_empty: self.flood.empty as f64 / self.flood.looks.max(1) as f64,
            alone,
            beside_flood: beside,
        }
    }
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<Fairness, String> {
    let rounds = options.rounds(21, 2);
    let count = options.rounds(2000, 100) as u64;
    let mut sites = [
        Site::new(DOORBELLS, Door::Call, pair)?,
        Site::new(PAGES, Door::Page, pair)?,
    ];
    progress.part(Part::Fairness, rounds as u64);
    for _ in 0..rounds {
        for site in &mut sites {
            site.round(count);
        }
        progress.step();
    }
    let (first, second) = pair.numbers();
    Ok(Fairness {
        placement: vec![
            Placed::on("one thread that plays both guests", first),
            Placed::on("the worker of both", second),
        ],
        cases: sites.iter().map(Site::sum_up).collect(),
    })
}
