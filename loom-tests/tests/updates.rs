//! A walk that sets an access flag, against the guest that takes the page or its table away (law 3).
#![cfg(loom)]

use dispatch::{Backend, Barrier};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, WAITER, read};
use loom_tests::{model, twin};
use vcmdq_sync::weak::Site;

/// A device uses the page for the first time; meanwhile the guest takes away the page or the table.
/// When this returns, the guest's SYNC has completed and the device may still be under way.
fn taken_away(whole_table: bool) -> (Arc<SmallSmmu>, thread::JoinHandle<()>) {
    let small = Arc::new(SmallSmmu::new());
    small.translate_unused();
    let mut port = small.port();
    let device = thread::spawn(move || {
        // Mapped or not, whichever it was in time for.
        let _result = port.translate(None, read(0), 8, |_| ()).map(|g| g.output());
    });
    small.unmap(whole_table);
    small.invalidate(0);
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
    (small, device)
}

/// Behind its SYNC the guest gives the table's memory to something else, which happens to look as the
/// table did. An update that is under way would change it.
fn a_table_that_is_reused() {
    let (small, device) = taken_away(true);
    small.reuse_table();
    device.join().expect("device");
    assert!(
        small.is_unused(),
        "what was a table is updated after its SYNC"
    );
}

/// An update does not bring back what the guest has taken away.
fn a_page_that_is_unmapped() {
    let (small, device) = taken_away(false);
    assert_eq!(small.last_word(), 0, "unmapped, whatever the walk wanted");
    device.join().expect("device");
    assert_eq!(small.last_word(), 0, "unmapped for good");
}

#[test]
fn law3_update_against_sync() {
    model("update", 2, a_table_that_is_reused);
}

#[test]
fn update_without_the_guards_fence_is_found_out() {
    twin("update", Site::GuardFence, 2, a_table_that_is_reused);
}

#[test]
fn law3_update_against_an_unmapped_page() {
    model("update of an unmapped page", 2, a_page_that_is_unmapped);
}

#[test]
fn update_without_its_comparison_is_found_out() {
    twin(
        "update of an unmapped page",
        Site::TableExchange,
        2,
        a_page_that_is_unmapped,
    );
}
