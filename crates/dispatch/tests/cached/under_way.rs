//! By hand: commands that come in the middle of an access.

use crate::exact::{BLOCK, CDS, GLOBAL_PAGE, Hand, OWN, PAGE, TABLES, VA, asid};
use crate::rig::{WAITER, execute};
use dispatch::backend::software::Denied;
use dispatch::{Backend, Barrier};
use smmu_core::access::{Access, Operation};
use smmu_core::fault::Fault;
use smmu_core::{StreamId, SubstreamId};

/// Ring order is the order in which CFGI and TLBI take effect: a walk that has read its context
/// before both may go on, with a guard, but must not leave behind what the TLBI has removed.
#[test]
fn law3_a_walk_by_an_outdated_context_is_not_cached() {
    let hand = Hand::new();
    hand.memory.set(0x5_0000, 0x5_1003);
    hand.memory.set(0x5_1008, 0x5_2003);
    let leaf = 0x5_2000 + 8 * (PAGE >> 12 & 0x1ff);
    hand.memory.set(leaf, 2 << 32 | PAGE | OWN);
    let cfgi_cd = [0x05 | 4 << 32 | 1 << 12, 1];
    // An STE, a CD and a walk are eleven looks at memory; the table's address is read in the fifth.
    for moment in 1..=11 {
        hand.memory.set(CDS + 64 + 8, TABLES);
        hand.execute(&[cfgi_cd, [0x30, 0]]);
        let mut port = hand.core.port(StreamId(4)).expect("a guard");
        let access = Access {
            address: PAGE,
            operation: Operation::Read,
            privileged: true,
        };
        let mut ask = || {
            let result = port.translate(Some(SubstreamId(1)), access, 1, |_| ());
            result.expect("mapped").output().address >> 32
        };
        assert_eq!(ask(), 1);
        hand.execute(&[cfgi_cd, [0x30, 0]]);
        let (memory, core, caps) = (hand.memory.clone(), hand.core.clone(), hand.caps);
        let moved = Box::new(move || {
            memory.set(CDS + 64 + 8, 0x5_0000);
            execute(&core, &caps, &[cfgi_cd, [0x11 | asid(1), 0]], false);
        });
        hand.memory.interrupt(moment, moved);
        ask();
        assert!(hand.memory.has_happened());
        assert_eq!(ask(), 2, "outdated at the look at memory number {moment}");
    }
}

/// What an access has faulted by can be named by a command that does not name the access: a global
/// page by another ASID, a block by another address. No SYNC behind it may complete before the
/// event of that fault is there; or the access is made anew.
#[test]
fn law3_a_fault_by_what_a_command_names_holds_back_its_sync() {
    let (global, inside_block) = (GLOBAL_PAGE, BLOCK + 0x5000);
    let second = TABLES + 0x1000;
    let writable_block = 3 << 32 | OWN & !2;
    let cases = [
        // The third look is at the page, when its table has been found.
        (
            global,
            3,
            (second + 8, writable_block),
            // The page by another ASID; the table, which is the ASID's own, by another address.
            vec![[VA | asid(7), global], [VA | asid(1), PAGE + 0x4000]],
        ),
        (inside_block, 2, (TABLES, 0), vec![[VA | asid(1), BLOCK]]),
    ];
    for (address, moment, (at, value), commands) in cases {
        let hand = Hand::new();
        for entry in [second + 16, TABLES + 0x2000 + 8 * (global >> 12 & 0x1ff)] {
            let leaf = hand.memory.get(entry).expect("in memory");
            hand.memory.set(entry, leaf | 1 << 7);
        }
        let mut port = hand.core.port(StreamId(4)).expect("a guard");
        let mut write = |address, seen: &mut dyn FnMut()| {
            let access = Access {
                address,
                operation: Operation::Write,
                privileged: true,
            };
            let result = port.translate(Some(SubstreamId(1)), access, 1, |_| seen());
            result.map(|guard| guard.output().address)
        };
        assert!(write(PAGE, &mut || ()).is_ok(), "now the context is known");
        // But no table.
        hand.execute(&[[0x11 | asid(1), 0]]);
        let (memory, core, caps) = (hand.memory.clone(), hand.core.clone(), hand.caps);
        let changed = Box::new(move || {
            memory.set(at, value);
            execute(&core, &caps, &commands, false);
        });
        hand.memory.interrupt(moment, changed);
        let mut held_back = false;
        let mut look = || held_back = hand.core.barrier(WAITER) == Barrier::Pending;
        let result = write(address, &mut look);
        assert!(hand.memory.has_happened());
        let outdated = matches!(result, Err(Denied::Fault(failed)) if matches!(failed.fault, Fault::Permission(_)));
        assert!(held_back || !outdated, "{address:#x}: {result:x?}");
    }
}

/// A guest that takes a whole table away names any address below it: a walk to another one may have read
/// where the table is, and its memory is something else behind the SYNC.
#[test]
fn law3_a_walk_through_a_table_holds_back_the_sync_of_who_takes_it_away() {
    let neighbour = PAGE + 0x4000;
    for nh_va in [VA | asid(1), 0x13] {
        let hand = Hand::new();
        let mut port = hand.core.port(StreamId(4)).expect("a guard");
        let read = |address| Access {
            address,
            operation: Operation::Read,
            privileged: true,
        };
        let known = port.translate(Some(SubstreamId(1)), read(BLOCK), 1, |_| ());
        assert!(known.is_ok(), "now the context is known");
        drop(known);
        hand.execute(&[[0x11 | asid(1), 0]]);
        let (memory, core, caps) = (hand.memory.clone(), hand.core.clone(), hand.caps);
        // The third look is at the page, when its table has been found.
        hand.memory.interrupt(
            3,
            Box::new(move || {
                memory.set(TABLES + 0x1000 + 8, 0);
                execute(&core, &caps, &[[nh_va, neighbour]], false);
                let barrier = core.barrier(WAITER);
                assert_eq!(barrier, Barrier::Pending, "the table is being read");
            }),
        );
        let guard = port.translate(Some(SubstreamId(1)), read(PAGE), 1, |_| ());
        assert!(guard.is_ok(), "it had found the table");
        drop(guard);
        assert!(hand.memory.has_happened());
        assert_eq!(hand.core.barrier(WAITER), Barrier::Done);
        let gone = port.translate(Some(SubstreamId(1)), read(PAGE), 1, |_| ());
        assert!(matches!(gone, Err(Denied::Fault(_))), "its table is gone");
    }
}

/// When the walk is over, only the page is used: a SYNC behind its neighbour's invalidation does not wait
/// for the transfer.
#[test]
fn a_walk_that_is_over_holds_back_its_own_page_only() {
    let hand = Hand::new();
    let mut port = hand.core.port(StreamId(4)).expect("a guard");
    let read = Access {
        address: PAGE,
        operation: Operation::Read,
        privileged: true,
    };
    for walked in [true, false] {
        let guard = port.translate(Some(SubstreamId(1)), read, 1, |_| ());
        assert!(guard.is_ok());
        for (named, held) in [(PAGE + 0x4000, false), (PAGE, true)] {
            hand.execute(&[[VA | asid(1), named]]);
            let waits = hand.core.barrier(WAITER) == Barrier::Pending;
            assert_eq!(waits, held, "{named:#x}, walked: {walked}");
        }
        drop(guard);
        hand.core.barrier(WAITER);
    }
}
