//! Doorbells that consume on the vCPU's own thread: when they do, how far, and what they leave.

mod common;

use common::*;
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use smmu_core::StreamId;
use smmu_core::command::Command;
use smmu_core::encode::encode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{
    DoorbellMode, Engine, FrameSettings, Line, Placement, RingSettings, Seams, Settings,
    StartError, StdThreads,
};

fn rig(inline: Option<u32>) -> Rig {
    let settings = Settings {
        inline,
        ..Settings::default()
    };
    Rig::set(settings, all_features(), 6, DoorbellMode::Trap, false)
}

/// Publishes what has been put while a worker sleeps. What the worker was woken for is left to
/// [`Rig::serve`].
fn ring_a_sleeper(rig: &Rig) {
    while rig.engine.take_ready().is_some() {}
    // Adding the ring has woken the worker: uses that up.
    rig.engine.stop();
    assert!(rig.engine.sleep_as(0));
    std::thread::scope(|scope| {
        scope.spawn(|| rig.engine.sleep_as(0));
        let start = Instant::now();
        while !rig.engine.has_sleeper() {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody sleeps");
            std::thread::yield_now();
        }
        rig.ring.doorbell(rig.prod);
        // Wakes whoever still sleeps.
        rig.engine.stop();
    });
}

fn wake_ups(rig: &Rig) -> u64 {
    rig.engine.metrics().wake_ups
}

#[test]
fn a_doorbell_consumes_nothing_unless_it_was_asked_to() {
    let mut rig = rig(None);
    rig.put(&[tlbi(1), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (0, 1));
    assert!(rig.serve());
    assert_eq!((rig.cons(), rig.ring.metrics().inline_doorbells), (2, 0));
}

#[test]
fn an_inline_doorbell_completes_a_sync_and_wakes_nobody() {
    let mut rig = rig(Some(16));
    rig.cache(1);
    rig.put(&[tlbi(1), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (2, 0));
    assert!(!rig.cached(1));
    let metrics = rig.ring.metrics();
    assert_eq!((metrics.inline_doorbells, metrics.inline_commands), (1, 2));
    assert!(!rig.serve(), "nothing is left");
}

#[test]
fn a_doorbell_that_finds_the_worker_awake_leaves_it_all_to_it() {
    let mut rig = rig(Some(16));
    rig.put(&[sync()]);
    rig.ring.doorbell(rig.prod);
    assert_eq!((rig.cons(), rig.ring.metrics().inline_doorbells), (0, 0));
    assert!(rig.serve());
    assert_eq!(rig.cons(), 1);
}

#[test]
fn law5_what_an_inline_doorbell_leaves_is_a_workers() {
    let mut rig = rig(Some(2));
    rig.put(&[sync(); 5]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (2, 1));
    assert!(rig.serve());
    assert_eq!(rig.cons(), 5);
    assert_eq!(rig.ring.metrics().inline_commands, 2);
}

#[test]
fn a_command_with_an_effect_is_left_to_a_worker_in_ring_order() {
    let mut rig = rig(Some(16));
    rig.cache(1);
    rig.cache(2);
    let stall = encode(&Command::StallTerm { stream: STREAM });
    rig.put(&[tlbi(1), sync(), stall, tlbi(2), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (2, 1));
    assert_eq!(rig.outside.take(), [], "the VMM has not been called");
    assert!(!rig.cached(1) && rig.cached(2));
    assert!(rig.serve());
    assert_eq!(rig.cons(), 5);
    assert_eq!(rig.outside.take(), [Told::TerminateStalls(STREAM)]);
}

#[test]
fn law4_an_inline_doorbell_stops_at_an_illegal_command() {
    let mut rig = rig(Some(16));
    rig.put(&[sync(), illegal(), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), rig.error(), rig.stopped()), (1, 1, true));
    assert_eq!(rig.outside.take(), [Told::Pulse(Line::Gerror)]);
    assert_eq!(
        wake_ups(&rig),
        0,
        "there is nothing to do until the guest acknowledges"
    );
    rig.write(1, sync());
    rig.acknowledge();
    assert_eq!(rig.cons(), 3);
}

/// Takes everything; says what it is told to say.
struct Set {
    may_block: bool,
    /// So many calls panic.
    panics: AtomicU32,
    barrier: Mutex<Barrier>,
    wake: Mutex<Option<Arc<dyn Wake>>>,
}

impl Backend for Set {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            may_block: self.may_block,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        let less = |left: u32| left.checked_sub(1);
        let update = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        assert!(update.is_err(), "the script says so");
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        *self.barrier.lock().unwrap()
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        *self.wake.lock().unwrap() = Some(wake);
    }

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

fn beside(rig: &Rig, may_block: bool, barrier: Barrier) -> Arc<Set> {
    let backend = Arc::new(Set {
        may_block,
        panics: AtomicU32::new(0),
        barrier: Mutex::new(barrier),
        wake: Mutex::default(),
    });
    rig.frame
        .add_instance(backend.clone(), Placement::default());
    backend
}

#[test]
fn law11_a_backend_that_may_block_is_not_called_by_a_doorbell() {
    let mut rig = rig(Some(16));
    beside(&rig, true, Barrier::Done);
    rig.put(&[tlbi(1), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (0, 1));
    assert!(rig.serve());
    assert_eq!((rig.cons(), rig.ring.metrics().inline_doorbells), (2, 0));
}

#[test]
fn law3_an_inline_doorbell_does_not_wait_for_an_access() {
    let mut rig = rig(Some(16));
    let backend = beside(&rig, false, Barrier::Pending);
    rig.put(&[sync(), tlbi(1), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), rig.ring.is_waiting()), (0, true));
    assert_eq!(wake_ups(&rig), 1, "a worker keeps an eye on what waits");
    assert!(rig.serve());
    assert_eq!(rig.cons(), 0);
    *backend.barrier.lock().unwrap() = Barrier::Done;
    let wake = backend.wake.lock().unwrap().clone().unwrap();
    wake.wake(WaiterId(0));
    assert!(rig.serve());
    assert_eq!(rig.cons(), 3);
}

/// It is the VMM's thread: what does not unwind in a worker's does not there.
#[test]
fn law6_a_backend_that_panics_in_an_inline_doorbell_costs_neither_vcpu_nor_guest_anything() {
    let mut rig = rig(Some(16));
    let backend = beside(&rig, false, Barrier::Done);
    rig.cache(1);
    backend.panics.store(1, Ordering::SeqCst);
    rig.put(&[tlbi(1), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), wake_ups(&rig)), (0, 1), "left to a worker");
    assert_eq!(rig.engine.metrics().panics, 1);
    assert!(rig.serve());
    assert_eq!((rig.cons(), rig.cached(1)), (2, false));
    rig.put(&[tlbi(2), sync()]);
    ring_a_sleeper(&rig);
    assert_eq!(
        (rig.cons(), wake_ups(&rig)),
        (4, 1),
        "the desk is as good as new"
    );
}

#[test]
fn law8_an_inline_doorbell_follows_no_prod_beyond_the_ring() {
    let mut rig = rig(Some(16));
    rig.prod = 1 + 64;
    ring_a_sleeper(&rig);
    assert_eq!((rig.cons(), rig.stopped()), (0, false));
    assert!(rig.ring.metrics().bad_prods > 0);
}

#[test]
fn inline_limits_that_cannot_work_are_refused() {
    for inline in [0, 257] {
        let settings = Settings {
            inline: Some(inline),
            ..Settings::default()
        };
        let refused = Engine::start(settings, Arc::new(StdThreads)).unwrap_err();
        assert!(matches!(refused, StartError::Inline(n) if n == inline));
        assert!(refused.to_string().contains("choose 1 to 256"));
    }
}

/// Two vCPUs with a ring each and a worker that sleeps whenever it can: who consumes changes all the
/// time, and nothing is lost.
#[test]
fn law5_inline_doorbells_and_a_worker_that_sleeps_lose_nothing() {
    let memory = Arc::new(HeapMemory::with_regions(&[(smmu_core::Gpa(0), 0x2_0000)]));
    for slot in 0..32 {
        let at = smmu_core::Gpa(BASE.0 + slot * 16);
        smmu_core::guest_memory::store_u64(&*memory, at, sync().dw0, Ordering::Relaxed).unwrap();
    }
    let settings = Settings {
        spin: Duration::ZERO,
        inline: Some(2),
        ..Settings::default()
    };
    let engine = Engine::start(settings, Arc::new(StdThreads)).unwrap();
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    frame.add_instance(backend(), Placement::default());
    let rings = [0, 1].map(|n| {
        let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
        let base = smmu_core::Gpa(BASE.0 + n * 256);
        ring.configure(RingSettings { base, log2size: 4 }).unwrap();
        ring.enable();
        ring
    });
    std::thread::scope(|scope| {
        for ring in &rings {
            scope.spawn(move || {
                let mut prod = 0u32;
                // Until it has consumed often, however the threads are scheduled.
                while prod < 20_000 || ring.metrics().inline_commands < 100 {
                    prod += 1 + prod % 4;
                    ring.doorbell(prod % 32);
                    let start = Instant::now();
                    while ring.cons() != prod % 32 {
                        assert!(start.elapsed() < Duration::from_secs(20), "a PROD was lost");
                        std::thread::yield_now();
                    }
                    if prod % 8 == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
    });
    engine.stop();
}
