//! Rings whose backend may block, or has long calls, share calls as workers serve them.

mod common;
#[expect(dead_code, reason = "other test files use more of it")]
mod shared_world;

use common::*;
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Costs, Rejected, WaiterId, Wake};
use shared_world::base;
use smmu_core::guest_memory::store_u64;
use smmu_core::{Gpa, StreamId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{
    DoorbellMode, Engine, FrameSettings, Placement, Ring, RingSettings, Seams, Settings, StdThreads,
};

/// Keeps its first caller until it is let go.
#[derive(Default)]
struct Slow {
    may_block: bool,
    call: u32,
    requests: Mutex<Vec<usize>>,
    entered: AtomicBool,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Backend for Slow {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: self.may_block,
            ..backend().capabilities()
        }
    }

    fn costs(&self) -> Costs {
        Costs {
            call: self.call,
            ..Costs::default()
        }
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.requests.lock().unwrap().push(batch.len());
        self.entered.store(true, Ordering::Release);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// One call is under way; what is published meanwhile leaves in the next one, whosever it is.
fn come_while_a_call_is_under_way(slow: Slow) {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), base(9).0)]));
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
    let slow = Arc::new(slow);
    frame.add_instance(slow.clone(), Placement::default());
    let add = |index: usize| -> Arc<Ring> {
        let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
        let (base, log2size) = (base(index), 4);
        for (slot, raw) in (0..).zip([tlbi(10 * index as u64), sync()]) {
            let at = Gpa(base.0 + 16 * slot);
            store_u64(&*memory, at, raw.dw0, Ordering::Relaxed).unwrap();
            store_u64(&*memory, Gpa(at.0 + 8), raw.dw1, Ordering::Relaxed).unwrap();
        }
        ring.configure(RingSettings { base, log2size }).unwrap();
        ring.enable();
        ring
    };
    let rings: Vec<_> = (0..8).map(add).collect();
    wait("enable", || rings.iter().all(|ring| ring.is_enabled()));
    rings[0].doorbell(2);
    wait("the first call", || slow.entered.load(Ordering::Acquire));
    rings[1..].iter().for_each(|ring| ring.doorbell(2));
    assert!(rings.iter().all(|ring| ring.cons() == 0), "none is done");
    *slow.open.lock().unwrap() = true;
    slow.opened.notify_all();
    wait("all", || rings.iter().all(|ring| ring.cons() == 2));
    assert_eq!(*slow.requests.lock().unwrap(), [1, 7]);
    let shared = |ring: &Arc<Ring>| ring.metrics().shared_windows;
    assert_eq!(rings.iter().map(shared).sum::<u64>(), 7);
}

#[test]
fn law4_rings_that_come_while_a_call_is_under_way_share_the_next_one() {
    come_while_a_call_is_under_way(Slow {
        may_block: true,
        ..Slow::default()
    });
}

/// Nothing is said of blocking; a call that costs so much is worth sharing all the same.
#[test]
fn law4_long_calls_are_shared_like_those_that_can_block() {
    come_while_a_call_is_under_way(Slow {
        call: Costs::LONG_CALL,
        ..Slow::default()
    });
}
