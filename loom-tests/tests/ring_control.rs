//! Enabling and disabling a ring beside whoever owns it.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Rig, model, raw_tlbi, twin};
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

/// A command is published in a disabled ring that somebody is just looking at. The guest sets the
/// enable bit and takes it back. As soon as the ring says that it is disabled, CONS is final.
fn enabled_and_disabled_at_once() {
    let (rig, _removed) = Rig::new(1);
    rig.ring.disable();
    rig.write(0, raw_tlbi(3));
    rig.ring.doorbell(1);
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || {
            Stepper::default().serve(&rig.ring);
        })
    };
    rig.ring.enable();
    rig.ring.disable();
    let acknowledged = (!rig.ring.is_enabled()).then(|| rig.ring.cons());
    worker.join().expect("worker");
    if let Some(cons) = acknowledged {
        assert_eq!(rig.ring.cons(), cons, "consumed behind the acknowledgement");
    }
    Stepper::default().serve(&rig.ring);
    assert!(!rig.ring.is_enabled(), "nobody has acknowledged it");
}

#[test]
fn law4_a_ring_that_says_it_is_disabled_consumes_nothing() {
    model("enable, disable", 3, enabled_and_disabled_at_once);
}

#[test]
fn enable_and_disable_without_the_fence_are_found_out() {
    let body = enabled_and_disabled_at_once;
    twin("enable, disable", Site::EnableFence, 3, body);
}
