//! How late SYNCs are, and why: one test for each cause, on a clock that only the test moves.

use dispatch::backend::Software;
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use smmu_core::command::{Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::store_u64;
use smmu_core::{Gpa, StreamId, Vmid};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use vcmdq::metrics::Lateness;
use vcmdq::seams::{Clock, NoTarget};
use vcmdq::stepping::{SteppedWorker, Stepper};
use vcmdq::testing::HeapMemory;
use vcmdq::{
    DoorbellMode, Engine, Frame, FrameSettings, HeapPage, Interrupts, Line, Placement, Ring,
    RingPage, RingSettings, Seams, Settings,
};

const BASE: Gpa = Gpa(0x1000);
const LIMIT: Duration = Duration::from_micros(20);
/// More than the limit, in nanoseconds.
const LONG: u64 = 50_000;
/// Less than the limit, and more than nothing.
const SHORT: u64 = 15_000;
/// How long a sleep takes on this clock.
const SLEEP: u64 = 1_000_000;

#[derive(Default)]
struct TestClock {
    nanos: AtomicU64,
    reads: AtomicU64,
    engine: OnceLock<Weak<Engine>>,
}

impl TestClock {
    fn advance(&self, nanos: u64) {
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let engine = self.engine.get().and_then(Weak::upgrade);
        let sleeps = engine.map_or(0, |engine| engine.metrics().sleeps);
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed) + sleeps * SLEEP)
    }
}

/// A backend, a guard and an interrupt controller that take their time.
struct Slow {
    clock: Arc<TestClock>,
    behind: Software,
    submit: AtomicU64,
    interrupt: AtomicU64,
    pending: AtomicBool,
    wake: OnceLock<Arc<dyn Wake>>,
    waiter: AtomicU32,
}

impl Slow {
    fn access_ends(&self) {
        self.pending.store(false, Ordering::Relaxed);
        let waiter = WaiterId(self.waiter.load(Ordering::Relaxed));
        self.wake.get().unwrap().wake(waiter);
    }
}

impl Backend for Slow {
    fn capabilities(&self) -> BackendCapabilities {
        self.behind.capabilities()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.clock.advance(self.submit.load(Ordering::Relaxed));
        self.behind.submit(batch)
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        self.waiter.store(waiter.0, Ordering::Relaxed);
        if self.pending.load(Ordering::Relaxed) {
            Barrier::Pending
        } else {
            Barrier::Done
        }
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        let _first_only = self.wake.set(wake);
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.behind.fail_closed(stream);
    }
}

impl Interrupts for Slow {
    fn pulse(&self, _line: Line) {
        self.clock.advance(self.interrupt.load(Ordering::Relaxed));
    }

    fn message(&self, _device_id: u32, _msi: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

struct Rig {
    clock: Arc<TestClock>,
    engine: Arc<Engine>,
    slow: Arc<Slow>,
    memory: Arc<HeapMemory>,
    frame: Frame,
    ring: Arc<Ring>,
    prod: u32,
}

impl Rig {
    fn new(late_after: Option<Duration>, mode: DoorbellMode) -> Self {
        let clock = Arc::new(TestClock::default());
        let settings = Settings {
            late_after,
            spin: Duration::ZERO,
            // On the real clock; on the test's every sleep takes `SLEEP`.
            doze: Duration::from_micros(1),
            ..Settings::default()
        };
        let engine = Arc::new(Engine::without_workers_on(settings, clock.clone()).unwrap());
        clock.engine.set(Arc::downgrade(&engine)).unwrap();
        let slow = Arc::new(Slow {
            clock: clock.clone(),
            behind: Software::default(),
            submit: AtomicU64::new(0),
            interrupt: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            wake: OnceLock::new(),
            waiter: AtomicU32::new(0),
        });
        let memory = Arc::new(HeapMemory::new(0x4000));
        let seams = Seams {
            interrupts: slow.clone(),
            ..Seams::new(memory.clone())
        };
        let frame = engine.add_frame(FrameSettings::default(), seams);
        frame.add_instance(slow.clone(), Placement::default());
        let ring = frame.add_ring(mode).unwrap();
        let settings = RingSettings {
            base: BASE,
            log2size: 6,
        };
        ring.configure(settings).unwrap();
        ring.enable();
        // Never enabled: because of it the worker dozes, and does not sleep for ever.
        let unused = DoorbellMode::SharedPage(Arc::new(HeapPage::default()));
        frame.add_ring(unused).unwrap();
        Self {
            clock,
            engine,
            slow,
            memory,
            frame,
            ring,
            prod: 0,
        }
    }

    fn trapped() -> (Self, SteppedWorker) {
        let rig = Self::new(Some(LIMIT), DoorbellMode::Trap);
        let mut worker = rig.engine.stepped_worker(0);
        worker.turn();
        (rig, worker)
    }

    fn put(&mut self, command: &Command) {
        let raw = encode(command);
        let at = BASE.0 + u64::from(self.prod % 64) * 16;
        for (at, word) in [(at, raw.dw0), (at + 8, raw.dw1)] {
            store_u64(&*self.memory, Gpa(at), word, Ordering::Relaxed).unwrap();
        }
        self.prod = (self.prod + 1) % 128;
    }

    fn put_pair(&mut self) {
        self.put(&Command::Tlbi(Tlbi::NhAll { vmid: Vmid(0) }));
        self.put(&Command::Sync(Signal::None));
    }

    fn ring_pair(&mut self) {
        self.put_pair();
        self.ring.doorbell(self.prod);
    }

    /// Of the ring; the engine's must be the same.
    fn lateness(&self) -> Lateness {
        let lateness = self.ring.metrics().lateness();
        assert_eq!(self.engine.metrics().lateness, lateness);
        assert_eq!(self.ring.metrics().syncs, lateness.measured);
        lateness
    }
}

fn on_time(measured: u64) -> Lateness {
    Lateness {
        measured,
        ..Lateness::default()
    }
}

#[test]
fn a_sync_within_the_limit_is_measured_and_not_late() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.slow.submit.store(SHORT, Ordering::Relaxed);
    for _ in 0..100 {
        rig.ring_pair();
        worker.turn();
    }
    assert_eq!(rig.lateness(), on_time(100));
    assert_eq!(rig.lateness().share(), Some(0.0));
}

#[test]
fn late_because_the_worker_dozed() {
    let page = Arc::new(HeapPage::default());
    let mut rig = Rig::new(Some(LIMIT), DoorbellMode::SharedPage(page.clone()));
    let mut worker = rig.engine.stepped_worker(0);
    page.words()[2].store(1u32.to_le(), Ordering::Relaxed);
    worker.turn();
    // It looks, finds nothing and sleeps; the guest stores PROD meanwhile.
    worker.turn();
    assert!(rig.engine.metrics().sleeps > 0);
    rig.put_pair();
    page.words()[1].store(rig.prod.to_le(), Ordering::Relaxed);
    worker.turn();
    let late = Lateness {
        measured: 1,
        late: 1,
        asleep: 1,
        ..Lateness::default()
    };
    assert_eq!(rig.lateness(), late);
    assert_eq!(rig.lateness().share(), Some(1.0));
}

/// A page whose guest, at one look of the worker's, turns out to have had much time for its store.
struct Interrupted {
    page: HeapPage,
    clock: Arc<OnceLock<Arc<TestClock>>>,
    /// Looks until then.
    left: AtomicU32,
}

impl RingPage for Interrupted {
    fn words(&self) -> &[AtomicU32] {
        let words = self.page.words();
        if self.left.load(Ordering::Relaxed) != 0 && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.clock.get().unwrap().advance(LONG);
            words[1].store(2u32.to_le(), Ordering::Relaxed);
        }
        words
    }
}

#[test]
fn late_because_the_worker_was_preempted_between_two_looks() {
    // Not the first: the worker slept before that one.
    for looks in [2, 5, 8, 9, 17, 30] {
        let clock = Arc::new(OnceLock::new());
        let page = Arc::new(Interrupted {
            page: HeapPage::default(),
            clock: clock.clone(),
            left: AtomicU32::new(0),
        });
        let mut rig = Rig::new(Some(LIMIT), DoorbellMode::SharedPage(page.clone()));
        assert!(clock.set(rig.clock.clone()).is_ok());
        let mut worker = rig.engine.stepped_worker(0);
        page.page.words()[2].store(1u32.to_le(), Ordering::Relaxed);
        worker.turn();
        rig.put_pair();
        page.left.store(looks, Ordering::Relaxed);
        worker.turn();
        let late = Lateness {
            measured: 1,
            late: 1,
            preempted: 1,
            ..Lateness::default()
        };
        assert_eq!(rig.lateness(), late, "at look {looks}");
    }
}

#[test]
fn late_because_the_backend_took_its_time() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.slow.submit.store(LONG, Ordering::Relaxed);
    rig.ring_pair();
    worker.turn();
    rig.slow.submit.store(0, Ordering::Relaxed);
    rig.ring_pair();
    worker.turn();
    let late = Lateness {
        measured: 2,
        late: 1,
        backend: 1,
        ..Lateness::default()
    };
    assert_eq!(rig.lateness(), late);
}

#[test]
fn late_because_an_access_used_what_was_removed() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.slow.pending.store(true, Ordering::Relaxed);
    rig.ring_pair();
    worker.turn();
    assert!(rig.ring.is_waiting());
    assert_eq!(rig.lateness(), on_time(0));
    // The worker sleeps while the ring waits: that is not what the SYNC waits for.
    worker.turn();
    rig.clock.advance(LONG);
    rig.slow.access_ends();
    worker.turn();
    rig.ring_pair();
    worker.turn();
    let late = Lateness {
        measured: 2,
        late: 1,
        guard: 1,
        ..Lateness::default()
    };
    assert_eq!(rig.lateness(), late);
}

#[test]
fn late_because_of_an_interrupt_that_took_its_time() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.slow.interrupt.store(LONG, Ordering::Relaxed);
    rig.put(&Command::Sync(Signal::Irq { msi: None }));
    rig.ring.doorbell(rig.prod);
    worker.turn();
    let late = Lateness {
        measured: 1,
        late: 1,
        other: 1,
        ..Lateness::default()
    };
    assert_eq!(rig.lateness(), late);
}

#[test]
fn late_because_another_rings_backend_took_its_time() {
    let (mut rig, mut worker) = Rig::trapped();
    let other = rig.frame.add_ring(DoorbellMode::Trap).unwrap();
    let settings = RingSettings {
        base: BASE,
        log2size: 6,
    };
    other.configure(settings).unwrap();
    other.enable();
    worker.turn();
    rig.slow.submit.store(LONG, Ordering::Relaxed);
    rig.put_pair();
    // Both rings lie at the same entries.
    rig.ring.doorbell(2);
    other.doorbell(2);
    worker.turn();
    let all = rig.engine.metrics().lateness;
    assert_eq!((all.measured, all.late, all.backend), (2, 2, 2));
}

#[test]
fn a_doorbell_that_comes_later_has_a_later_time() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.slow.pending.store(true, Ordering::Relaxed);
    rig.ring_pair();
    worker.turn();
    rig.clock.advance(LONG);
    // Seen while the first one waits, so that both are there when it is over.
    rig.ring_pair();
    worker.turn();
    rig.slow.access_ends();
    worker.turn();
    let lateness = rig.lateness();
    assert_eq!(
        (lateness.measured, lateness.late, lateness.guard),
        (2, 1, 1)
    );
}

#[test]
fn a_ring_that_is_stopped_is_not_late() {
    let (mut rig, mut worker) = Rig::trapped();
    rig.put_pair();
    // An opcode that does not exist, and a SYNC behind it.
    let at = Gpa(BASE.0 + 32);
    store_u64(&*rig.memory, at, 0xFF, Ordering::Relaxed).unwrap();
    rig.prod = 3;
    rig.put(&Command::Sync(Signal::None));
    rig.ring.doorbell(rig.prod);
    worker.turn();
    assert_eq!(rig.lateness(), on_time(1));
    worker.turn();
    rig.clock.advance(LONG);
    store_u64(&*rig.memory, at, 0x46, Ordering::Relaxed).unwrap();
    rig.ring.acknowledge(rig.ring.gerror());
    worker.turn();
    assert_eq!(rig.lateness(), on_time(3));
}

#[test]
fn without_a_limit_no_clock_is_read_on_the_way_of_a_command() {
    let mut rig = Rig::new(None, DoorbellMode::Trap);
    let mut stepper = Stepper::default();
    let before = rig.clock.reads.load(Ordering::Relaxed);
    for _ in 0..100 {
        rig.ring_pair();
        stepper.serve(&rig.ring);
    }
    assert_eq!(rig.clock.reads.load(Ordering::Relaxed), before);
    assert_eq!(rig.ring.metrics().syncs, 100);
    assert_eq!(rig.engine.metrics().lateness, Lateness::default());
    assert_eq!(Lateness::default().share(), None);
}
