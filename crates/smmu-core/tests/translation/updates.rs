//! Access flags and dirty state that a walk updates, rule by rule.

use crate::bench::{Bench, CD, DW0_CD, LEAF, OUTPUT, PAGE, STE, STREAM, TTB0};
use crate::naive::Ram;
use crate::nested::{DW2_STE, THIRD, nested};
use smmu_core::access::Operation::{self, Execute, Read, Write};
use smmu_core::access::{Access, Transaction};
use smmu_core::ats::AtsRequest;
use smmu_core::fault::{Fault, Place};
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use smmu_core::spec::event::{Class, EventId};
use smmu_core::translate::{Failed, Translated};
use smmu_core::walk::Leaf;
use smmu_core::{Gpa, StreamId};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const AF: u64 = 1 << 10;
/// AP[2] of stage 1; of stage 2, S2AP[1] set means writable.
const READ_ONLY: u64 = 1 << 7;
const S2_WRITABLE: u64 = 1 << 7;
const DBM: u64 = 1 << 51;
const CLEAN: u64 = LEAF | READ_ONLY | DBM;
/// Of a CD.
const HA: u64 = 1 << 43;
const HD: u64 = 1 << 42;
const AFFD: u64 = 1 << 35;
const WXN: u64 = 1 << 36;
/// Of word 2 of an STE.
const S2HA: u64 = 1 << 56;
const S2HD: u64 = 1 << 55;

const NO_FLAG: Fault = Fault::AccessFlag(Place::Stage1);
const DENIED: Fault = Fault::Permission(Place::Stage1);

fn mapped(result: Result<Translated, Failed>) -> Result<Leaf, Fault> {
    match result {
        Ok(Translated::Mapped(leaf)) => Ok(leaf),
        Ok(other) => panic!("{other:?}"),
        Err(failed) => Err(failed.fault),
    }
}

fn stage1(cd: u64, leaf: u64) -> Bench {
    let mut bench = Bench::new();
    bench.setup.caps.idr0.set_httu(2);
    bench.ram.set(CD, DW0_CD | cd);
    bench.ram.set(Bench::LEAF_AT, leaf);
    bench
}

/// CD.{HA,HD,AFFD}, the descriptor, the access; its fault, and the descriptor afterwards.
#[test]
fn what_stage_1_makes_of_a_descriptor() {
    let old = LEAF & !AF;
    let rows: [(u64, u64, Operation, Option<Fault>, u64); 20] = [
        (0, old, Read, Some(NO_FLAG), old),
        (HA, old, Read, None, LEAF),
        (HA, old, Write, None, LEAF),
        (HA, LEAF, Read, None, LEAF),
        // AFFD says what happens without HA.
        (AFFD, old, Read, None, old),
        (HA | AFFD, old, Read, None, LEAF),
        // Nothing is written for an access that faults.
        (HA, old | READ_ONLY, Write, Some(DENIED), old | READ_ONLY),
        (HA, old | 3 << 53, Execute, Some(DENIED), old | 3 << 53),
        // Dirty state: a write, and nothing else.
        (HA | HD, CLEAN, Write, None, LEAF | DBM),
        (HA | HD, CLEAN, Read, None, CLEAN),
        (HA | HD, CLEAN & !AF, Read, None, CLEAN),
        (HA | HD, CLEAN & !AF, Write, None, LEAF | DBM),
        (HA | HD, LEAF | DBM, Write, None, LEAF | DBM),
        // Not without DBM, HD or HA.
        (HA | HD, CLEAN & !DBM, Write, Some(DENIED), CLEAN & !DBM),
        (HA, CLEAN, Write, Some(DENIED), CLEAN),
        (HD, CLEAN, Write, Some(DENIED), CLEAN),
        (HD, CLEAN & !AF, Read, Some(NO_FLAG), CLEAN & !AF),
        // A page that can become writable is not executable under WXN, nor, where programs could
        // write it, with privilege.
        (
            HA | HD | WXN,
            CLEAN & !AF,
            Execute,
            Some(DENIED),
            CLEAN & !AF,
        ),
        (HA | HD, CLEAN & !AF, Execute, Some(DENIED), CLEAN & !AF),
        (HA, CLEAN & !AF, Execute, None, CLEAN),
    ];
    for (row, (cd, leaf, operation, fault, after)) in rows.into_iter().enumerate() {
        let bench = stage1(cd, leaf);
        let result = mapped(bench.translate(PAGE, operation, true));
        assert_eq!(result.err(), fault, "row {row}");
        assert_eq!(bench.ram.get(Bench::LEAF_AT), Some(after), "row {row}");
        let changed = if leaf == after { 0 } else { 1 };
        let written = bench.ram.take_written();
        assert_eq!(written.len(), changed, "row {row}: {written:x?}");
    }
}

#[test]
fn httu_one_has_no_dirty_state() {
    let mut bench = stage1(HA | HD, CLEAN);
    bench.setup.caps.idr0.set_httu(1);
    assert_eq!(bench.read(PAGE), Err(Fault::BadCd));
    bench.ram.set(CD, DW0_CD | HA);
    assert_eq!(bench.read(PAGE), Ok(OUTPUT));
    bench.setup.caps.idr0.set_httu(0);
    assert_eq!(bench.read(PAGE), Err(Fault::BadCd));
}

/// A table that forbids writing forbids it to the dirty state, too.
#[test]
fn a_read_only_table_keeps_its_pages_clean() {
    let bench = stage1(HA | HD, CLEAN);
    bench.ram.set(Bench::FIRST_AT, 0x4003 | 1 << 62);
    let result = mapped(bench.translate(PAGE, Write, true));
    assert_eq!(result, Err(DENIED));
    let leaf = mapped(bench.translate(PAGE, Read, true)).expect("readable");
    assert_eq!(bench.ram.take_written(), []);
    // Asking again would say the same, but not wrongly so.
    assert!(!leaf.permissions.allow(&access(Write)));
}

#[test]
fn law3_what_is_cached_of_a_clean_page_allows_no_write() {
    let bench = stage1(HA | HD, CLEAN);
    let clean = mapped(bench.translate(PAGE, Read, true)).expect("readable");
    assert!(clean.permissions.allow(&access(Read)));
    assert!(!clean.permissions.allow(&access(Write)));
    assert!(clean.asks_again(&access(Write)) && !clean.asks_again(&access(Execute)));
    let dirty = mapped(bench.translate(PAGE, Write, true)).expect("made writable");
    assert!(dirty.permissions.allow(&access(Write)) && !dirty.asks_again(&access(Write)));
}

#[test]
fn big_endian_descriptors_are_updated_as_such() {
    let mut bench = stage1(HA | HD | 1 << 15, 0);
    bench.setup.caps.idr0.set_ttendian(0);
    for (at, descriptor) in [
        (Bench::FIRST_AT, 0x4003),
        (Bench::SECOND_AT, 0x5003),
        (Bench::LEAF_AT, CLEAN & !AF),
    ] {
        bench.ram.set(at, u64::swap_bytes(descriptor));
    }
    assert!(bench.translate(PAGE, Write, true).is_ok());
    let after = bench.ram.get(Bench::LEAF_AT).map(u64::swap_bytes);
    assert_eq!(after, Some(LEAF | DBM));
}

fn access(operation: Operation) -> Access {
    Access {
        address: PAGE,
        operation,
        privileged: true,
    }
}

/// Where stage 2 has the descriptors of the CD's page, of stage 1's last table and of the output.
const OF_CD: u64 = THIRD + 8 * (CD >> 12);
const OF_TABLE: u64 = THIRD + 8 * (Bench::LEAF_AT >> 12);
const OF_OUTPUT: u64 = 0xb000 + 8 * (OUTPUT >> 21 & 511);

fn both(cd: u64, ste: u64) -> Bench {
    let mut bench = nested();
    bench.setup.caps.idr0.set_httu(2);
    bench.ram.set(CD, DW0_CD | cd);
    bench.ram.set(STE + 16, DW2_STE | ste);
    bench
}

/// Everything that stage 2 translates is an access to it: CD, tables, output.
#[test]
fn stage_2_sets_access_flags_of_all_that_it_translates() {
    let bench = both(0, S2HA);
    let places = [OF_CD, THIRD + 8 * (TTB0 >> 12), OF_TABLE, OF_OUTPUT];
    for at in places {
        let good = bench.ram.get(at).expect("a descriptor");
        bench.ram.set(at, good & !AF);
    }
    assert!(bench.translate(PAGE, Read, true).is_ok());
    let written: Vec<u64> = bench.ram.take_written().iter().map(|(at, _)| *at).collect();
    assert_eq!(written, places);
    bench.ram.set(OF_OUTPUT, 0x4_5000_0000 | 0xfd);
    bench.ram.set(STE + 16, DW2_STE);
    let failed = bench.translate(PAGE, Read, true).expect_err("no S2HA");
    assert_eq!(failed.fault.event(), EventId::AccessFlag);
}

/// S2HD: a write makes the output's page dirty; a read leaves it as it is.
#[test]
fn stage_2_sets_dirty_state_of_what_is_written() {
    for operation in [Read, Write] {
        let bench = both(0, S2HA | S2HD);
        let good = bench.ram.get(OF_OUTPUT).expect("a descriptor");
        bench.ram.set(OF_OUTPUT, good & !S2_WRITABLE | DBM);
        let leaf = mapped(bench.translate(PAGE, operation, true)).expect("allowed");
        let write = operation == Write;
        assert_eq!(leaf.permissions.allow(&access(Write)), write);
        assert_eq!(leaf.asks_again(&access(Write)), !write);
        let after = if write { good } else { good & !S2_WRITABLE };
        assert_eq!(bench.ram.get(OF_OUTPUT), Some(after | DBM));
    }
    // Not without S2HD.
    let bench = both(0, S2HA);
    let good = bench.ram.get(OF_OUTPUT).expect("a descriptor");
    bench.ram.set(OF_OUTPUT, good & !S2_WRITABLE | DBM);
    let place = Place::Stage2 {
        class: Class::Input,
        ipa: OUTPUT,
    };
    let result = mapped(bench.translate(PAGE, Write, true));
    assert_eq!(result, Err(Fault::Permission(place)));
}

/// To stage 2, an update of stage 1's descriptor is a write: it makes the table's page dirty, or it is
/// a permission fault of CLASS=TT that is not one of reading the table.
#[test]
fn an_update_of_stage_1_is_a_write_to_stage_2() {
    let ipa = Bench::LEAF_AT;
    for (ste, dirtied) in [(S2HA | S2HD, true), (S2HA, false), (0, false)] {
        let bench = both(HA | HD, ste);
        let good = bench.ram.get(OF_TABLE).expect("a descriptor");
        bench.ram.set(OF_TABLE, good & !S2_WRITABLE | DBM);
        assert!(
            bench.translate(PAGE, Read, true).is_ok(),
            "nothing to update"
        );
        bench.ram.set(Bench::LEAF_AT, LEAF & !AF);
        match bench.translate(PAGE, Read, true) {
            Ok(_) => {
                assert!(dirtied, "{ste:#x}");
                let expected = [(OF_TABLE, good | DBM), (ipa, LEAF)];
                assert_eq!(bench.ram.take_written(), expected);
            }
            Err(failed) => {
                assert!(!dirtied, "{ste:#x}");
                assert_eq!(failed.fault, Fault::TableUpdate(ipa));
                let record = failed.record(None);
                let word = record.dw1();
                assert_eq!(record.id(), Some(EventId::Permission));
                assert_eq!((word.s2(), word.class()), (true, 1));
                assert!(!word.ttrnw() && word.rnw());
                assert_eq!((record.ipa(), record.input_addr()), (ipa & !0xfff, PAGE));
                assert_eq!(bench.ram.take_written(), []);
                // STE.S2R, not CD.R, says whether there is a record.
                bench.ram.set(STE + 16, (DW2_STE | ste) & !(1 << 58));
                let failed = bench.translate(PAGE, Read, true).expect_err("as before");
                assert!(!failed.verdict.record);
            }
        }
    }
}

/// F_PERMISSION leaves an ATS answer a success without the right that was asked for, also where stage 2
/// forbids the update that the right would have taken.
#[test]
fn ats_is_answered_by_what_remains_if_stage_2_forbids_an_update() {
    const EATS: u64 = 1 << 28;
    let rows = [
        (HA, LEAF & !AF, [false; 2]),
        (HA | HD, CLEAN, [true, false]),
    ];
    for (cd, leaf, rights) in rows {
        let mut bench = both(cd, S2HA);
        bench.setup.caps.idr0.set_ats(true);
        bench.ram.set(STE + 8, EATS);
        let good = bench.ram.get(OF_TABLE).expect("a descriptor");
        bench.ram.set(OF_TABLE, good & !S2_WRITABLE);
        bench.ram.set(Bench::LEAF_AT, leaf);
        let request = AtsRequest {
            stream: StreamId(STREAM),
            substream: None,
            address: PAGE,
            no_write: false,
            execute: false,
            privileged: false,
        };
        let answer = bench.setup.answer_ats(&bench.ram, &request, false);
        let answer = answer.map(|found| [found.read, found.write]);
        assert_eq!(answer, Ok(rights), "{leaf:#x}");
        assert_eq!(bench.ram.take_written(), []);
    }
}

/// The bench's memory; whenever an update is tried, something happens to a word before.
struct Racing<'a> {
    ram: &'a Ram,
    tries: AtomicU32,
    happens: fn(&Ram, u32) -> Result<(), MemoryError>,
}

impl GuestMemory for Racing<'_> {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.ram.words(at, count)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.ram.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.ram.mark_dirty(at, len);
    }

    fn compare_exchange(&self, at: Gpa, current: u64, new: u64) -> Result<u64, MemoryError> {
        let nth = self.tries.fetch_add(1, Ordering::Relaxed);
        (self.happens)(self.ram, nth)?;
        self.ram.compare_exchange(at, current, new)
    }
}

fn racing(
    bench: &Bench,
    operation: Operation,
    happens: fn(&Ram, u32) -> Result<(), MemoryError>,
) -> (Result<Leaf, Fault>, u32) {
    let memory = Racing {
        ram: &bench.ram,
        tries: AtomicU32::new(0),
        happens,
    };
    let transaction = Transaction {
        stream: StreamId(STREAM),
        substream: None,
        access: access(operation),
    };
    let result = mapped(bench.setup.translate(&memory, &transaction));
    (result, memory.tries.into_inner())
}

#[test]
fn law3_a_descriptor_that_changes_under_its_update_is_read_again() {
    // Another page.
    let bench = stage1(HA, LEAF & !AF);
    let (result, tries) = racing(&bench, Read, |ram, nth| {
        if nth == 0 {
            ram.set(Bench::LEAF_AT, (LEAF & !AF) ^ 0x10_0000);
        }
        Ok(())
    });
    assert_eq!(result.map(|leaf| leaf.base), Ok(OUTPUT ^ 0x10_0000));
    assert_eq!(tries, 2);
    assert_eq!(bench.ram.get(Bench::LEAF_AT), Some(LEAF ^ 0x10_0000));
    // None any more: it is not brought back.
    let bench = stage1(HA, LEAF & !AF);
    let (result, _) = racing(&bench, Read, |ram, _| {
        ram.set(Bench::LEAF_AT, 0);
        Ok(())
    });
    assert_eq!(result, Err(Fault::Translation(Place::Stage1)));
    assert_eq!(bench.ram.get(Bench::LEAF_AT), Some(0));
    // Somebody else has made the same update.
    let bench = stage1(HA, LEAF & !AF);
    let (result, tries) = racing(&bench, Read, |ram, _| {
        ram.set(Bench::LEAF_AT, LEAF);
        Ok(())
    });
    assert!(result.is_ok() && tries == 1);
}

/// A guest that changes a descriptor all the time gets a fault, not an endless walk.
#[test]
fn law8_a_descriptor_that_always_changes_ends_in_a_fault() {
    let rows = [
        (LEAF & !AF, Read, NO_FLAG),
        (CLEAN & !AF, Write, NO_FLAG),
        (CLEAN, Write, DENIED),
    ];
    for (leaf, operation, fault) in rows {
        let bench = stage1(HA | HD, leaf);
        let (result, tries) = racing(&bench, operation, |ram, _| {
            let leaf = ram.get(Bench::LEAF_AT).expect("in memory");
            ram.set(Bench::LEAF_AT, leaf ^ 0x10_0000);
            Ok(())
        });
        assert_eq!((result, tries), (Err(fault), 17));
        assert_eq!(bench.ram.take_written(), []);
    }
}

/// The table's page moves in stage 2 between the reading of a descriptor and its update.
#[test]
fn a_table_that_moves_is_walked_again() {
    const CLEAN_PAGE: u64 = 0x4ff & !S2_WRITABLE | DBM;
    const MOVED: u64 = 0xc000 + (Bench::LEAF_AT & 0xfff);
    let bench = both(HA, S2HA | S2HD);
    bench.ram.set(OF_TABLE, 0x5000 | CLEAN_PAGE);
    for at in [Bench::LEAF_AT, MOVED] {
        bench.ram.set(at, LEAF & !AF);
    }
    // The first update is that of the page which the table lies in.
    let (result, _) = racing(&bench, Read, |ram, nth| {
        if nth == 0 {
            ram.set(OF_TABLE, 0xc000 | CLEAN_PAGE);
        }
        Ok(())
    });
    assert!(result.is_ok());
    assert_eq!(bench.ram.get(MOVED), Some(LEAF));
    assert_eq!(bench.ram.get(Bench::LEAF_AT), Some(LEAF & !AF));
}

/// Memory that does not take the update is an external abort of the walk, at the descriptor.
#[test]
fn an_update_of_read_only_memory_is_an_external_abort() {
    let no = |_: &Ram, _| Err(MemoryError::ReadOnly(Gpa(Bench::LEAF_AT)));
    let bench = stage1(HA, LEAF & !AF);
    let abort = Fault::WalkAbort(Place::Stage1, Gpa(Bench::LEAF_AT));
    assert_eq!(racing(&bench, Read, no), (Err(abort), 1));
    bench.ram.set(Bench::LEAF_AT, LEAF);
    assert!(racing(&bench, Read, no).0.is_ok(), "nothing to update");
    let bench = both(0, S2HA);
    let good = bench.ram.get(OF_OUTPUT).expect("a descriptor");
    bench.ram.set(OF_OUTPUT, good & !AF);
    let place = Place::Stage2 {
        class: Class::Input,
        ipa: OUTPUT,
    };
    let abort = Fault::WalkAbort(place, Gpa(OF_OUTPUT));
    assert_eq!(racing(&bench, Read, no), (Err(abort), 1));
}
