//! A producer that gives up waiting for its SYNC's word and whose slot is used again.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Rig, model, raw_sync_to, raw_tlbi, twin};
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

/// The SYNC's word lies in its own slot. The producer does not look at it: as soon as CONS has
/// passed the slot, its next command goes there, and must be what is consumed.
fn a_slot_is_used_again_at_once() {
    let (rig, removed) = Rig::new(0);
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || {
            let mut stepper = Stepper::default();
            while rig.ring.metrics().commands < 2 {
                if rig.engine.take_ready().is_some() {
                    stepper.serve(&rig.ring);
                } else {
                    thread::yield_now();
                }
            }
        })
    };
    rig.write(0, raw_sync_to(0));
    rig.ring.doorbell(1);
    while rig.ring.cons() != 1 {
        thread::yield_now();
    }
    let next = raw_tlbi(3);
    rig.write(0, next);
    rig.ring.doorbell(0);
    worker.join().expect("worker");
    assert_eq!(
        rig.word0(0),
        next.dw0,
        "a late word destroyed a newer command"
    );
    assert_eq!(removed.get(), 0b1000);
}

#[test]
fn law4_own_word_comes_before_cons() {
    model("completion", 3, a_slot_is_used_again_at_once);
}

#[test]
fn completion_with_the_word_after_cons_is_found_out() {
    twin(
        "completion",
        Site::OwnWordFirst,
        3,
        a_slot_is_used_again_at_once,
    );
}
