//! A walk that starts from a table which an earlier one has found, against the removal of that table
//! (laws 3 and 7).
#![cfg(loom)]

use dispatch::backend::software::Port;
use dispatch::{Backend, Barrier};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, WAITER, read};
use loom_tests::{model, twin, wrong};
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::weak::Site;

const OLD: u64 = 0x3000;
const NEW: u64 = 0x5000;

/// Where the page is, if it is mapped.
fn place(port: &mut Port) -> Option<u64> {
    let guard = port.translate(None, read(0), 8, |_| ()).ok()?;
    Some(guard.output().address)
}

fn sync(small: &SmallSmmu) {
    while small.core.barrier(WAITER) == Barrier::Pending {
        thread::yield_now();
    }
}

/// A port that knows the last table, but not its page.
fn who_knows_the_table(small: &SmallSmmu) -> Port {
    let mut port = small.port();
    assert!(place(&mut port).is_some());
    small.invalidate(0);
    port
}

/// The guest takes the table away, which a walk may just start from. Behind the SYNC its memory is used for
/// something else, which looks as the table did: nobody updates it, and nobody finds the page in it later.
fn a_known_table_that_is_reused(named: u64, invalidate: fn(&SmallSmmu, u64)) {
    let small = Arc::new(SmallSmmu::new());
    small.translate_unused();
    let mut port = who_knows_the_table(&small);
    small.reuse_table();
    let device = thread::spawn(move || {
        // Mapped or not, whichever it was in time for.
        place(&mut port);
        port
    });
    small.unmap(true);
    invalidate(&small, named);
    sync(&small);
    small.reuse_table();
    let mut port = device.join().expect("device");
    let later = place(&mut port);
    assert!(
        small.is_unused(),
        "what was a table is updated after its SYNC"
    );
    if named == 0 {
        assert_eq!(later, None, "what was removed is cached");
    }
}

fn a_known_table() {
    a_known_table_that_is_reused(0, SmallSmmu::invalidate_with_tables);
}

/// The guest names another page below the table.
fn a_neighbours_known_table() {
    let named = 0x5000;
    a_known_table_that_is_reused(named, SmallSmmu::invalidate_with_tables);
}

/// Stage 2 maps the page of the table elsewhere: nobody uses the old one after the SYNC.
fn a_known_table_of_which_stage_2_moves_the_page(invalidate: fn(&SmallSmmu)) {
    let small = Arc::new(SmallSmmu::new());
    small.nest_last_table([OLD, NEW]);
    let mut port = who_knows_the_table(&small);
    let synced = Arc::new(AtomicBool::new(false));
    let device = {
        let synced = synced.clone();
        thread::spawn(move || {
            {
                let guard = port.translate(None, read(0), 8, |_| ());
                let address = guard.as_ref().map(|guard| guard.output().address);
                if address == Ok(OLD) {
                    let synced = synced.load(Ordering::Relaxed);
                    assert!(!synced, "what was removed is used after its SYNC");
                } else {
                    assert_eq!(address, Ok(NEW));
                }
            }
            port
        })
    };
    small.move_last_table();
    invalidate(&small);
    sync(&small);
    synced.store(true, Ordering::Relaxed);
    let mut port = device.join().expect("device");
    assert_eq!(place(&mut port), Some(NEW), "what was removed is cached");
}

fn a_known_table_and_s2_ipa() {
    a_known_table_of_which_stage_2_moves_the_page(SmallSmmu::invalidate_stage2);
}

#[test]
fn law3_walk_from_a_known_table_against_its_removal() {
    model("walk from a known table", 2, a_known_table);
}

#[test]
fn walk_from_a_known_table_that_is_counted_late_is_found_out() {
    twin(
        "walk from a known table",
        Site::TablesFirst,
        2,
        a_known_table,
    );
}

#[test]
fn law3_walk_from_a_known_table_against_the_sync_of_who_takes_it() {
    let name = "walk from a neighbour's known table";
    model(name, 2, a_neighbours_known_table);
}

#[test]
fn walk_from_a_known_table_that_says_its_page_only_is_found_out() {
    let name = "walk from a neighbour's known table";
    twin(name, Site::PortSaysWalk, 2, a_neighbours_known_table);
}

/// The guest says that tables stay, which the model must see.
#[test]
fn walk_from_a_known_table_against_a_page_only_is_found_out() {
    wrong("walk from a known table that stays", 2, || {
        a_known_table_that_is_reused(0, SmallSmmu::invalidate);
    });
}

#[test]
fn law3_nested_walk_from_a_known_table_against_s2_ipa_and_sync() {
    let name = "nested walk from a known table";
    model(name, 2, a_known_table_and_s2_ipa);
}

/// The guest forgets stage 2, which the model must see.
#[test]
fn nested_walk_from_a_known_table_against_nh_va_only_is_found_out() {
    wrong("nested walk from a known table against NH_VA", 2, || {
        a_known_table_of_which_stage_2_moves_the_page(|small| small.invalidate(0));
    });
}
