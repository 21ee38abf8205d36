//! A call that blocks against a doorbell of another guest (law 11): as long as a call does not return,
//! somebody else serves what is ready.
#![cfg(loom)]

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use loom::sync::{Arc as LoomArc, Condvar, Mutex};
use loom::thread;
use loom_tests::{engine_without_spins, model, raw_tlbi, twin};
use smmu_core::guest_memory::store_u64;
use smmu_core::{Gpa, StreamId};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use vcmdq::stepping::OneRound;
use vcmdq::testing::HeapMemory;
use vcmdq::{DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::Site;

const BASE: Gpa = Gpa(0x1000);

/// Whether the other guest has been served.
#[derive(Default)]
struct Served {
    yes: Mutex<bool>,
    told: Condvar,
}

impl Served {
    fn tell(&self) {
        *self.yes.lock().expect("served") = true;
        self.told.notify_all();
    }

    fn wait(&self) {
        let mut yes = self.yes.lock().expect("served");
        while !*yes {
            yes = self.told.wait(yes).expect("served");
        }
    }
}

/// One guest's calls return when the other's has been made.
struct Model {
    blocks: bool,
    served: LoomArc<Served>,
}

impl Backend for Model {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: self.blocks,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        if self.blocks {
            self.served.wait();
        } else {
            self.served.tell();
        }
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

fn guest(engine: &Engine, blocks: bool, served: &LoomArc<Served>) -> (Frame, Arc<Ring>) {
    let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 32)]));
    let raw = raw_tlbi(1);
    store_u64(&*memory, BASE, raw.dw0, Ordering::Relaxed).expect("backed");
    store_u64(&*memory, Gpa(BASE.0 + 8), raw.dw1, Ordering::Relaxed).expect("backed");
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    let served = served.clone();
    frame.add_instance(Arc::new(Model { blocks, served }), Placement::default());
    let ring = frame.add_ring(DoorbellMode::Trap).expect("room");
    let (base, log2size) = (BASE, 1);
    ring.configure(RingSettings { base, log2size })
        .expect("disabled");
    ring.enable();
    (frame, ring)
}

/// A worker is called into a backend that blocks until another guest has been served, whose doorbell
/// rings meanwhile. One spare, and nobody else.
fn a_blocked_call_against_a_doorbell() {
    let engine = engine_without_spins(2);
    let served = LoomArc::new(Served::default());
    let (_slow_frame, slow) = guest(&engine, true, &served);
    let (_quick_frame, quick) = guest(&engine, false, &served);
    while engine.take_ready().is_some() {}
    slow.doorbell(1);
    let worker = engine.model_worker(Some(0));
    let worker = thread::spawn(move || worker.work_until_stopped());
    let spare = engine.model_worker(None);
    let spare = thread::spawn(move || spare.work_until_stopped());
    quick.doorbell(1);
    // If nobody serves it, this waits for ever: loom calls it a deadlock.
    served.wait();
    engine.stop();
    worker.join().expect("worker");
    spare.join().expect("spare");
    assert_eq!(quick.cons(), 1);
}

/// The same without everything that is not of the protocol: the worker has taken nothing, and comes back
/// from its call when the ring has been served.
fn a_round_that_is_given_up_against_a_doorbell() {
    // Left alone in a deadlock, in which loom knows of no thread that could drop it.
    let both = ManuallyDrop::new(LoomArc::new((OneRound::default(), Served::default())));
    let worker = {
        let both = both.clone();
        thread::spawn(move || {
            both.0.give_up();
            both.1.wait();
            drop(ManuallyDrop::into_inner(both));
        })
    };
    let spare = {
        let both = both.clone();
        thread::spawn(move || {
            both.0.serve_as_spare();
            both.1.tell();
            drop(ManuallyDrop::into_inner(both));
        })
    };
    both.0.ring();
    worker.join().expect("worker");
    spare.join().expect("spare");
    drop(ManuallyDrop::into_inner(both));
}

#[test]
fn law11_a_doorbell_finds_somebody_beside_a_call_that_blocks() {
    model(
        "round given up",
        3,
        a_round_that_is_given_up_against_a_doorbell,
    );
}

#[test]
fn round_that_is_given_up_without_a_fence_is_found_out() {
    let body = a_round_that_is_given_up_against_a_doorbell;
    twin("round given up", Site::VacantFence, 3, body);
}

#[test]
fn law11_a_guest_is_served_beside_anothers_call_that_blocks() {
    model("blocked call", 1, a_blocked_call_against_a_doorbell);
}
