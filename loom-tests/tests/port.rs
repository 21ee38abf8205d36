//! A translation that finds more than its guard says: it says more and looks up again (law 3).
#![cfg(loom)]

use dispatch::{Backend, Barrier};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{STREAM, SmallSmmu, WAITER, access_against_sync, read};
use loom_tests::{model, twin};
use smmu_core::tlb::{Entry, PageClass, Space};
use smmu_core::{Asid, Vmid};
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::weak::Site;

const OLD: u64 = 0x20_0000;
const NEW: u64 = 0x40_0000;

/// A device reads a page of a block that is cached, so that its guard says a page at first. The guest
/// moves the block and has another page of it invalidated: nobody uses the old block after the SYNC.
fn a_block_behind_a_narrow_guard() {
    moved(SmallSmmu::map, Asid(1));
}

/// The same with a block of all ASIDs, of which the guest names another one.
fn a_global_block_behind_a_narrow_guard() {
    moved(SmallSmmu::map_globally, Asid(2));
}

fn moved(map: fn(&SmallSmmu, u64), named: Asid) {
    let small = SmallSmmu::new();
    small.translate_to(OLD);
    map(&small, OLD);
    let mut port = small.port();
    let first = port
        .translate(None, read(0x1000), 8, |_| ())
        .map(|g| g.output());
    assert_eq!(first.map(|output| output.address), Ok(OLD + 0x1000));
    access_against_sync(&small, port, [OLD, NEW], |small| {
        map(small, NEW);
        small.invalidate_of(named, 0x5000);
    });
}

/// The first guard that there ever was, against the invalidation of what somebody has put into the
/// cache before.
fn the_first_guard() {
    let small = Arc::new(SmallSmmu::new());
    let (vmid, asid, va) = (Vmid(0), Asid(1), 0x1000);
    let entry = Entry {
        vmid,
        space: Space::Asid(asid),
        va,
        class: PageClass::Page4K,
        payload: [0; 2],
    };
    assert!(small.core.fill(&entry, &small.core.ticket(vmid, asid)));
    let synced = Arc::new(AtomicBool::new(false));
    let device = {
        let (small, synced) = (small.clone(), synced.clone());
        thread::spawn(move || {
            let mut port = small.port();
            let _guard = port.translate(None, read(va), 8, |_| ());
            if small.core.lookup(STREAM, vmid, asid, va).is_some() {
                let synced = synced.load(Ordering::Relaxed);
                assert!(!synced, "what was removed is used after its SYNC");
            }
        })
    };
    small.invalidate_all();
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
    synced.store(true, Ordering::Relaxed);
    device.join().expect("device");
}

#[test]
fn law3_first_guard_against_sync() {
    model("first guard", 2, the_first_guard);
}

#[test]
fn first_guard_without_its_fence_is_found_out() {
    twin("first guard", Site::GuardFence, 2, the_first_guard);
}

#[test]
fn law3_port_says_more_and_looks_again() {
    model("reopened guard", 2, a_block_behind_a_narrow_guard);
}

#[test]
fn port_that_says_more_without_a_fence_is_found_out() {
    twin(
        "reopened guard",
        Site::GuardRestate,
        2,
        a_block_behind_a_narrow_guard,
    );
}

#[test]
fn law3_port_finds_a_global_block_and_looks_again() {
    let device = a_global_block_behind_a_narrow_guard;
    model("global block", 2, device);
}

#[test]
fn port_that_does_not_look_again_is_found_out() {
    let device = a_global_block_behind_a_narrow_guard;
    twin("global block", Site::PortLooksAgain, 2, device);
}
