//! The stage 2 half of STEs, rule by rule.

use smmu_core::Gpa;
use smmu_core::caps::Capabilities;
use smmu_core::config::{Ats, StreamConfig, interpret};
use smmu_core::fault::Fault;
use smmu_core::spec::ste::Ste;

type Change = fn(&mut [u64; 8], &mut Capabilities);

/// Config=110, VMID 7, T0SZ=24 (40 bits), SL0=1 (level 1), 4 KiB, S2PS=40 bits, AA64, S2R.
fn ste_with(change: impl FnOnce(&mut [u64; 8], &mut Capabilities)) -> Result<StreamConfig, Fault> {
    let mut caps = Capabilities::default();
    caps.idr0.set_s2p(true);
    let dw2 = 7 | 24 << 32 | 1 << 38 | 2 << 48 | 1 << 51 | 1 << 58;
    let mut words = [0xd, 0, dw2, 0x9000_2000, 0, 0, 0, 0];
    change(&mut words, &mut caps);
    interpret(&Ste(words), &caps)
}

#[test]
fn a_stage_2_ste_is_understood() {
    let Ok(StreamConfig::Stage2(attributes, stage2)) = ste_with(|_, _| ()) else {
        panic!("a valid stage 2");
    };
    assert_eq!((attributes.vmid.0, stage2.start_level), (7, 1));
    assert_eq!((stage2.input_bits, stage2.output_bits), (40, 40));
    // Ten index bits: two tables, one behind the other, aligned to 8 KiB.
    assert_eq!(stage2.table, Gpa(0x9000_2000));
    let misaligned = ste_with(|ste, _| ste[3] |= 0x1000);
    assert_eq!(
        misaligned.ok().and_then(|c| c.stage2().map(|s| s.table)),
        Some(Gpa(0x9000_2000))
    );
    assert!(stage2.policy.record && stage2.policy.abort && !stage2.policy.stall);
}

#[test]
fn every_reason_for_c_bad_ste_of_stage_2() {
    let reasons: [(&str, Change); 13] = [
        ("no stage 2", |_, caps| caps.idr0.set_s2p(false)),
        ("AArch32 tables", |ste, _| ste[2] &= !(1 << 51)),
        ("reserved granule", |ste, _| ste[2] |= 3 << 46),
        ("granule not supported", |ste, _| ste[2] |= 1 << 46),
        ("wider than IAS", |_, caps| caps.idr5.set_oas(1)),
        ("table beyond S2PS", |ste, _| ste[3] |= 1 << 40),
        ("table beyond OAS", |ste, caps| {
            ste[2] |= 5 << 48;
            ste[3] |= 1 << 44;
            caps.idr5.set_oas(4);
        }),
        ("hardware access flag", |ste, _| ste[2] |= 1 << 56),
        ("hardware dirty state", |ste, caps| {
            ste[2] |= 1 << 55;
            caps.idr0.set_httu(1);
        }),
        ("big-endian tables", |ste, _| ste[2] |= 1 << 52),
        ("stalls", |ste, _| ste[2] |= 1 << 57),
        ("no stalls", |_, caps| caps.idr0.set_stall_model(2)),
        ("16-bit VMID", |ste, _| ste[2] |= 1 << 8),
    ];
    for (reason, change) in reasons {
        assert_eq!(ste_with(change), Err(Fault::BadSte), "{reason}");
    }
}

/// Granule code, S2SL0, and the sizes of IPA that the start level allows: the table of the
/// architecture, up to 48 bits. Small tables are on, so that T0SZ does not limit it first.
#[test]
fn start_levels_allow_the_sizes_of_the_architecture() {
    let table = [
        (0, 0, 22, 34),
        (0, 1, 31, 43),
        (0, 2, 40, 48),
        (0, 3, 16, 25),
        (2, 0, 16, 29),
        (2, 1, 26, 40),
        (2, 2, 37, 48),
        (1, 0, 17, 33),
        (1, 1, 30, 46),
        (1, 2, 43, 48),
    ];
    let valid = |tg: u64, sl0: u64, bits: u64| {
        let config = ste_with(|ste, caps| {
            caps.idr3.set_stt(true);
            caps.idr5.set_gran16k(true);
            caps.idr5.set_gran64k(true);
            ste[2] = (64 - bits) << 32 | sl0 << 38 | tg << 46 | 5 << 48 | 1 << 51;
            ste[3] = 0;
        });
        config.is_ok()
    };
    for (tg, sl0, least, most) in table {
        for bits in 1..=52 {
            let expected = (least..=most).contains(&bits);
            assert_eq!(
                valid(tg, sl0, bits),
                expected,
                "TG={tg} SL0={sl0}: {bits} bits"
            );
        }
    }
    for tg in [1, 2] {
        assert!(
            (1..=52).all(|bits| !valid(tg, 3, bits)),
            "SL0=3 of TG={tg} is reserved"
        );
    }
    // Without small tables T0SZ is at most 39, and no walk starts at level 3 of 4 KiB.
    assert!(ste_with(|ste, _| ste[2] ^= (24 ^ 40) << 32 | 1 << 38).is_err());
    assert!(ste_with(|ste, _| ste[2] ^= (24 ^ 39) << 32 | 1 << 38).is_ok());
    assert!(ste_with(|ste, _| ste[2] ^= (24 ^ 39) << 32 | 2 << 38).is_err());
}

/// EATS: 1 wants a stage 2 that does not stall, 2 both stages and IDR0.NS1ATS=0 as well.
#[test]
fn ats_and_stage_2() {
    let ats = |config: u64, eats: u64, stalls: u64, ns1ats: bool| {
        let config = ste_with(|ste, caps| {
            *caps = caps.with_ats();
            caps.idr0.set_stall_model(0);
            caps.idr0.set_ns1ats(ns1ats);
            ste[0] = 1 | config << 1;
            ste[1] = eats << 28;
            ste[2] |= stalls << 57;
        });
        config.map(|c| c.attributes().map(|a| a.ats))
    };
    let bad = Err(Fault::BadSte);
    assert_eq!(ats(6, 1, 0, false), Ok(Some(Ats::Full)));
    assert_eq!(ats(6, 1, 1, false), bad);
    assert_eq!(ats(6, 2, 0, false), bad);
    assert_eq!(ats(7, 2, 0, false), Ok(Some(Ats::Split)));
    assert_eq!(ats(7, 2, 1, false), bad);
    assert_eq!(ats(7, 2, 0, true), bad);
    assert_eq!(ats(7, 0, 1, true), Ok(Some(Ats::Refused)));
    assert_eq!(ats(4, 2, 1, true), Ok(Some(Ats::Refused)));
}

/// What a stream of stage 1 alone is tagged with is what a TLBI can name.
#[test]
fn law7_a_stage_1_stream_has_no_bits_in_its_vmid_that_no_vmid_has() {
    for (wide, tag) in [(false, 5), (true, 0x105)] {
        let config = ste_with(|ste, caps| {
            caps.idr0.set_vmid16(wide);
            (ste[0], ste[2]) = (0xb | 0x8000_0000, 0x105);
        });
        let Ok(StreamConfig::Stage1(attributes, _)) = config else {
            panic!("{config:?}");
        };
        assert_eq!(attributes.vmid.0, tag);
    }
}
