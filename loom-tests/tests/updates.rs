//! A walk that sets an access flag, against the guest that takes the page or its table away (law 3).
#![cfg(loom)]

use dispatch::{Backend, Barrier};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, WAITER, read};
use loom_tests::{model, twin};
use vcmdq_sync::weak::Site;

/// A device uses the page for the first time; meanwhile the guest takes away the page or the table.
/// It has `named` invalidated. When this returns, the guest's SYNC has completed and the device may still be under way.
fn taken_away(whole_table: bool, named: u64) -> (Arc<SmallSmmu>, thread::JoinHandle<()>) {
    let small = Arc::new(SmallSmmu::new());
    small.translate_unused();
    let mut port = small.port();
    let device = thread::spawn(move || {
        // Mapped or not, whichever it was in time for.
        let _result = port.translate(None, read(0), 8, |_| ()).map(|g| g.output());
    });
    small.unmap(whole_table);
    if whole_table {
        small.invalidate_with_tables(named);
    } else {
        small.invalidate(named);
    }
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
    (small, device)
}

/// Behind its SYNC the guest gives the table's memory to something else, which happens to look as the
/// table did. An update that is under way would change it.
fn a_table_that_is_reused() {
    reused(0);
}

/// The guest names another page below the table than the one that the device is looking for.
fn a_neighbours_table_that_is_reused() {
    reused(0x5000);
}

fn reused(named: u64) {
    let (small, device) = taken_away(true, named);
    small.reuse_table();
    device.join().expect("device");
    assert!(
        small.is_unused(),
        "what was a table is updated after its SYNC"
    );
}

/// An update does not bring back what the guest has taken away.
fn a_page_that_is_unmapped() {
    let (small, device) = taken_away(false, 0);
    assert_eq!(small.last_word(), 0, "unmapped, whatever the walk wanted");
    device.join().expect("device");
    assert_eq!(small.last_word(), 0, "unmapped for good");
}

/// It has two fences, of which either would do: the walk's is taken away below.
#[test]
fn law3_update_against_sync() {
    model("update", 2, a_table_that_is_reused);
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

#[test]
fn law3_walk_against_the_sync_of_who_takes_its_table() {
    model("walk of a table", 2, a_neighbours_table_that_is_reused);
}

#[test]
fn walk_that_says_its_page_only_is_found_out() {
    let site = Site::PortSaysWalk;
    twin(
        "walk of a table",
        site,
        2,
        a_neighbours_table_that_is_reused,
    );
}

#[test]
fn walk_that_is_said_without_a_fence_is_found_out() {
    let site = Site::GuardRestate;
    twin(
        "walk of a table",
        site,
        2,
        a_neighbours_table_that_is_reused,
    );
}
