//! Writes of PROD that the hypervisor queues, beside those that trap, and a worker that sleeps
//! (law 5).
#![cfg(loom)]

use loom::sync::Mutex;
use loom::thread;
use loom_tests::{Rig, model, raw_sync, twin, work_until};
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use vcmdq::stepping::Stepper;
use vcmdq::{CoalescedZone, DoorbellMode, Ring};
use vcmdq_sync::weak::Site;

#[derive(Default)]
struct Queue {
    open: bool,
    /// At most as many as a model writes.
    written: Vec<u32>,
}

/// A hypervisor with a queue of writes, and the VMM's lock for who empties it.
#[derive(Default)]
struct Zone {
    queue: Mutex<Queue>,
    vmm: Mutex<()>,
    /// Not an owner: the ring owns the zone.
    ring: OnceLock<Weak<Ring>>,
}

impl Zone {
    fn rig(self: &Arc<Self>) -> loom::sync::Arc<Rig> {
        let (rig, _) = Rig::behind(1, DoorbellMode::Coalesced(self.clone()));
        assert!(self.ring.set(Arc::downgrade(&rig.ring)).is_ok());
        rig
    }

    /// The guest writes PROD: into the queue, or it traps.
    fn write_prod(&self, rig: &Rig, prod: u32) {
        let mut queue = self.queue.lock().expect("queue");
        if queue.open {
            return queue.written.push(prod);
        }
        drop(queue);
        rig.ring.doorbell(prod);
    }

    fn set(&self, open: bool) -> io::Result<()> {
        self.queue.lock().expect("queue").open = open;
        Ok(())
    }
}

impl CoalescedZone for Zone {
    fn open(&self) -> io::Result<()> {
        self.set(true)
    }

    fn close(&self) -> io::Result<()> {
        self.set(false)
    }

    fn drain(&self) {
        let _vmm = self.vmm.lock().expect("vmm");
        let written = std::mem::take(&mut self.queue.lock().expect("queue").written);
        let ring = self.ring.get().and_then(Weak::upgrade).expect("added");
        for prod in written {
            ring.coalesced(prod);
        }
    }
}

/// The guest writes PROD twice while the zone is closed; the worker sleeps when it may.
fn two_writes_against_closing() {
    let zone = Arc::new(Zone::default());
    let rig = zone.rig();
    assert!(rig.ring.flip_way(true));
    while rig.engine.take_ready().is_some() {}
    (0..2).for_each(|slot| rig.write(slot, raw_sync()));
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || work_until(rig, 2))
    };
    let control = {
        let rig = rig.clone();
        thread::spawn(move || assert!(rig.ring.flip_way(false)))
    };
    (1..=2).for_each(|prod| zone.write_prod(&rig, prod));
    drop(rig);
    control.join().expect("control");
    worker.join().expect("worker");
}

/// An entry that is handed over late, beside a write that has trapped.
fn a_late_entry_beside_a_trap() {
    let zone = Arc::new(Zone::default());
    let rig = zone.rig();
    (0..2).for_each(|slot| rig.write(slot, raw_sync()));
    let late = {
        let rig = rig.clone();
        thread::spawn(move || rig.ring.coalesced(1))
    };
    rig.ring.doorbell(2);
    late.join().expect("late");
    Stepper::default().serve(&rig.ring);
    assert_eq!(rig.ring.cons(), 2, "a PROD was undone");
}

#[test]
fn law5_coalesced_writes_survive_the_end_of_their_zone() {
    model("coalesced", 2, two_writes_against_closing);
}

#[test]
fn law5_coalesced_write_that_comes_late_undoes_nothing() {
    model("coalesced, late", 3, a_late_entry_beside_a_trap);
}

#[test]
fn coalesced_zone_that_is_not_drained_at_its_end_is_found_out() {
    twin("coalesced", Site::ZoneDrain, 2, two_writes_against_closing);
}

#[test]
fn coalesced_write_that_undoes_a_newer_one_is_found_out() {
    twin(
        "coalesced, late",
        Site::ProdForward,
        3,
        a_late_entry_beside_a_trap,
    );
}
