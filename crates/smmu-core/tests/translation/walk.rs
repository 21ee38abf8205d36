//! Walks of stage 1, rule by rule.

use crate::bench::{Bench, CD, DW0_CD, LEAF, OUTPUT, PAGE, STE, TTB0, UPPER_PAGE};
use smmu_core::Gpa;
use smmu_core::access::Operation::{Execute, Read, Write};
use smmu_core::attributes::StageAttributes;
use smmu_core::fault::{Fault, Place};
use smmu_core::range::Granule;
use smmu_core::spec::event::{Class, EventId};
use smmu_core::translate::Translated;

pub(crate) const STAGE1: Place = Place::Stage1;
const TRANSLATION: Fault = Fault::Translation(STAGE1);

/// Row 28 of the peers' bugs: the upper half, and addresses of all 64 bits.
#[test]
fn peers_row28_ttb1_and_64bit_addresses() {
    let bench = Bench::new();
    assert_eq!(bench.read(UPPER_PAGE + 0xabc), Ok(OUTPUT + 0xabc));
    assert_eq!(
        bench.record(0xffff_ff80_0000_0000).input_addr(),
        0xffff_ff80_0000_0000
    );
    // 39 bits: bit 39 and everything above must repeat bit 55, of either half.
    for bit in 39..64 {
        assert_eq!(bench.read(PAGE ^ 1 << bit), Err(TRANSLATION), "bit {bit}");
        assert_eq!(
            bench.read(UPPER_PAGE ^ 1 << bit),
            Err(TRANSLATION),
            "bit {bit}"
        );
    }
    // The two halves have tables of their own.
    bench.ram.set(0x7000 + 8 * 0x56, LEAF ^ 0x0100_0000);
    assert_eq!(bench.read(UPPER_PAGE), Ok(OUTPUT ^ 0x0100_0000));
    assert_eq!(bench.read(PAGE), Ok(OUTPUT));
}

#[test]
fn the_top_byte_is_ignored_by_the_half_that_says_so() {
    for (tbi, lower, upper) in [(0, false, false), (1, true, false), (2, false, true)] {
        let bench = Bench::new();
        bench.ram.set(CD, DW0_CD | tbi << 38);
        assert_eq!(bench.read(PAGE | 0xa5 << 56).is_ok(), lower, "TBI={tbi}");
        assert_eq!(
            bench.read(UPPER_PAGE ^ 0xa5 << 56).is_ok(),
            upper,
            "TBI={tbi}"
        );
        // Bits 54 and 55 always count.
        assert_eq!(bench.read(PAGE ^ 1 << 54), Err(TRANSLATION));
        assert_eq!(bench.read(UPPER_PAGE ^ 1 << 54), Err(TRANSLATION));
    }
}

#[test]
fn blocks_of_every_size() {
    let bench = Bench::new();
    bench.ram.set(Bench::SECOND_AT, 0x8760_0f45 | 0x6000);
    // The bits below the block's size do not count.
    assert_eq!(bench.read(PAGE + 0x123), Ok(0x8765_6123));
    // Nor does nT, which an SMMU of break-before-make level 2 ignores.
    bench.ram.set(Bench::SECOND_AT, 0x8760_0f45 | 1 << 16);
    assert_eq!(bench.read(PAGE + 0x123), Ok(0x8765_6123));
    bench.ram.set(Bench::FIRST_AT, 0x4000_0f45);
    let Ok(Translated::Mapped(leaf)) = bench.translate(PAGE, Read, true) else {
        panic!("a block of 1 GiB");
    };
    assert_eq!((leaf.level, leaf.shift, leaf.base), (1, 30, 0x4000_0000));
    assert_eq!((leaf.granule, leaf.global), (Granule::K4, false));
    assert_eq!(leaf.memory, StageAttributes::of_stage1(0xff, 3));
    assert_eq!(leaf.output(PAGE), 0x6345_6000);
    // A block in the last level is reserved; level 0 has none.
    bench.ram.set(Bench::FIRST_AT, 0x4003);
    bench.ram.set(Bench::SECOND_AT, 0x5003);
    bench.ram.set(Bench::LEAF_AT, LEAF & !2);
    assert_eq!(bench.read(PAGE), Err(TRANSLATION));
    bench.ram.set(CD, DW0_CD ^ (25 ^ 16));
    bench.ram.set(TTB0, 0x8765_4f45);
    assert_eq!(bench.read(PAGE), Err(TRANSLATION));
    bench.ram.set(TTB0, 0xc003);
    bench.ram.set(0xc000 + 8 * 4, 0x4000_0f45);
    assert_eq!(
        bench.read(PAGE),
        Ok(0x6345_6000),
        "48 bits start at level 0"
    );
}

/// Range, abort, invalid, size, access flag, permission: the first of them wins.
#[test]
fn faults_come_in_the_architecture_s_order() {
    let bench = Bench::new();
    let write = |address| {
        bench
            .translate(address, Write, true)
            .map_err(|f| f.fault)
            .err()
    };
    // All of it wrong: read-only, no access flag, too wide, invalid.
    bench.ram.set(CD, DW0_CD ^ (5 ^ 1) << 32);
    let wrong = (LEAF & !(1 << 10)) | 1 << 7 | 1 << 40;
    bench.ram.set(Bench::LEAF_AT, wrong & !1);
    assert_eq!(write(PAGE | 1 << 60), Some(TRANSLATION));
    assert_eq!(write(PAGE), Some(TRANSLATION));
    bench.ram.set(Bench::LEAF_AT, wrong);
    assert_eq!(write(PAGE), Some(Fault::AddressSize(STAGE1)));
    bench.ram.set(Bench::LEAF_AT, wrong & !(1 << 40));
    assert_eq!(write(PAGE), Some(Fault::AccessFlag(STAGE1)));
    bench.ram.set(Bench::LEAF_AT, wrong & !(1 << 40) | 1 << 10);
    assert_eq!(write(PAGE), Some(Fault::Permission(STAGE1)));
    bench.ram.set(Bench::LEAF_AT, LEAF);
    assert_eq!(write(PAGE), None);
    // AFFD switches access flag faults off.
    bench.ram.set(CD, DW0_CD | 1 << 35);
    bench.ram.set(Bench::LEAF_AT, LEAF & !(1 << 10));
    assert_eq!(write(PAGE), None);
}

/// A table may forbid what its leaf allows; the fault is one of permission, at the leaf.
#[test]
fn tables_restrict_what_lies_below_unless_disabled() {
    let mut bench = Bench::new();
    bench.setup.caps.idr3.set_e0pd(true);
    // [read, write, execute] without privilege, then with.
    let rights = |bench: &Bench| {
        [false, true].map(|privileged| {
            [Read, Write, Execute].map(|op| match bench.translate(PAGE, op, privileged) {
                Ok(_) => true,
                Err(failed) => {
                    assert_eq!(failed.fault, Fault::Permission(STAGE1));
                    false
                }
            })
        })
    };
    // What an unprivileged program may write, privileged code may not execute.
    assert_eq!(rights(&bench), [[true, true, true], [true, true, false]]);
    let with_table = |bits: u64| {
        bench.ram.set(Bench::FIRST_AT, 0x4003 | bits << 59);
        rights(&bench)
    };
    assert_eq!(
        with_table(0b0100),
        [[false, false, true], [true, true, true]]
    );
    assert_eq!(
        with_table(0b1000),
        [[true, false, true], [true, false, true]]
    );
    assert_eq!(
        with_table(0b0010),
        [[true, true, false], [true, true, false]]
    );
    assert_eq!(
        with_table(0b1001),
        [[true, false, true], [true, false, false]]
    );
    // HAD0.
    bench.ram.set(CD + 8, TTB0 | 2);
    assert_eq!(
        with_table(0b1111),
        [[true, true, true], [true, true, false]]
    );
    // PAN, WXN.
    bench.ram.set(CD, DW0_CD | 1 << 40);
    assert_eq!(rights(&bench), [[true, true, true], [false, false, false]]);
    bench.ram.set(CD, DW0_CD | 1 << 36);
    assert_eq!(rights(&bench), [[true, true, false], [true, true, false]]);
    // E0PD0: unprivileged accesses find nothing.
    bench.ram.set(CD, DW0_CD);
    bench.ram.set(CD + 8, TTB0 | 4);
    let fault = bench.translate(PAGE, Read, false).map_err(|f| f.fault);
    assert_eq!(fault, Err(TRANSLATION));
    assert!(bench.translate(PAGE, Read, true).is_ok());
}

#[test]
fn records_carry_every_field() {
    let bench = Bench::new();
    // Four CDs, so that there are substreams.
    bench.ram.set(STE, 0x1000_0000_0000_100b);
    let failed = bench
        .of_substream(Some(0), PAGE + 0x1abc, Execute, true)
        .expect_err("the next page is not mapped");
    // SSV, SSID 0, SID 3. PnU, InD, RnW; CLASS=IN.
    let expected = [
        0x0000_0003_0000_0810,
        0x0000_020e_0000_0000,
        PAGE + 0x1abc,
        0,
    ];
    assert_eq!(failed.record(None).0, expected);
    let stalled = failed.record(Some(smmu_core::Stag(0x1234)));
    assert_eq!(stalled.0[1], 0x0000_020e_8000_1234);
    // An abort of the walk: CLASS=TT, and the address of the descriptor.
    bench.ram.set(Bench::FIRST_AT, 0x0100_0003);
    let failed = bench
        .of_substream(Some(0), PAGE, Write, false)
        .expect_err("the table is not there");
    assert_eq!(failed.fault, Fault::WalkAbort(STAGE1, Gpa(0x0100_08d0)));
    assert_eq!(
        failed.record(None).0,
        [0x0000_0003_0000_080b, 1 << 40, PAGE, 0x0100_08d0]
    );
}

/// Row 21: a fault of stage 2 carries the IPA. And each CLASS says what was being fetched.
#[test]
fn peers_row21_stage_2_faults_carry_the_ipa() {
    let transaction = smmu_core::access::Transaction {
        stream: smmu_core::StreamId(9),
        substream: None,
        access: smmu_core::access::Access {
            address: PAGE,
            operation: Read,
            privileged: false,
        },
    };
    for class in [Class::Cd, Class::TranslationTable, Class::Input] {
        let place = Place::Stage2 {
            class,
            ipa: 0x0012_3456_789a_bcde,
        };
        let record = Fault::Permission(place).record(&transaction, None);
        let word = record.dw1();
        assert_eq!(record.id(), Some(EventId::Permission));
        assert_eq!((word.s2(), word.class()), (true, class as u8));
        assert_eq!(word.ttrnw(), class == Class::TranslationTable);
        assert_eq!(
            (record.ipa(), record.input_addr()),
            (0x0012_3456_789a_b000, PAGE)
        );
    }
}

#[test]
fn big_endian_tables() {
    let mut bench = Bench::new();
    bench.setup.caps.idr0.set_ttendian(0);
    bench.ram.set(CD, DW0_CD | 1 << 15);
    for (at, descriptor) in [
        (Bench::FIRST_AT, 0x4003),
        (Bench::SECOND_AT, 0x5003),
        (Bench::LEAF_AT, LEAF),
    ] {
        assert_eq!(bench.read(PAGE), Err(TRANSLATION));
        bench.ram.set(at, u64::swap_bytes(descriptor));
    }
    assert_eq!(bench.read(PAGE), Ok(OUTPUT));
}

#[test]
fn overrides_of_the_stream_apply_where_they_exist() {
    let mut bench = Bench::new();
    // PRIVCFG=privileged, INSTCFG=data; a page for privileged data only.
    bench.ram.set(STE + 8, 3 << 48 | 2 << 50);
    bench.ram.set(Bench::LEAF_AT, LEAF & !(1 << 6) | 3 << 53);
    assert!(bench.translate(PAGE, Execute, false).is_err());
    bench.setup.caps.idr1.set_attr_perms_ovr(true);
    assert!(bench.translate(PAGE, Execute, false).is_ok());
    // PRIVCFG=unprivileged, INSTCFG=instruction; writes stay data.
    bench.ram.set(STE + 8, 2 << 48 | 3 << 50);
    bench.ram.set(Bench::LEAF_AT, LEAF | 1 << 54);
    let failed = bench
        .translate(PAGE, Read, true)
        .expect_err("not executable");
    assert!(failed.record(None).dw1().ind() && !failed.record(None).dw1().pnu());
    assert!(bench.translate(PAGE, Write, true).is_ok());
}
