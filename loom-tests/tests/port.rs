//! A translation that finds more than its guard says: it says more and looks up again (law 3).
#![cfg(loom)]

use dispatch::{Backend, Barrier};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, WAITER, read};
use loom_tests::{model, twin};
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::weak::Site;

const OLD: u64 = 0x20_0000;
const NEW: u64 = 0x40_0000;

/// A device reads a page of a block that is cached, so that its guard says a page at first. The guest
/// moves the block and has another page of it invalidated: nobody uses the old block after the SYNC.
fn a_block_behind_a_narrow_guard() {
    let small = Arc::new(SmallSmmu::new());
    small.translate_to(OLD);
    let mut port = small.port();
    let first = port
        .translate(None, read(0x1000), 8, |_| ())
        .map(|g| g.output());
    assert_eq!(first.map(|output| output.address), Ok(OLD + 0x1000));
    let synced = Arc::new(AtomicBool::new(false));
    let device = {
        let synced = synced.clone();
        thread::spawn(move || {
            let guard = port.translate(None, read(0x1000), 8, |_| ());
            let address = guard.as_ref().map(|guard| guard.output().address);
            if address == Ok(OLD + 0x1000) {
                let synced = synced.load(Ordering::Relaxed);
                assert!(!synced, "what was removed is used after its SYNC");
            } else {
                assert_eq!(address, Ok(NEW + 0x1000));
            }
        })
    };
    small.map(NEW);
    small.invalidate(0x5000);
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
    synced.store(true, Ordering::Relaxed);
    device.join().expect("device");
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
fn port_that_does_not_look_again_is_found_out() {
    twin(
        "reopened guard",
        Site::PortLooksAgain,
        2,
        a_block_behind_a_narrow_guard,
    );
}
