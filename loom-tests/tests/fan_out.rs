//! One window, two instances, and a thread that makes the second one's calls (laws 3 and 4).
#![cfg(loom)]

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use loom::thread;
use loom_tests::{engine_without_spins, model, raw_sync, raw_tlbi, twin};
use smmu_core::guest_memory::store_u64;
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use vcmdq::stepping::{ModelCaller, Stepper};
use vcmdq::testing::HeapMemory;
use vcmdq::{DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

const BASE: Gpa = Gpa(0x1000);
/// Instances.
const MEMBERS: usize = 2;

/// Counts its calls. Relaxed on purpose: what makes them visible must be the engine's own publication.
struct Counting(LoomArc<AtomicU64>);

impl Backend for Counting {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: true,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        let calls = self.0.load(Ordering::Relaxed);
        self.0.store(calls + 1, Ordering::Relaxed);
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

struct Group {
    calls: Vec<LoomArc<AtomicU64>>,
    ring: Arc<Ring>,
    caller: Arc<ModelCaller>,
    _engine: Engine,
    _frame: Frame,
}

impl Group {
    /// A ring of four entries: a TLBI and its SYNC, twice, not published yet.
    fn new() -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 64)]));
        let commands = [raw_tlbi(1), raw_sync(), raw_tlbi(2), raw_sync()];
        let words = commands.into_iter().flat_map(|raw| [raw.dw0, raw.dw1]);
        for (at, word) in (BASE.0..).step_by(8).zip(words) {
            store_u64(&*memory, Gpa(at), word, Ordering::Relaxed).expect("backed");
        }
        let engine = engine_without_spins(1);
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
        let calls: Vec<_> = (0..MEMBERS).map(|_| LoomArc::default()).collect();
        for calls in &calls {
            let backend = Counting(LoomArc::clone(calls));
            frame.add_instance(Arc::new(backend), Placement::default());
        }
        let ring = frame.add_ring(DoorbellMode::Trap).expect("room");
        let (base, log2size) = (BASE, 2);
        ring.configure(RingSettings { base, log2size })
            .expect("disabled");
        ring.enable();
        let mut callers = frame.model_callers();
        assert_eq!(callers.len(), MEMBERS - 1);
        Self {
            calls,
            ring,
            caller: Arc::new(callers.remove(0)),
            _engine: engine,
            _frame: frame,
        }
    }

    /// What the guest may rely on: each SYNC that CONS has passed was behind a call of every instance.
    fn look(&self) {
        let syncs = u64::from(self.ring.cons() / 2);
        for calls in &self.calls {
            let calls = calls.load(Ordering::Relaxed);
            assert!(calls >= syncs, "a SYNC came before an instance's call");
        }
    }
}

/// A guest publishes twice and looks; a worker serves; the thread of the second instance makes its calls as
/// far as it comes to, and is told to leave at any time. All is done in the end, once.
fn two_windows_and_a_thread() {
    let group = Group::new();
    let caller = group.caller.clone();
    let caller = thread::spawn(move || caller.work_until_left());
    let mut stepper = Stepper::default();
    for window in 1..=2 {
        group.ring.doorbell(2 * window);
        stepper.serve(&group.ring);
        group.look();
    }
    assert_eq!(group.ring.cons(), 4);
    group.caller.leave();
    caller.join().expect("caller");
    for calls in &group.calls {
        assert_eq!(calls.load(Ordering::Relaxed), 2, "each call is made once");
    }
}

/// The same with a thread that may leave before, in the middle, or behind.
fn a_window_and_a_thread_that_leaves() {
    let group = Group::new();
    let thread = group.caller.clone();
    let thread = thread::spawn(move || thread.work_until_left());
    let stop = group.caller.clone();
    let stop = thread::spawn(move || stop.leave());
    group.ring.doorbell(2);
    Stepper::default().serve(&group.ring);
    assert_eq!(group.ring.cons(), 2);
    group.look();
    stop.join().expect("stop");
    thread.join().expect("thread");
}

#[test]
fn law3_fan_out_completes_behind_every_instance() {
    model("fan-out", 2, two_windows_and_a_thread);
}

#[test]
fn law10_fan_out_whose_thread_leaves_loses_nothing() {
    model("fan-out and stop", 3, a_window_and_a_thread_that_leaves);
}

#[test]
fn fan_out_that_does_not_wait_is_found_out() {
    twin("fan-out", Site::FanOutJoin, 2, two_windows_and_a_thread);
}

#[test]
fn fan_out_whose_thread_tells_nobody_is_found_out() {
    twin("fan-out", Site::FanOutDone, 2, two_windows_and_a_thread);
}
