//! Caches of devices against SYNC (law 3): an answer that is counted is one whose device has finished, the
//! last one wakes the ring, a time-out takes nothing back, and a translation that was asked for
//! before an invalidation is not kept behind it.
#![cfg(loom)]

use dispatch::backend::{AtcAnswer, AtcTarget, Software};
use dispatch::{Backend, Barrier, Batch, Invalidation, Scope, Stage, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use loom::thread;
use loom_tests::software::{STREAM, SmallSmmu, WAITER};
use loom_tests::{model, twin};
use smmu_core::Vmid;
use smmu_core::ats::AtsTranslation;
use smmu_core::command::AtcInv;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::dma::ats::Atc;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

/// A device that answers later.
#[derive(Default)]
struct Later(Mutex<Vec<AtcAnswer>>);

impl AtcTarget for Later {
    fn invalidate(&self, _what: &AtcInv, answer: AtcAnswer) {
        self.0.lock().expect("nobody panics").push(answer);
    }
}

/// Counts wake-ups. Only read-modify-writes, as loom wants it.
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(&self, waiter: WaiterId) {
        assert_eq!(waiter, WAITER);
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

fn invalidate(core: &Software) {
    let mut batch = Batch::new();
    batch.set_waiter(WAITER);
    let scope = Scope::DeviceTlb {
        stream: STREAM,
        pasid: None,
        global: false,
        addr: 0,
        size: 52,
    };
    let (vmid, stage) = (Vmid(0), Stage::One);
    batch.push(Invalidation { vmid, stage, scope }, 0);
    core.submit(&batch).expect("nothing refuses");
}

struct Rig {
    small: SmallSmmu,
    woken: Arc<Woken>,
    device: Arc<Later>,
    /// What the device does with what it keeps. Relaxed: the SYNC must make it visible.
    used: AtomicU64,
}

fn rig() -> LoomArc<Rig> {
    let (small, woken) = (SmallSmmu::new(), Arc::new(Woken(AtomicU64::new(0))));
    small.core.attach(woken.clone());
    let device = Arc::new(Later::default());
    small.core.attach_atc(STREAM, device.clone());
    let used = AtomicU64::new(0);
    LoomArc::new(Rig {
        small,
        woken,
        device,
        used,
    })
}

impl Rig {
    fn answer(&self) -> AtcAnswer {
        self.device
            .0
            .lock()
            .expect("nobody panics")
            .pop()
            .expect("told")
    }
}

/// The device uses what it keeps once more, then answers; the ring asks, sleeps, is woken, asks again.
fn an_answer_and_a_sync() {
    let rig = rig();
    invalidate(&rig.small.core);
    let answer = rig.answer();
    let device = {
        let rig = rig.clone();
        thread::spawn(move || {
            rig.used.store(1, Ordering::Relaxed);
            answer.complete();
        })
    };
    let pending = rig.small.core.barrier(WAITER) == Barrier::Pending;
    if !pending {
        assert_eq!(rig.used.load(Ordering::Relaxed), 1, "used behind the SYNC");
    }
    device.join().expect("device");
    let woken = rig.woken.0.fetch_add(0, Ordering::AcqRel);
    assert_eq!(woken, u64::from(pending), "a SYNC that nobody wakes");
    assert_eq!(rig.small.core.barrier(WAITER), Barrier::Done);
    assert!(!rig.small.core.take_unanswered(WAITER));
}

#[test]
fn law3_atc_answer_against_sync() {
    model("atc answer", 3, an_answer_and_a_sync);
}

#[test]
fn atc_answer_without_its_release_is_found_out() {
    twin("atc answer", Site::AtcAnswer, 3, an_answer_and_a_sync);
}

#[test]
fn atc_answer_to_a_sync_that_left_no_note_is_found_out() {
    twin("atc answer", Site::AtcWaited, 3, an_answer_and_a_sync);
}

/// The wait ends while the device answers: the SYNC fails, or the answer was in time. A later SYNC
/// hears of neither, and waits for its own answer although the old one comes.
fn an_answer_and_a_time_out() {
    let rig = rig();
    invalidate(&rig.small.core);
    let old = rig.answer();
    let device = {
        let rig = rig.clone();
        thread::spawn(move || {
            rig.used.store(1, Ordering::Relaxed);
            old.complete();
        })
    };
    let first = rig.small.core.barrier(WAITER);
    rig.small.core.overdue(WAITER, Duration::from_secs(60));
    assert_eq!(rig.small.core.barrier(WAITER), Barrier::Done);
    let failed = rig.small.core.take_unanswered(WAITER);
    if !failed {
        assert_eq!(rig.used.load(Ordering::Relaxed), 1, "used behind the SYNC");
    }
    assert!(!rig.small.core.take_unanswered(WAITER), "told once");
    invalidate(&rig.small.core);
    assert_eq!(
        rig.small.core.barrier(WAITER),
        Barrier::Pending,
        "its own answer is missing"
    );
    rig.answer().complete();
    device.join().expect("device");
    assert_eq!(rig.small.core.barrier(WAITER), Barrier::Done);
    assert!(!rig.small.core.take_unanswered(WAITER));
    let woken = rig.woken.0.fetch_add(0, Ordering::AcqRel);
    assert_eq!(woken, 1 + u64::from(first == Barrier::Pending));
}

#[test]
fn law4_atc_answer_against_its_time_out() {
    model("atc time-out", 3, an_answer_and_a_time_out);
}

#[test]
fn atc_time_out_beside_an_answer_without_its_release_is_found_out() {
    twin("atc time-out", Site::AtcAnswer, 3, an_answer_and_a_time_out);
}

/// The device asked before the guest changed its tables (`stale`), and puts the answer into its cache while it
/// is told to forget it.
fn a_fill_and_an_invalidation() {
    let small = LoomArc::new(SmallSmmu::new());
    let mut atc = Atc::new(1);
    small.core.attach_atc(STREAM, atc.target());
    let ticket = atc.ticket();
    let stale = AtsTranslation {
        to: 0x20_0000,
        read: true,
        ..AtsTranslation::NOTHING
    };
    let device = thread::spawn(move || {
        atc.fill(ticket, None, 0, &stale);
        atc
    });
    invalidate(&small.core);
    assert_eq!(small.core.barrier(WAITER), Barrier::Done);
    let atc = device.join().expect("device");
    assert!(atc.lookup(None, false, 0).is_none(), "kept behind its SYNC");
}

#[test]
fn law3_atc_fill_against_invalidation() {
    model("atc fill", 3, a_fill_and_an_invalidation);
}

#[test]
fn atc_fill_without_its_fences_is_found_out() {
    twin("atc fill", Site::AtcFill, 3, a_fill_and_an_invalidation);
}
