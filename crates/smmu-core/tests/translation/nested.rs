//! Stage 1 over a stage 2 of the guest's own.

use crate::bench::{Bench, CD, DW0_CD, LEAF, OUTPUT, PAGE, STE, TTB0, TTB1};
use smmu_core::access::Access;
use smmu_core::access::Operation::{Read, Write};
use smmu_core::fault::{Fault, Response};
use smmu_core::spec::event::{Class, EventId};
use smmu_core::translate::{Failed, Translated};

/// Where the stage 2 tables lie: levels 1, 2 and 3.
const FIRST: u64 = 0x8000;
const SECOND: u64 = 0x9000;
pub(crate) const THIRD: u64 = 0xa000;
/// Guest-physical address of what stage 1 calls OUTPUT.
const FINAL: u64 = 0x4_5000_0000;
/// T0SZ=25, SL0=1 (level 1), 4 KiB, S2PS=48 bits, AA64, S2R.
pub(crate) const DW2_STE: u64 = 25 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
/// Readable, writable, access flag, write-back.
const RIGHTS: u64 = 0x4fc;

/// The bench's stream with a stage 2: 64 KiB of identity, and a block of 2 MiB for the output.
pub(crate) fn nested() -> Bench {
    let mut bench = Bench::new();
    bench.setup.caps.idr0.set_s2p(true);
    // Config=111.
    bench.ram.set_all(STE, &[0xf | CD, 0, DW2_STE, FIRST]);
    bench.ram.set(FIRST, SECOND | 3);
    bench.ram.set(SECOND, THIRD | 3);
    for page in 0..16 {
        bench.ram.set(THIRD + 8 * page, page << 12 | RIGHTS | 3);
    }
    // OUTPUT is in the third GiB: a level 2 table of its own, with a block of 2 MiB.
    bench.ram.set(FIRST + 8 * 2, 0xb000 | 3);
    bench
        .ram
        .set(0xb000 + 8 * (OUTPUT >> 21 & 511), FINAL | RIGHTS | 1);
    bench
}

fn fails(bench: &Bench) -> Failed {
    match bench.translate(PAGE, Read, true) {
        Err(failed) => failed,
        Ok(fine) => panic!("{fine:?}"),
    }
}

#[test]
fn both_stages_translate_and_the_smaller_page_counts() {
    let bench = nested();
    let offset = OUTPUT & 0x1f_ffff;
    assert_eq!(bench.read(PAGE + 0x123), Ok(FINAL + offset + 0x123));
    let Ok(Translated::Mapped(leaf)) = bench.translate(PAGE, Write, false) else {
        panic!("mapped");
    };
    assert_eq!(
        (leaf.shift, leaf.base, leaf.global),
        (12, FINAL + offset, false)
    );
    // The leaf allows what both stages allow.
    let write = Access {
        address: PAGE,
        operation: Write,
        privileged: false,
    };
    assert!(leaf.permissions.allow(&write));
    bench.ram.set(
        0xb000 + 8 * (OUTPUT >> 21 & 511),
        FINAL | (RIGHTS & !(1 << 7)) | 1,
    );
    let Ok(Translated::Mapped(leaf)) = bench.translate(PAGE, Read, false) else {
        panic!("readable");
    };
    assert!(!leaf.permissions.allow(&write));
    // A block of stage 1 over pages of stage 2.
    bench
        .ram
        .set(Bench::SECOND_AT, LEAF & !0x001f_f002 & !OUTPUT | 0xf45 & !2);
    let address = PAGE & !0x1f_ffff | 0x7abc;
    assert_eq!(bench.read(address), Ok(0x7abc));
}

/// A fault of stage 2 says so, says why stage 2 was walked, and carries the IPA.
#[test]
fn peers_row21_a_nested_fault_names_its_ipa_and_class() {
    let spoiled = [
        (THIRD + 8 * (CD >> 12), Class::Cd, CD),
        (
            THIRD + 8 * (TTB0 >> 12),
            Class::TranslationTable,
            TTB0 + 8 * 4,
        ),
        (0xb000 + 8 * (OUTPUT >> 21 & 511), Class::Input, OUTPUT),
    ];
    for (at, class, ipa) in spoiled {
        let bench = nested();
        let good = bench.ram.get(at).expect("a descriptor");
        bench.ram.set(at, good & !1);
        let record = fails(&bench).record(None);
        assert_eq!(record.id(), Some(EventId::Translation), "{class:?}");
        assert_eq!(
            (record.dw1().s2(), record.dw1().class()),
            (true, class as u8)
        );
        assert_eq!((record.ipa(), record.input_addr()), (ipa & !0xfff, PAGE));
        // No access flag; not readable.
        bench.ram.set(at, good & !(1 << 10));
        assert_eq!(
            fails(&bench).fault.event(),
            EventId::AccessFlag,
            "{class:?}"
        );
        bench.ram.set(at, good & !(1 << 6));
        let record = fails(&bench).record(None);
        assert_eq!(record.id(), Some(EventId::Permission));
        assert_eq!(record.dw1().ttrnw(), class == Class::TranslationTable);
        // A table that is not there.
        bench.ram.set(FIRST, 0x0100_0003);
        bench.ram.set(FIRST + 16, 0x0100_0003);
        let record = fails(&bench).record(None);
        assert_eq!(record.id(), Some(EventId::WalkAbort));
    }
}

#[test]
fn the_ste_says_what_becomes_of_a_stage_2_fault() {
    let bench = nested();
    bench.ram.set(0xb000 + 8 * (OUTPUT >> 21 & 511), 0);
    let verdict = |bench: &Bench| {
        let verdict = fails(bench).verdict;
        (verdict.response, verdict.record)
    };
    assert_eq!(verdict(&bench), (Response::Abort, true));
    // S2R=0; the CD's R does not count.
    bench.ram.set(STE + 16, DW2_STE & !(1 << 58));
    assert_eq!(verdict(&bench), (Response::Abort, false));
    // A fault of stage 1 goes by the CD, whatever the STE says.
    bench.ram.set(Bench::LEAF_AT, 0);
    assert_eq!(verdict(&bench), (Response::Abort, true));
}

/// S2PTW: a stage 1 table in Device memory is a permission fault.
#[test]
fn protected_walks_refuse_device_memory() {
    let bench = nested();
    let table = THIRD + 8 * (TTB0 >> 12);
    bench.ram.set(table, TTB0 & !0xfff | (RIGHTS & !0x3c) | 3);
    assert!(bench.read(PAGE).is_ok());
    bench.ram.set(STE + 16, DW2_STE | 1 << 54);
    assert!(matches!(fails(&bench).fault, Fault::Permission(_)));
}

#[test]
fn stage_2_alone_translates_the_input() {
    let bench = nested();
    bench.ram.set(STE, 0xd);
    assert_eq!(bench.read(OUTPUT), Ok(FINAL + (OUTPUT & 0x1f_ffff)));
    let Err(failed) = bench.translate(1 << 39, Write, false) else {
        panic!("beyond 39 bits");
    };
    assert_eq!(failed.fault.event(), EventId::Translation);
    assert_eq!(failed.record(None).ipa(), 1 << 39);
    // Without S2P the configuration does not exist.
    let mut bench = nested();
    bench.setup.caps.idr0.set_s2p(false);
    assert_eq!(bench.read(PAGE), Err(Fault::BadSte));
}

/// S1DSS=1: traffic without SubstreamID goes through stage 2 only.
#[test]
fn a_bypassed_stage_1_still_has_its_stage_2() {
    let bench = nested();
    bench.ram.set(STE, 0x1000_0000_0000_000f | CD);
    bench.ram.set(STE + 8, 1);
    assert_eq!(bench.read(OUTPUT), Ok(FINAL + (OUTPUT & 0x1f_ffff)));
    bench.ram.set_all(CD, &[DW0_CD, TTB0, TTB1]);
    assert!(bench.of_substream(Some(0), PAGE, Read, true).is_ok());
}

/// Stage 2 alone: an input beyond IAS is a fault of the bypassed stage 1, which aborts with a record
/// whatever S2R says; one below that and beyond S2T0SZ is stage 2's.
#[test]
fn stage_2_alone_checks_its_input_as_a_bypassed_stage_1() {
    let bench = nested();
    // Config=110, S2R=0.
    bench.ram.set_all(STE, &[0xd, 0, DW2_STE & !(1 << 58)]);
    assert_eq!(bench.read(0x3000), Ok(0x3000));
    let beyond = |address| bench.translate(address, Read, true).expect_err("a fault");
    let failed = beyond(1 << 48);
    assert_eq!(failed.fault, Fault::InputSize);
    assert!(failed.verdict.record && failed.verdict.response == Response::Abort);
    let record = failed.record(None);
    assert_eq!(record.id(), Some(EventId::AddressSize));
    assert!(!record.dw1().s2() && record.dw1().class() == Class::Input as u8);
    assert_eq!(record.input_addr(), 1 << 48);
    let failed = beyond(1 << 39);
    assert_eq!(failed.fault.event(), EventId::Translation);
    assert!(!failed.verdict.record);
}
