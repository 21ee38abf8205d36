//! A SYNC in one ring of a VINTF against a command in another one (law 3).
#![cfg(loom)]

use loom::thread;
use loom_tests::{VintfRig, model, raw_sync, twin};
use smmu_core::spec::command::RawCommand;
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

/// The guest publishes a TLBI in ring 1 and then a SYNC in ring 0; two workers serve a ring each.
/// Whoever executes the TLBI: when the SYNC is done it is. While an access goes on that uses what it
/// removed, the SYNC is not.
fn a_piece_and_its_sync_in_two_rings(access: bool) {
    let rig = VintfRig::new(access);
    rig.write(0, 0, raw_sync());
    let other = {
        let rig = rig.clone();
        thread::spawn(move || {
            rig.rings()[1].doorbell(1);
            rig.rings()[0].doorbell(1);
            Stepper::default().serve(&rig.rings()[1]);
        })
    };
    Stepper::default().serve(&rig.rings()[0]);
    let done = rig.rings()[0].cons() == 1;
    assert!(!(done && access), "the SYNC came before the access ended");
    if done {
        assert_eq!(rig.removed(), 0b1000, "the SYNC came before its TLBI");
    }
    other.join().expect("other");
    Stepper::default().serve(&rig.rings()[0]);
    assert_eq!(rig.rings()[0].cons(), u32::from(!access));
}

/// The TLBI is accepted; its access ends beside the SYNC of the other ring, which is woken.
fn a_sync_that_waits_for_another_rings_access() {
    let rig = VintfRig::new(true);
    rig.write(0, 0, raw_sync());
    let mut stepper = Stepper::default();
    rig.rings()[1].doorbell(1);
    stepper.serve(&rig.rings()[1]);
    while rig.engine.take_ready().is_some() {}
    let device = {
        let rig = rig.clone();
        thread::spawn(move || rig.end_access())
    };
    rig.rings()[0].doorbell(1);
    while let Some(ring) = rig.engine.take_ready() {
        stepper.serve(&rig.rings()[ring as usize]);
    }
    device.join().expect("device");
    while let Some(ring) = rig.engine.take_ready() {
        stepper.serve(&rig.rings()[ring as usize]);
    }
    assert_eq!(rig.rings()[0].cons(), 1, "nobody has woken the ring");
}

/// A ring stops at a command that no VCMDQ takes while the guest takes the mask of its interrupt away.
fn an_error_beside_the_mask() {
    let rig = VintfRig::new(false);
    rig.mask(true);
    rig.write(1, 0, RawCommand::default());
    rig.rings()[1].doorbell(1);
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || {
            Stepper::default().serve(&rig.rings()[1]);
        })
    };
    rig.mask(false);
    worker.join().expect("worker");
    assert_eq!(rig.rings()[1].gerror(), 1, "the ring has stopped");
    assert!(rig.pulses() > 0, "nobody has told the guest");
}

#[test]
fn vintf_error_is_not_lost_beside_the_mask() {
    model("vintf, mask", 3, an_error_beside_the_mask);
}

#[test]
fn vintf_error_beside_the_mask_without_the_fence_is_found_out() {
    twin("vintf, mask", Site::MaskFence, 3, an_error_beside_the_mask);
}

#[test]
fn law3_vintf_sync_covers_the_other_ring() {
    model("vintf", 3, || a_piece_and_its_sync_in_two_rings(false));
}

#[test]
fn law3_vintf_sync_waits_for_the_other_rings_access() {
    model("vintf, access", 3, || {
        a_piece_and_its_sync_in_two_rings(true);
    });
}

#[test]
fn law3_vintf_sync_is_woken_for_the_other_ring() {
    model(
        "vintf, woken",
        3,
        a_sync_that_waits_for_another_rings_access,
    );
}

#[test]
fn vintf_without_executing_what_others_published_is_found_out() {
    twin("vintf", Site::CoverOthers, 3, || {
        a_piece_and_its_sync_in_two_rings(false);
    });
}

#[test]
fn vintf_without_the_release_of_cons_is_found_out() {
    twin("vintf", Site::LaneCons, 3, || {
        a_piece_and_its_sync_in_two_rings(false);
    });
}

#[test]
fn vintf_without_asking_for_others_accesses_is_found_out() {
    twin("vintf, access", Site::CoverUnsynced, 3, || {
        a_piece_and_its_sync_in_two_rings(true);
    });
}

#[test]
fn vintf_that_nobody_knows_to_wake_is_found_out() {
    let body = a_sync_that_waits_for_another_rings_access;
    twin("vintf, woken", Site::CoverWaits, 3, body);
}
