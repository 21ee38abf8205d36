//! By hand: tables from which walks start, and the commands that take them.

use crate::exact::{CDS, FAR, Hand, NEIGHBOUR, OWN, PAGE, TABLES, VA, asid};
use crate::rig::{WAITER, execute};
use crate::stages::{
    CDS as NESTED_CDS, NEIGHBOUR as IPA_NEIGHBOUR, ONE, PAGE as IPA, SECOND, Stages,
    TABLES as NESTED_TABLES, VA as VA_NESTED, VA_NEIGHBOUR,
};
use dispatch::backend::software::{Denied, Port};
use dispatch::{Backend, Barrier};
use smmu_core::access::{Access, Operation};
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::pte::TableDescriptor;
use smmu_core::{StreamId, SubstreamId};

const LEAF_ONLY: u64 = 1;
/// Where the last table's copy lies, in which pages are in the ninth place.
const COPY: u64 = 0x5_0000;
/// The descriptor of the last table.
const TO_LAST: u64 = TABLES + 0x1008;

fn read(port: &mut Port, address: u64) -> Result<u64, Denied> {
    let access = Access::of_smmu(address, Operation::Read);
    let guard = port.translate(Some(SubstreamId(1)), access, 1, |_| ())?;
    Ok(guard.output().address)
}

/// The place that a page is in.
fn place(port: &mut Port, address: u64) -> u64 {
    read(port, address).expect("mapped") >> 32
}

/// A port that knows the last table of some pages, which the guest has replaced by another one.
fn replaced() -> (Hand, Port) {
    let hand = Hand::new();
    for page in [PAGE, NEIGHBOUR, FAR] {
        let at = COPY + 8 * (page >> 12 & 0x1ff);
        hand.memory.set(at, 9 << 32 | page & !0xfff | OWN);
    }
    let mut port = hand.core.port(StreamId(4)).expect("a guard");
    assert_eq!(place(&mut port, PAGE), 1);
    hand.memory.set(TO_LAST, COPY | 3);
    (hand, port)
}

#[test]
fn a_walk_starts_from_the_last_table() {
    let (_hand, mut port) = replaced();
    assert_eq!(
        place(&mut port, NEIGHBOUR),
        1,
        "nothing has been invalidated"
    );
}

/// Whatever may stand for a table takes it; by Leaf=1, and for others, it may stay.
#[test]
fn law7_what_takes_a_table_takes_what_walks_start_from() {
    let cfgi_ste = [0x03 | 4 << 32, 1];
    for commands in [
        &[[VA | asid(1), NEIGHBOUR]][..],
        &[[VA | asid(1), PAGE]],
        &[[0x13, NEIGHBOUR]],
        &[[0x11 | asid(1), 0]],
        &[[0x10, 0]],
        &[[0x28, 0]],
        &[[0x30, 0]],
    ] {
        let (hand, mut port) = replaced();
        hand.execute(commands);
        assert_eq!(place(&mut port, NEIGHBOUR), 9, "{commands:x?}");
    }
    for commands in [
        &[[VA | asid(1), NEIGHBOUR | LEAF_ONLY]][..],
        &[[0x13, NEIGHBOUR | LEAF_ONLY]],
    ] {
        let (hand, mut port) = replaced();
        hand.execute(commands);
        assert_eq!(place(&mut port, FAR), 1, "{commands:x?} spares tables");
    }
    let (hand, mut port) = replaced();
    hand.execute(&[cfgi_ste]);
    // Not a translation, but the tables are those of a configuration.
    assert_eq!(place(&mut port, NEIGHBOUR), 9);
}

/// A context with another ASID and other tables: nothing of the old one is in the way.
#[test]
fn law7_another_context_starts_from_its_own_tables() {
    let (hand, mut port) = replaced();
    let (first, second) = (COPY + 0x1000, COPY + 0x2000);
    hand.memory.set(first, second | 3);
    hand.memory.set(second + 8, COPY | 3);
    let cd = CDS + 64;
    let word = hand.memory.get(cd).expect("in memory");
    hand.memory.set(cd, word & !(0xffff << 48) | 77 << 48);
    hand.memory.set(cd + 8, first);
    hand.execute(&[[0x05 | 4 << 32 | 1 << 12, 1]]);
    assert_eq!(place(&mut port, NEIGHBOUR), 9);
}

/// Memory of another map, and an SMMU that is switched off and on, have no known tables.
#[test]
fn law9_a_new_memory_map_has_no_known_tables() {
    let (hand, mut port) = replaced();
    hand.core.memory_changed(hand.memory.clone());
    assert_eq!(place(&mut port, NEIGHBOUR), 9);
    let (hand, mut port) = replaced();
    hand.core.set_up(Some(hand.setup));
    assert_eq!(place(&mut port, NEIGHBOUR), 9);
}

/// What a table forbids is forbidden below it, also if a walk starts behind it.
#[test]
fn law7_a_known_table_keeps_what_is_forbidden_above_it() {
    let hand = Hand::new();
    let restricted = TableDescriptor::from_bits(hand.memory.get(TO_LAST).expect("in memory"))
        .with_ap_table_read_only(true);
    hand.memory.set(TO_LAST, restricted.into());
    let mut port = hand.core.port(StreamId(4)).expect("a guard");
    assert_eq!(place(&mut port, PAGE), 1);
    let write = Access::of_smmu(NEIGHBOUR, Operation::Write);
    let written = port.translate(Some(SubstreamId(1)), write, 1, |_| ());
    let fault = match written {
        Err(Denied::Fault(failed)) => failed.fault,
        other => panic!("{other:x?}"),
    };
    assert_eq!(fault, Fault::Permission(Place::Stage1));
}

/// The descriptor of a page is read each time: its access flag is looked at.
#[test]
fn a_known_table_does_not_spare_the_access_flag() {
    let hand = Hand::new();
    let at = TABLES + 0x2000 + 8 * (NEIGHBOUR >> 12 & 0x1ff);
    let page = hand.memory.get(at).expect("in memory");
    hand.memory.set(at, page & !(1 << 10));
    let cd = hand.memory.get(CDS + 64).expect("in memory");
    // AFFD clear: a clear access flag is a fault.
    hand.memory.set(CDS + 64, cd & !(1 << 35));
    let mut port = hand.core.port(StreamId(4)).expect("a guard");
    assert_eq!(place(&mut port, PAGE), 1);
    let fault = match read(&mut port, NEIGHBOUR) {
        Err(Denied::Fault(failed)) => failed.fault,
        other => panic!("{other:x?}"),
    };
    assert_eq!(fault, Fault::AccessFlag(Place::Stage1));
}

/// A guest that takes a table away names any address below it: a walk that has started from that table
/// holds back its SYNC.
#[test]
fn law3_a_walk_from_a_known_table_holds_back_the_sync_of_who_takes_it_away() {
    for nh_va in [VA | asid(1), 0x13] {
        let (hand, mut port) = replaced();
        let (core, caps) = (hand.core.clone(), hand.caps);
        // The one look is at the page.
        hand.memory.interrupt(
            1,
            Box::new(move || {
                execute(&core, &caps, &[[nh_va, FAR]], false);
                let barrier = core.barrier(WAITER);
                assert_eq!(barrier, Barrier::Pending, "the table is being read");
            }),
        );
        assert_eq!(place(&mut port, NEIGHBOUR), 1);
        assert!(hand.memory.has_happened());
        assert_eq!(hand.core.barrier(WAITER), Barrier::Done);
        assert_eq!(
            place(&mut port, NEIGHBOUR),
            9,
            "nothing old was left behind"
        );
    }
}

/// Stage 2's last table is replaced. What takes tables of stage 2 takes it; what takes those of stage 1
/// need not.
#[test]
fn law7_what_takes_a_table_of_stage_2_takes_what_walks_start_from() {
    let vmid = 9 << 32;
    let (last, copy) = (SECOND + 0x2000, 0x3_0000);
    for (commands, goes) in [
        (&[[0x2a | vmid, IPA], [0x10 | vmid, 0]][..], true),
        (&[[0x28 | vmid, 0]], true),
        (&[[0x30, 0]], true),
        (&[[0x10 | vmid, 0]], false),
        (&[[0x2a | vmid, IPA | LEAF_ONLY], [0x10 | vmid, 0]], false),
    ] {
        let stages = Stages::new();
        let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
        assert_eq!(read(&mut port, VA_NESTED), Ok(1 << 32 | IPA));
        for at in (0..0x1000).step_by(8) {
            let entry = stages.memory.get(last + at).expect("in memory");
            let moved = if entry >> 32 == 0 {
                entry
            } else {
                entry + (8 << 32)
            };
            stages.memory.set(copy + at, moved);
        }
        stages.memory.set(SECOND + 0x1000, copy | 3);
        stages.execute(commands);
        let place = if goes { 9 } else { 1 };
        let found = read(&mut port, VA_NEIGHBOUR);
        assert_eq!(found, Ok(place << 32 | IPA_NEIGHBOUR), "{commands:x?}");
    }
}

/// A table of stage 1 whose page stage 2 maps elsewhere: S2_IPA of that page takes what is known of it.
#[test]
fn law7_a_table_of_stage_1_goes_with_its_page_of_stage_2() {
    let vmid = 9 << 32;
    let (third, copy) = (NESTED_TABLES + 0x2000, 0x3_0000);
    let stages = Stages::new();
    let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
    assert_eq!(read(&mut port, VA_NESTED), Ok(1 << 32 | IPA));
    for at in (0..0x1000).step_by(8) {
        let entry = stages.memory.get(third + at).expect("in memory");
        let moved = if entry == 0 { 0 } else { entry + 0x1_0000 };
        stages.memory.set(copy + at, moved);
    }
    let page = SECOND + 0x2000 + 8 * (third >> 12);
    let old = stages.memory.get(page).expect("in memory");
    stages.memory.set(page, old - third + copy);
    stages.execute(&[[0x2a | vmid, third | LEAF_ONLY]]);
    let found = read(&mut port, VA_NEIGHBOUR);
    assert_eq!(found, Ok(1 << 32 | (IPA_NEIGHBOUR + 0x1_0000)));
}

/// A table of 64 KiB of which stage 2 maps pieces of 4 KiB, not one behind the other: what is known of one
/// piece says nothing of the next.
#[test]
fn a_table_that_stage_2_has_in_pieces_is_not_taken_for_one() {
    const TOP: u64 = 0x3_4000;
    const TABLE: u64 = 0x18_0000;
    const FIRST_PIECE: u64 = 0x3_0000;
    const SECOND_PIECE: u64 = 0x3_8000;
    let stages = Stages::with(|caps| caps.idr5.set_gran64k(true));
    let memory = &stages.memory;
    let identity = |page: u64| memory.get(SECOND + 0x2000 + 8 * page).expect("in memory");
    for (n, piece) in (0..).zip([FIRST_PIECE, SECOND_PIECE]) {
        let entry = SECOND + 0x2000 + 8 * (TABLE >> 12) + 8 * n;
        memory.set(entry, identity(piece >> 12));
    }
    // Pages 1 and 513, the first of each piece but one; and where page 513 would be if it were one.
    memory.set(FIRST_PIECE + 8, 0x10_0000 | OWN);
    memory.set(SECOND_PIECE + 8, 0x11_0000 | OWN);
    memory.set(FIRST_PIECE + 0x1008, 0x12_0000 | OWN);
    memory.set(TOP, TABLE | 3);
    // TG0=64K.
    let cd = NESTED_CDS + 64;
    let word = memory.get(cd).expect("in memory");
    memory.set_all(cd, &[word | 1 << 6, TOP]);
    let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
    for _ in 0..2 {
        assert_eq!(read(&mut port, 1 << 16), Ok(1 << 32 | 0x10_0000));
        assert_eq!(read(&mut port, 513 << 16), Ok(1 << 32 | 0x11_0000));
        stages.execute(&[[0x12 | 1 << 48 | 9 << 32, 1 << 16 | LEAF_ONLY]]);
    }
}
