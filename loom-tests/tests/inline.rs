//! A doorbell that consumes by itself against a worker that wakes, works and sleeps (law 5).
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use loom_tests::{Rig, model, raw_sync, twin};
use vcmdq::Settings;
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

/// A guest rings twice, the second time with `second - 1` commands more, while a worker consumes
/// and sleeps. Each doorbell consumes one command at most. Whoever did what: in the end everything
/// is consumed, and nobody had to be waited for.
fn doorbells_against_a_worker(log2size: u8, second: u32) {
    let settings = Settings {
        inline: Some(1),
        ..Settings::default()
    };
    let (rig, _) = Rig::with(log2size, settings);
    let done = Arc::new(AtomicBool::new(false));
    for slot in 0..u64::from(second) {
        rig.write(slot, raw_sync());
    }
    let worker = {
        let (rig, done) = (rig.clone(), done.clone());
        thread::spawn(move || {
            let mut stepper = Stepper::default();
            loop {
                let end = done.load(Ordering::Acquire);
                while rig.engine.take_ready().is_some() {
                    stepper.serve(&rig.ring);
                }
                if end {
                    break;
                }
                let _slept = rig.engine.sleep_as(0);
            }
        })
    };
    rig.ring.doorbell(1);
    rig.ring.doorbell(second);
    done.store(true, Ordering::Release);
    rig.engine.stop();
    worker.join().expect("worker");
    assert_eq!(rig.ring.cons(), second, "a PROD was lost");
}

#[test]
fn law5_inline_loses_no_prod() {
    model("inline", 2, || doorbells_against_a_worker(1, 2));
}

#[test]
fn law5_inline_leaves_the_rest_to_a_worker() {
    model("inline, more than its share", 2, || {
        doorbells_against_a_worker(2, 4);
    });
}

#[test]
fn inline_that_does_not_send_the_owner_round_again_is_found_out() {
    twin("inline", Site::ClaimAgain, 2, || {
        doorbells_against_a_worker(1, 2);
    });
}

#[test]
fn inline_that_keeps_its_rest_to_itself_is_found_out() {
    twin("inline, more than its share", Site::InlineRest, 2, || {
        doorbells_against_a_worker(2, 4);
    });
}
