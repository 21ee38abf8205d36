//! Group commit: many CPUs wait for their SYNCs at the same time, and the backend is asked for all
//! of them in one call.
//!
//! Each producer sends one TLBI and a SYNC, waits, and begins anew, as CPUs do that unmap without
//! pause. One thread plays all of them in turn: where there are fewer CPUs than producers, threads
//! would wait for a CPU and not for a SYNC. A call to the backend costs 5 µs.

use crate::cores::Pair;
use crate::data::{Gathered, Latencies, Placed};
use crate::options::{Options, Part, Progress};
use crate::vm::{Door, Pending, Queue, Vm, small_software};
use dispatch::Backend;
use serde::{Deserialize, Serialize};
use smmu_core::Asid;
use smmu_core::guest_memory::GuestMemory;
use std::sync::Arc;
use std::time::Instant;
use vcmdq::{Engine, Settings};
use vcmdq_benches::backends::{Costly, CostlyCounts, InjectedCost};
use vcmdq_benches::baseline::Baseline;
use vcmdq_benches::one_by_one::Place;
use vcmdq_benches::ping_pong::{Trips, no_trips};
use vcmdq_benches::rig::{self, guest_memory};
use vcmdq_benches::rounds::median;
use vcmdq_benches::streams::tlbi;

/// All producers share one ring: the usual case.
pub const ONE_RING: &str = "8 producers, one ring";
/// The same with a backend of which the engine knows that its calls can block.
pub const ONE_RING_BLOCKING: &str = "8 producers, one ring, calls can block";
/// Each producer has a ring of its own, as with VCMDQs.
pub const RINGS: &str = "8 producers, 8 rings of one frame";
/// The same with a backend that says what its calls cost.
pub const RINGS_LONG: &str = "8 producers, 8 rings of one frame, calls are long";
/// The same with a backend of which the engine knows that its calls can block.
pub const RINGS_BLOCKING: &str = "8 producers, 8 rings of one frame, calls can block";
/// One ring, consumed synchronously under a mutex.
pub const BASELINE: &str = "8 producers, one ring, baseline";

const PRODUCERS: usize = 8;
const LOG2SIZE: u8 = 8;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupCommit {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// What a call costs on top, in nanoseconds.
    pub per_call_ns: u64,
    /// The engine with one ring and with several; the baseline.
    pub cases: Vec<GroupCase>,
}

impl GroupCommit {
    /// A case by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&GroupCase> {
        self.cases.iter().find(|case| case.name == name)
    }
}

/// A way to send SYNCs together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupCase {
    /// One of the constants of the module.
    pub name: String,
    /// Who send.
    pub producers: usize,
    /// Rings that they send into.
    pub rings: usize,
    /// SYNCs that were waited for, in all rounds.
    pub syncs: u64,
    /// Calls that the backend got.
    pub calls: u64,
    /// Requests in them.
    pub requests: u64,
    /// Median over the rounds.
    pub calls_per_sync: f64,
    /// From when a producer had seen its last SYNC until it saw the next one.
    pub latencies: Latencies,
}

/// What producers send into; what it costs is counted behind.
struct Site {
    name: &'static str,
    queues: Vec<Queue>,
    costly: Arc<Costly>,
    gathered: Gathered,
    counts: CostlyCounts,
    ratios: Vec<f64>,
    /// Kept while the queues are used.
    _engine: Option<(Vm, Engine)>,
}

/// What the backend says of its calls.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    Long,
    Blocks,
}

fn costly() -> Costly {
    Costly::new(small_software(), InjectedCost::CALL)
}

impl Site {
    fn new(
        name: &'static str,
        costly: Arc<Costly>,
        queues: Vec<Queue>,
        engine: Option<(Vm, Engine)>,
    ) -> Self {
        Self {
            name,
            queues,
            costly,
            gathered: Gathered::new(name),
            counts: CostlyCounts::default(),
            ratios: Vec::new(),
            _engine: engine,
        }
    }

    fn engine(name: &'static str, pair: &Pair, rings: usize, says: Says) -> Result<Self, String> {
        let engine = Engine::start(Settings::default(), Arc::new(pair.workers()));
        let engine = engine.map_err(|error| error.to_string())?;
        let costly = Arc::new(match says {
            Says::Nothing => costly(),
            Says::Long => costly().says_price(),
            Says::Blocks => costly().may_block(true),
        });
        let mut vm = Vm::new(&engine, costly.clone(), (rings, LOG2SIZE), Door::Call)?;
        let queues = std::mem::take(&mut vm.queues);
        Ok(Self::new(name, costly, queues, Some((vm, engine))))
    }

    fn baseline() -> Self {
        let costly = Arc::new(costly());
        let memory: Arc<dyn GuestMemory> = guest_memory();
        let place = Place {
            base: rig::BASE,
            log2size: LOG2SIZE,
        };
        let backend: Arc<dyn Backend> = costly.clone();
        let baseline = Baseline::new(place, rig::capabilities(), memory.clone(), backend);
        let queue = Queue::over(Arc::new(baseline), memory, (place.base, place.log2size));
        Self::new(BASELINE, costly, vec![queue], None)
    }

    /// Every producer sends `count` SYNCs.
    fn round(&mut self, count: u64) {
        // Whoever slept is awake behind this.
        play(&mut self.queues, 2);
        let before = self.costly.counts();
        let trips = play(&mut self.queues, count);
        let after = self.costly.counts();
        let calls = after.calls - before.calls;
        self.counts.calls += calls;
        self.counts.commands += after.commands - before.commands;
        self.ratios.push(calls as f64 / trips.len() as f64);
        self.gathered.add(trips);
    }

    fn sum_up(&self) -> GroupCase {
        let latencies = self.gathered.sum_up();
        GroupCase {
            name: self.name.to_owned(),
            producers: PRODUCERS,
            rings: self.queues.len(),
            syncs: latencies.count,
            calls: self.counts.calls,
            requests: self.counts.commands,
            calls_per_sync: median(self.ratios.clone()),
            latencies,
        }
    }
}

/// One producer.
struct Producer {
    queue: usize,
    asid: Asid,
    left: u64,
    pending: Option<Pending>,
    /// When it had seen its last SYNC.
    since: Instant,
}

/// Plays the producers, who share the queues in turn, until each has sent `count` SYNCs and seen
/// them.
fn play(queues: &mut [Queue], count: u64) -> Trips {
    let mut trips = no_trips();
    let producer = |number: usize| Producer {
        queue: number % queues.len(),
        asid: Asid(number as u16),
        left: count,
        pending: None,
        since: Instant::now(),
    };
    let mut producers: Vec<_> = (0..PRODUCERS).map(producer).collect();
    let mut outstanding = count * PRODUCERS as u64;
    while outstanding > 0 {
        for producer in &mut producers {
            let queue = &mut queues[producer.queue];
            if let Some(pending) = producer.pending {
                if !queue.has_synced(pending) {
                    continue;
                }
                producer.pending = None;
                let now = Instant::now();
                trips.saturating_record((now - producer.since).as_nanos() as u64);
                producer.since = now;
                outstanding -= 1;
            }
            // A slot is written again after all of its producers have looked: the queue has room
            // for many times as many SYNCs as there are producers.
            if producer.left > 0 && queue.has_room(2) {
                producer.left -= 1;
                producer.pending =
                    Some(queue.publish_with_sync(tlbi(producer.asid, producer.left)));
            }
        }
    }
    trips
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<GroupCommit, String> {
    let rounds = options.rounds(21, 2);
    let count = options.rounds(300, 20) as u64;
    let mut sites = [
        Site::engine(ONE_RING, pair, 1, Says::Nothing)?,
        Site::engine(ONE_RING_BLOCKING, pair, 1, Says::Blocks)?,
        Site::engine(RINGS, pair, PRODUCERS, Says::Nothing)?,
        Site::engine(RINGS_LONG, pair, PRODUCERS, Says::Long)?,
        Site::engine(RINGS_BLOCKING, pair, PRODUCERS, Says::Blocks)?,
        Site::baseline(),
    ];
    progress.part(Part::GroupCommit, rounds as u64);
    for round in 0..rounds {
        for turn in 0..sites.len() {
            let many = sites.len();
            sites[(turn + round) % many].round(count);
        }
        progress.step();
    }
    let (first, second) = pair.numbers();
    Ok(GroupCommit {
        placement: vec![
            Placed::on("one thread that plays 8 producers", first),
            Placed::on("worker", second),
        ],
        per_call_ns: InjectedCost::CALL.per_call.as_nanos() as u64,
        cases: sites.iter().map(Site::sum_up).collect(),
    })
}
