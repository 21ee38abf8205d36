//! A page that the VMM maps and takes away, against a guest that stores into it and a worker that
//! sleeps (law 5).
#![cfg(loom)]

use loom::sync::Mutex;
use loom::thread;
use loom_tests::{Rig, model, raw_sync, twin, work_until};
use std::io;
use std::sync::Arc;
use vcmdq::stepping::Stepper;
use vcmdq::{DoorbellMode, HeapPage, Passage, RingPage};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::Site;

/// A VMM, and the guest that it runs.
struct Vmm {
    page: Arc<HeapPage>,
    /// A store and a change of the mapping exclude each other, as stage 2 has it.
    mapped: Mutex<bool>,
}

impl Vmm {
    fn new(mapped: bool) -> Arc<Self> {
        Arc::new(Self {
            page: Arc::default(),
            mapped: Mutex::new(mapped),
        })
    }

    fn mode(self: &Arc<Self>) -> DoorbellMode {
        DoorbellMode::Adaptive {
            page: self.page.clone(),
            passage: self.clone(),
        }
    }

    fn store(&self, prod: u32) {
        self.page.words()[1].store(prod.to_le(), Ordering::Release);
    }

    /// The guest writes PROD: into the page, or it traps.
    fn write_prod(&self, rig: &Rig, prod: u32) {
        let mapped = self.mapped.lock().expect("mapped");
        if *mapped {
            return self.store(prod);
        }
        drop(mapped);
        rig.ring.doorbell(prod);
    }
}

impl Passage for Vmm {
    fn open(&self) -> io::Result<()> {
        *self.mapped.lock().expect("mapped") = true;
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        *self.mapped.lock().expect("mapped") = false;
        Ok(())
    }
}

/// The guest writes PROD while the page is opened or closed.
fn a_write_against_a_flip(open: bool) {
    let vmm = Vmm::new(false);
    let (rig, _) = Rig::behind(1, vmm.mode());
    if !open {
        assert!(rig.ring.flip_way(true));
        while rig.engine.take_ready().is_some() {}
    }
    rig.write(0, raw_sync());
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || work_until(rig, 1))
    };
    let control = {
        let rig = rig.clone();
        thread::spawn(move || assert!(rig.ring.flip_way(open)))
    };
    vmm.write_prod(&rig, 1);
    drop(rig);
    control.join().expect("control");
    worker.join().expect("worker");
}

/// A store into the page beside a trapped write that is older and comes late.
fn a_store_beside_a_late_trap() {
    let vmm = Vmm::new(true);
    let (rig, _) = Rig::behind(1, vmm.mode());
    (0..2).for_each(|slot| rig.write(slot, raw_sync()));
    let late = {
        let rig = rig.clone();
        thread::spawn(move || rig.ring.doorbell(1))
    };
    // A store. Loom would not order a plain one behind the read-modify-write that came before it.
    vmm.page.words()[1].swap(2u32.to_le(), Ordering::Release);
    late.join().expect("late");
    Stepper::default().serve(&rig.ring);
    assert_eq!(rig.ring.cons(), 2, "a PROD was undone");
}

#[test]
fn law5_adaptive_page_is_closed_beside_a_store() {
    model("adaptive, closing", 2, || a_write_against_a_flip(false));
}

#[test]
fn law5_adaptive_page_is_opened_beside_a_store() {
    model("adaptive, opening", 2, || a_write_against_a_flip(true));
}

#[test]
fn law5_adaptive_page_keeps_the_newest_prod() {
    model("adaptive, late", 3, a_store_beside_a_late_trap);
}

#[test]
fn adaptive_page_that_is_not_looked_at_when_it_is_closed_is_found_out() {
    twin("adaptive, closing", Site::GateRings, 3, || {
        a_write_against_a_flip(false);
    });
}

#[test]
fn adaptive_page_whose_worker_sleeps_when_it_is_opened_is_found_out() {
    twin("adaptive, opening", Site::GateRings, 3, || {
        a_write_against_a_flip(true);
    });
}

#[test]
fn adaptive_page_whose_prod_moves_back_is_found_out() {
    twin(
        "adaptive, late",
        Site::ProdForward,
        3,
        a_store_beside_a_late_trap,
    );
}
