//! Publish against sleep (law 5): a PROD that the guest has published is consumed.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Rig, model, raw_sync, twin};
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

/// A guest rings twice; a worker consumes and sleeps whenever it finds nothing. A lost doorbell
/// is a worker that sleeps for ever: loom calls it a deadlock.
fn two_doorbells() {
    let (rig, _) = Rig::new(1);
    let guest = {
        let rig = rig.clone();
        thread::spawn(move || {
            for prod in 1..=2 {
                rig.write(u64::from(prod) - 1, raw_sync());
                rig.ring.doorbell(prod);
            }
        })
    };
    let mut stepper = Stepper::default();
    while rig.ring.cons() != 2 {
        if rig.engine.take_ready().is_some() {
            stepper.serve(&rig.ring);
        } else {
            let _slept = rig.engine.sleep_as(0);
        }
    }
    guest.join().expect("guest");
}

#[test]
fn law5_doorbell_wakes_the_worker() {
    model("doorbell", 3, two_doorbells);
}

#[test]
fn doorbell_without_its_fence_is_found_out() {
    twin("doorbell", Site::BellFence, 2, two_doorbells);
}
