//! CD tables and CDs, rule by rule.

use crate::bench::{Bench, CD, DW0_CD, DW0_STE, LEAF, OUTPUT, PAGE, STE, TTB0, TTB1};
use smmu_core::Gpa;
use smmu_core::access::Operation;
use smmu_core::caps::Capabilities;
use smmu_core::fault::{Fault, Response};

fn read_with(change: impl FnOnce(&mut [u64; 4], &mut Capabilities)) -> Result<u64, Fault> {
    let mut bench = Bench::new();
    let mut words = [DW0_CD, TTB0, TTB1, 0];
    change(&mut words, &mut bench.setup.caps);
    bench.ram.set_all(CD, &words);
    bench.read(PAGE)
}

#[test]
fn every_reason_for_c_bad_cd() {
    type Change = fn(&mut [u64; 4], &mut Capabilities);
    let reasons: [(&str, Change); 17] = [
        ("V=0", |cd, _| cd[0] &= !(1 << 31)),
        ("AArch32 tables", |cd, _| cd[0] &= !(1 << 41)),
        ("big-endian tables", |cd, _| cd[0] |= 1 << 15),
        ("A=0 where everything aborts", |cd, _| cd[0] &= !(1 << 46)),
        ("S=1 without stalls", |cd, _| cd[0] |= 1 << 44),
        ("S=0 where everything stalls", |_, caps| {
            caps.idr0.set_stall_model(2);
        }),
        ("HA without updates", |cd, _| cd[0] |= 1 << 43),
        ("HD with access flags only", |cd, caps| {
            cd[0] |= 1 << 42;
            caps.idr0.set_httu(1);
        }),
        ("ASID wider than 8 bits", |cd, caps| {
            cd[0] |= 1 << 60;
            caps.idr0.set_asid16(false);
        }),
        ("T0SZ=15", |cd, _| cd[0] ^= 25 ^ 15),
        ("T0SZ=40", |cd, _| cd[0] ^= 25 ^ 40),
        ("TG0 reserved", |cd, _| cd[0] |= 3 << 6),
        ("TG0 of 64 KiB, not supported", |cd, _| cd[0] |= 1 << 6),
        // The other half poisons the whole CD.
        ("T1SZ=40", |cd, _| cd[0] ^= (25 ^ 40) << 16),
        ("TG1 reserved", |cd, _| cd[0] &= !(3 << 22)),
        ("TG1 of 16 KiB, not supported", |cd, _| cd[0] ^= 3 << 22),
        ("TTB1", |cd, _| cd[2] |= 1 << 48),
    ];
    assert_eq!(read_with(|_, _| ()), Ok(OUTPUT));
    for (reason, change) in reasons {
        assert_eq!(read_with(change), Err(Fault::BadCd), "{reason}");
    }
}

/// EPD1 takes the upper half out of the check; bits that mean nothing are ignored.
#[test]
fn a_disabled_half_is_not_checked() {
    let unchecked = |cd: &mut [u64; 4], _: &mut Capabilities| {
        cd[0] = (cd[0] | 1 << 30 | 63 << 16) & !(3 << 22);
        cd[2] = !0;
    };
    assert_eq!(read_with(unchecked), Ok(OUTPUT));
    assert_eq!(
        read_with(|cd, _| cd[0] |= 1 << 14),
        Err(Fault::Translation(crate::walk::STAGE1))
    );
    // UWXN, ASET and the low bits of a table's address.
    let ignored = |cd: &mut [u64; 4], _: &mut Capabilities| {
        cd[0] |= 1 << 37 | 1 << 47;
        cd[1] |= 0xff0;
    };
    assert_eq!(read_with(ignored), Ok(OUTPUT));
}

/// HAFT is RES0 while IDR0.HTTU is not 3, and asks for HA then (5.4).
#[test]
fn table_access_flags_mean_nothing_where_they_are_not_offered() {
    for httu in 0..3 {
        let haft = |cd: &mut [u64; 4], caps: &mut Capabilities| {
            cd[1] |= 1 << 3;
            caps.idr0.set_httu(httu);
        };
        assert_eq!(read_with(haft), Ok(OUTPUT), "HTTU={httu}");
    }
    let offered = |cd: &mut [u64; 4], caps: &mut Capabilities| {
        cd[1] |= 1 << 3;
        caps.idr0.set_httu(3);
    };
    assert_eq!(read_with(offered), Err(Fault::BadCd));
}

/// HD without HA is legal with HTTU=2, and nothing is updated.
#[test]
fn dirty_updates_alone_are_none() {
    let alone = |cd: &mut [u64; 4], caps: &mut Capabilities| {
        cd[0] |= 1 << 42;
        caps.idr0.set_httu(2);
    };
    assert_eq!(read_with(alone), Ok(OUTPUT));
}

/// Row 20 of the peers' bugs: a table beyond the output size must make the CD invalid, and an
/// output address beyond it an address size fault.
#[test]
fn peers_row20_ttb_wider_than_allowed_faults() {
    // IPS=1 is 36 bits; OAS is 48.
    let small = |cd: &mut [u64; 4]| cd[0] ^= (5 ^ 1) << 32;
    assert_eq!(read_with(|cd, _| small(cd)), Ok(OUTPUT));
    let beyond_ips = read_with(|cd, _| {
        small(cd);
        cd[1] |= 1 << 36;
    });
    assert_eq!(beyond_ips, Err(Fault::BadCd));
    // IPS=48 bits, but the SMMU has only 40.
    let beyond_oas = read_with(|cd, caps| {
        caps.idr5.set_oas(2);
        cd[1] |= 1 << 40;
    });
    assert_eq!(beyond_oas, Err(Fault::BadCd));
    let size_fault = Err(Fault::AddressSize(crate::walk::STAGE1));
    for (at, descriptor) in [
        (Bench::LEAF_AT, LEAF | 1 << 40),
        (Bench::SECOND_AT, 0x5003 | 1 << 40),
        (Bench::FIRST_AT, 0x4003 | 1 << 40),
    ] {
        let mut bench = Bench::new();
        bench.setup.caps.idr5.set_oas(2);
        assert_eq!(bench.read(PAGE), Ok(OUTPUT));
        bench.ram.set(at, descriptor);
        assert_eq!(bench.read(PAGE), size_fault, "descriptor at {at:#x}");
    }
}

#[test]
fn substreams_choose_a_cd_or_fault() {
    let read = |s1dss: u64, substream: Option<u32>| {
        let bench = Bench::new();
        // Four CDs: the first two are valid.
        bench.ram.set(STE, DW0_STE | 2 << 59);
        bench.ram.set(STE + 8, s1dss);
        bench.ram.set_all(CD + 64, &[DW0_CD, TTB0, TTB1]);
        bench
            .of_substream(substream, PAGE, Operation::Read, true)
            .map_err(|f| f.fault)
    };
    let ok = |s1dss, substream| read(s1dss, substream).is_ok();
    assert!(ok(0, Some(0)) && ok(0, Some(1)) && ok(1, Some(0)) && ok(2, Some(1)));
    assert_eq!(read(0, Some(2)), Err(Fault::BadCd));
    assert_eq!(read(0, Some(4)), Err(Fault::BadSubstreamId));
    // Without a SubstreamID: terminate, bypass, CD 0, and the reserved 3 is 0.
    assert_eq!(read(0, None), Err(Fault::StreamDisabled));
    assert_eq!(
        read(1, None),
        Ok(smmu_core::translate::Translated::Bypassed(PAGE))
    );
    assert!(ok(2, None));
    assert_eq!(read(3, None), Err(Fault::StreamDisabled));
    // CD 0 belongs to traffic without SubstreamID then.
    assert_eq!(read(2, Some(0)), Err(Fault::StreamDisabled));
}

#[test]
fn two_level_cd_tables() {
    let bench = Bench::new();
    // S1Fmt=1 (64 CDs), S1CDMax=8: the table at CD holds four descriptors.
    bench.ram.set(STE, DW0_STE | 1 << 4 | 8 << 59);
    bench.ram.set_all(CD, &[0, 0xc001, 0x7_0001, 0xc000]);
    bench.ram.set_all(0xc000 + 64 * 5, &[DW0_CD, TTB0, TTB1, 0]);
    let fault = |substream| {
        let result = bench.of_substream(Some(substream), PAGE, Operation::Read, true);
        result.map_err(|f| f.fault).err()
    };
    assert_eq!(fault(64 + 5), None);
    assert_eq!(fault(64 + 4), Some(Fault::BadCd));
    // An invalid first-level descriptor is a bad SubstreamID.
    assert_eq!(fault(5), Some(Fault::BadSubstreamId));
    assert_eq!(fault(3 * 64), Some(Fault::BadSubstreamId));
    // An unreadable second level is a failed fetch, with the address of the CD.
    assert_eq!(fault(2 * 64 + 1), Some(Fault::CdFetch(Gpa(0x7_0040))));
    // S1Fmt=2: 1024 CDs, of a table that is aligned to 64 KiB.
    bench.ram.set(STE, DW0_STE | 2 << 4 | 11 << 59);
    bench.ram.set_all(CD, &[0xc001]);
    bench.ram.set_all(64 * 5, &[DW0_CD, TTB0, TTB1, 0]);
    assert_eq!(fault(5), None);
}

#[test]
fn contexts_of_el2_have_one_half_and_no_asid() {
    let mut bench = Bench::new();
    bench.setup.caps.idr0.set_hyp(true);
    bench.setup.caps.idr0.set_asid16(false);
    bench.ram.set(STE + 8, 2 << 30);
    // EPD0 and the upper half are not looked at, nor is the ASID.
    bench
        .ram
        .set(CD, (DW0_CD | 1 << 14 | 0x8000 << 48) & !(3 << 22));
    assert_eq!(bench.read(PAGE), Ok(OUTPUT));
    assert_eq!(
        bench.read(!0 << 39),
        Err(Fault::Translation(crate::walk::STAGE1))
    );
    // With E2H they count again.
    bench.setup.e2h = true;
    assert_eq!(bench.read(PAGE), Err(Fault::BadCd));
}

/// Row 1 of the peers' bugs, its second half: CD.A was not looked at.
#[test]
fn peers_row1_the_cd_says_what_becomes_of_a_fault() {
    let mut bench = Bench::new();
    bench.setup.caps.idr0.set_stall_model(0);
    bench.setup.caps.idr0.set_term_model(false);
    // {A,R,S} at bits 46, 45, 44; the table of 5.5.
    for (ars, response, record) in [
        (0b000, Response::RazWi, false),
        (0b010, Response::RazWi, true),
        (0b100, Response::Abort, false),
        (0b110, Response::Abort, true),
        (0b001, Response::Stall, true),
        (0b101, Response::Stall, true),
    ] {
        // A is bit 46, R 45 and S 44.
        let a_r_s = (ars >> 2 & 1) << 46 | (ars >> 1 & 1) << 45 | (ars & 1) << 44;
        bench.ram.set(CD, DW0_CD & !(7 << 44) | a_r_s);
        let Err(failed) = bench.translate(PAGE + 0x1000, Operation::Read, true) else {
            panic!("the next page is not mapped");
        };
        let verdict = failed.verdict;
        assert_eq!(
            (verdict.response, verdict.record),
            (response, record),
            "ARS={ars:03b}"
        );
    }
    // Whatever they are, an aborted walk aborts and is recorded.
    bench.ram.set(CD, DW0_CD & !(7 << 44));
    bench.ram.set(Bench::SECOND_AT, 0x0100_0003);
    let Err(failed) = bench.translate(PAGE, Operation::Read, true) else {
        panic!("the table is not there");
    };
    assert_eq!(
        (failed.verdict.response, failed.verdict.record),
        (Response::Abort, true)
    );
}
