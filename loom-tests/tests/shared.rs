//! Rings that are served together while their guests publish and an access ends (laws 3, 4 and 5).
#![cfg(loom)]

use loom::thread;
use loom_tests::{SharedRig, model, twin};
use vcmdq::stepping::Stepper;
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::weak::Site;

/// Two guests publish a TLBI and a SYNC each; what the first one removes is in use until the second
/// one's thread has ended that access. A worker serves both together, whenever one is announced. Neither
/// SYNC is done before its TLBI is, nor the first one before the access has ended; and both are done in
/// the end.
fn two_guests_and_a_worker() {
    let rig = SharedRig::new();
    let ended = loom::sync::Arc::new(AtomicBool::new(false));
    let look = |rig: &SharedRig, ring: usize| {
        let done = rig.rings[ring].cons() == 2;
        let removed = rig.removed() >> (ring + 1) & 1 != 0;
        assert!(removed || !done, "the SYNC came before its TLBI");
        done
    };
    let first = {
        let (rig, ended) = (rig.clone(), ended.clone());
        thread::spawn(move || {
            rig.rings[0].doorbell(2);
            if look(&rig, 0) {
                let ended = ended.load(Ordering::Relaxed);
                assert!(ended, "the SYNC came before the access had ended");
            }
        })
    };
    let second = {
        let (rig, ended) = (rig.clone(), ended.clone());
        thread::spawn(move || {
            rig.rings[1].doorbell(2);
            look(&rig, 1);
            ended.store(true, Ordering::Relaxed);
            rig.end_access();
        })
    };
    let mut stepper = Stepper::default();
    if rig.engine.take_ready().is_some() {
        stepper.serve_together(rig.rings.iter().rev());
    }
    if rig.rings[0].cons() == 2 {
        let ended = ended.load(Ordering::Relaxed);
        assert!(ended, "the SYNC came before the access had ended");
    }
    first.join().expect("first");
    second.join().expect("second");
    while rig.engine.take_ready().is_some() {
        stepper.serve_together(rig.rings.iter().rev());
    }
    assert!(look(&rig, 0) && look(&rig, 1), "a ring has been forgotten");
}

#[test]
fn law4_shared_call_completes_each_ring_by_itself() {
    model("shared call", 2, two_guests_and_a_worker);
}

#[test]
fn shared_call_that_marks_for_one_ring_only_is_found_out() {
    let site = Site::SharedWaiters;
    twin("shared call", site, 2, two_guests_and_a_worker);
}

#[test]
fn shared_call_without_the_release_of_cons_is_found_out() {
    let site = Site::ConsPublish;
    twin("shared call", site, 2, two_guests_and_a_worker);
}
