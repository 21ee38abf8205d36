//! Law 11: as many guests as there are workers have a backend whose call blocks for a second. What
//! do all others wait for their SYNCs meanwhile?
//!
//! One thread plays the other guests in turn. It begins when every blocking call is under way, and
//! stops when the first of them has returned.

use crate::cores::{OnCpus, Pair};
use crate::data::{Gathered, Latencies, Placed};
use crate::options::{Options, Part, Progress};
use crate::vm::{Door, Queue, Vm, small_software};
use dispatch::backend::{Backend, Software};
use dispatch::{BackendCapabilities, Batch, Rejected};
use serde::{Deserialize, Serialize};
use smmu_core::Asid;
use std::hint::spin_loop;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vcmdq::{Engine, Settings};
use vcmdq_benches::ping_pong::{Trips, no_trips};
use vcmdq_benches::streams::{Numbers, tlbi};

const LOG2SIZE: u8 = 8;
/// Guests that are measured.
const OTHERS: usize = 4;
/// Gaps between two SYNCs are up to so long: the worker stays awake.
const GAP: Duration = Duration::from_micros(20);
/// Calls that are not under way together after so long never are.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// How long a call blocks, in milliseconds.
    pub blocked_for_ms: u64,
    /// By numbers of workers.
    pub cases: Vec<BlockedCase>,
}

/// A number of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockedCase {
    /// Threads that consume.
    pub workers: usize,
    /// Guests whose backend blocks: as many.
    pub blocked: usize,
    /// Other guests.
    pub others: usize,
    /// Their SYNCs while nobody blocks.
    pub without: Latencies,
    /// While all of those block.
    pub with: Latencies,
    /// Second by first, of the medians over the rounds of the 99th percentiles.
    pub ratio_p99: f64,
}

/// The calls of a round, which begin to take long when all of them are under way: on a machine that is busy
/// the first could be over before the last one begins.
#[derive(Default)]
struct Together {
    /// Calls that have begun since the start, and how many there are to be.
    entered: Mutex<(u64, u64)>,
    all: Condvar,
}

impl Together {
    fn entered(&self) -> MutexGuard<'_, (u64, u64)> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round of so many more begins.
    fn expect(&self, more: u64) {
        self.entered().1 += more;
    }

    /// Of a call that has begun.
    fn enter(&self) {
        self.entered().0 += 1;
        self.all.notify_all();
        self.wait();
    }

    /// Waits until all are under way, for a while. How many are not.
    fn wait(&self) -> u64 {
        let some_missing = |(entered, all): &mut (u64, u64)| entered < all;
        let waited = self
            .all
            .wait_timeout_while(self.entered(), PATIENCE, some_missing);
        let (entered, _) = waited.unwrap_or_else(PoisonError::into_inner);
        entered.1.saturating_sub(entered.0)
    }
}

/// A backend whose calls take long, asleep.
struct Sleeps {
    inner: Arc<Software>,
    time: Duration,
    together: Arc<Together>,
}

impl Backend for Sleeps {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: true,
            ..self.inner.capabilities()
        }
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.together.enter();
        sleep(self.time);
        self.inner.submit(batch)
    }

    dispatch::pass_on!(inner:
        barrier, overdue, take_unanswered, forget, set_ats_check, attach,
        configuration_changed, memory_changed, traffic_changed, traffic_settled, fail_closed);
}

struct Site {
    workers: usize,
    others: Vec<Queue>,
    blocking: Vec<Queue>,
    together: Arc<Together>,
    without: Gathered,
    with: Gathered,
    _kept: (Vec<Vm>, Engine),
}

impl Site {
    fn new(workers: usize, pair: &Pair, time: Duration) -> Result<Self, String> {
        let settings = Settings {
            workers,
            ..Settings::default()
        };
        let cpus = OnCpus(vec![pair.second()]);
        let engine = Engine::start(settings, Arc::new(cpus)).map_err(|error| error.to_string())?;
        let mut kept = Vec::new();
        let mut queue = |backend: Arc<dyn Backend>| {
            let mut vm = Vm::new(&engine, backend, (1, LOG2SIZE), Door::Call)?;
            let queue = vm.queues.pop().ok_or("a guest without a queue")?;
            kept.push(vm);
            Ok::<_, String>(queue)
        };
        let others = (0..OTHERS).map(|_| queue(small_software()));
        let others = others.collect::<Result<_, _>>()?;
        let together = Arc::<Together>::default();
        let sleeps = || Sleeps {
            inner: small_software(),
            time,
            together: together.clone(),
        };
        let blocking = (0..workers).map(|_| queue(Arc::new(sleeps())));
        let blocking = blocking.collect::<Result<_, _>>()?;
        Ok(Self {
            workers,
            others,
            blocking,
            together,
            without: Gathered::new("nobody blocks"),
            with: Gathered::new("others block"),
            _kept: (kept, engine),
        })
    }

    /// SYNCs of the others in turn, `most` of them, at least one, and none after `is_over`.
    fn trips(others: &mut [Queue], most: u64, is_over: impl Fn() -> bool) -> Trips {
        let (mut trips, mut numbers) = (no_trips(), Numbers::new(most));
        for number in 0..most {
            let queue = &mut others[number as usize % OTHERS];
            let gap = Duration::from_nanos(numbers.word() % GAP.as_nanos() as u64);
            let begun = Instant::now();
            while begun.elapsed() < gap || !queue.has_room(2) {
                spin_loop();
            }
            let before = Instant::now();
            let pending = queue.publish_with_sync(tlbi(Asid(1), number));
            while !queue.has_synced(pending) {
                spin_loop();
            }
            trips.saturating_record(before.elapsed().as_nanos() as u64);
            if is_over() {
                break;
            }
        }
        trips
    }

    fn round(&mut self, most: u64) -> Result<(), String> {
        let Self {
            others, blocking, ..
        } = self;
        // The worker is awake behind this.
        Self::trips(others, 10, || false);
        self.without.add(Self::trips(others, most, || false));
        self.together.expect(blocking.len() as u64);
        let mut pending = Vec::new();
        for queue in blocking.iter_mut() {
            if !queue.has_room(2) {
                return Err("a guest's ring is full that blocks once a round".to_owned());
            }
            pending.push(queue.publish_with_sync(tlbi(Asid(1), 0)));
        }
        let missing = self.together.wait();
        if missing != 0 {
            return Err(format!(
                "of {} blocking calls {missing} were not under way together with the others",
                blocking.len(),
            ));
        }
        let mut each = blocking.iter().zip(&pending);
        let is_over = || {
            each.clone()
                .any(|(queue, pending)| queue.has_synced(*pending))
        };
        self.with.add(Self::trips(others, most, is_over));
        while !each.all(|(queue, pending)| queue.has_synced(*pending)) {
            each = blocking.iter().zip(&pending);
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn sum_up(&self) -> BlockedCase {
        let (without, with) = (self.without.sum_up(), self.with.sum_up());
        BlockedCase {
            workers: self.workers,
            blocked: self.blocking.len(),
            others: OTHERS,
            ratio_p99: with.median_p99 as f64 / without.median_p99.max(1) as f64,
            without,
            with,
        }
    }
}

pub(crate) fn measure(
    options: &Options,
    pair: &Pair,
    progress: &dyn Progress,
) -> Result<Blocked, String> {
    let rounds = options.rounds(3, 1);
    let most = options.rounds(20_000, 200) as u64;
    let time = Duration::from_millis(options.rounds(1000, 100) as u64);
    let workers = [1, 2];
    progress.part(Part::Blocked, (rounds * workers.len()) as u64);
    let mut cases = Vec::new();
    for workers in workers {
        let mut site = Site::new(workers, pair, time)?;
        for _ in 0..rounds {
            site.round(most)?;
            progress.step();
        }
        cases.push(site.sum_up());
    }
    let (first, second) = pair.numbers();
    Ok(Blocked {
        placement: vec![
            Placed::on("one thread that plays all guests", first),
            Placed::on("every worker, and who takes its place", second),
        ],
        blocked_for_ms: time.as_millis() as u64,
        cases,
    })
}
