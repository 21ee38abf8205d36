//! Stream tables and STEs, rule by rule.

use crate::bench::{Bench, CD, DW0_STE, PAGE, STE, STREAM};
use crate::naive::Ram;
use smmu_core::access::Operation;
use smmu_core::caps::Capabilities;
use smmu_core::config::{Ats, ContextTableFormat, DefaultSubstream, StreamConfig, StreamTable};
use smmu_core::fault::{Fault, Response};
use smmu_core::spec::register::{StrtabBase, StrtabBaseCfg};
use smmu_core::spec::ste::Ste;
use smmu_core::{Gpa, StreamId};

fn table(base: u64, cfg: u32, caps: &Capabilities) -> StreamTable {
    StreamTable::from_registers(
        StrtabBase::from_bits(base),
        StrtabBaseCfg::from_bits(cfg),
        caps,
    )
}

/// Row 6 of the peers' bugs: an unsupported table format was taken for a supported one. FMT=2
/// and 3 are linear, and so is everything without IDR0.ST_LEVEL.
#[test]
fn peers_row6_unsupported_strtab_format() {
    let caps = Capabilities::default();
    let mut linear_only = caps;
    linear_only.idr0.set_st_level(0);
    for (fmt, two_level) in [(0, false), (1, true), (2, false), (3, false)] {
        let cfg = fmt << 16 | 8 << 6 | 10;
        assert_eq!(table(0, cfg, &caps).two_level, two_level, "FMT={fmt}");
        assert!(!table(0, cfg, &linear_only).two_level, "FMT={fmt}");
    }
}

/// Row 28 of the peers' bugs: the mask and the alignment of STRTAB_BASE.
#[test]
fn peers_row28_strtab_base_is_masked_and_aligned_as_the_hardware_does() {
    let caps = Capabilities::default();
    // LOG2SIZE=20 of 16 StreamID bits; aligned by what was written: 2^26 bytes.
    let linear = table(0x4000_0000_0fff_ffc0, 20, &caps);
    assert_eq!((linear.base, linear.log2size), (Gpa(0x0c00_0000), 16));
    // Two levels, SPLIT=8: 2^8 descriptors of 8 bytes.
    let two = table(0x0fff_ffc0, 0x1_0210, &caps);
    assert_eq!((two.base, two.split), (Gpa(0x0fff_f800), 8));
    // A first level smaller than 64 bytes is aligned to 64; an unknown SPLIT is 6.
    let small = table(0x0fff_ffc0, 0x1_0000 | 7 << 6 | 8, &caps);
    assert_eq!((small.base, small.split), (Gpa(0x0fff_ffc0), 6));
    assert_eq!(table(!0, 63, &caps).base, Gpa(0));
}

/// Row 28: a StreamID beyond LOG2SIZE is refused before anything is read, in either form.
#[test]
fn peers_row28_a_stream_beyond_log2size_is_a_bad_stream_id() {
    let (ram, caps) = (Ram::new(0x1_0000), Capabilities::default());
    for two_level in [false, true] {
        let find = |log2size, stream| {
            let base = Gpa(0x1_0000_0000);
            let streams = StreamTable {
                base,
                log2size,
                split: 6,
                two_level,
            };
            streams.ste(&ram, StreamId(stream), &caps)
        };
        for log2size in [0, 1, 6, 7, 16, 31] {
            let size = 1u32 << log2size;
            for beyond in [size, size | 1, u32::MAX] {
                assert_eq!(
                    find(log2size, beyond),
                    Err(Fault::BadStreamId),
                    "{log2size}"
                );
            }
            let last = find(log2size, size - 1);
            assert!(
                matches!(last, Err(Fault::SteFetch(_))),
                "{log2size}: {last:?}"
            );
        }
        assert!(matches!(find(32, u32::MAX), Err(Fault::SteFetch(_))));
    }
}

/// Row 15: Span is log2+1, and the second level is aligned to its size.
#[test]
fn peers_row15_l1std_span_and_alignment() {
    let ram = Ram::new(0x1_0000);
    let caps = Capabilities::default();
    let streams = StreamTable {
        base: Gpa(0x1000),
        log2size: 16,
        split: 8,
        two_level: true,
    };
    let find = |first: u64, stream: u32| {
        ram.set(0x1000 + 8 * u64::from(stream >> 8), first);
        streams.ste(&ram, StreamId(stream), &caps)
    };
    // Entry n of the table at 0x4000 has n in a field that shows: S1CDMax of a CD table.
    for n in 0..16u64 {
        ram.set(0x4000 + 64 * n, DW0_STE | n << 59);
    }
    let cds = |config: StreamConfig| config.stage1().map(|s| s.contexts.log2size);
    // Span=4: eight entries; the low bits of the pointer do not count.
    assert_eq!(find(0x4000 | 4, 0x107).map(cds), Ok(Some(7)));
    assert_eq!(find(0x41c0 | 4, 0x107).map(cds), Ok(Some(7)));
    assert_eq!(find(0x4000 | 4, 0x108), Err(Fault::BadStreamId));
    // Span=1: one entry.
    assert_eq!(find(0x4040 | 1, 0x100).map(cds), Ok(Some(1)));
    assert_eq!(find(0x4040 | 1, 0x101), Err(Fault::BadStreamId));
    // Span=9 is the whole of SPLIT=8, 10 is more than that; 0 and 12 to 31 are invalid.
    assert_eq!(find(0x4000 | 9, 0x10f).map(cds), Ok(Some(15)));
    for span in [0, 10, 11, 12, 31] {
        assert_eq!(
            find(0x4000 | span, 0x100),
            Err(Fault::BadStreamId),
            "Span={span}"
        );
    }
    // The top of the table is LOG2SIZE's.
    assert_eq!(find(0x4000 | 9, 0x1_0000), Err(Fault::BadStreamId));
}

#[test]
fn unreadable_tables_are_fetch_faults_with_an_address() {
    let ram = Ram::new(0x1000);
    let caps = Capabilities::default();
    let mut streams = StreamTable {
        base: Gpa(0x1_0000),
        log2size: 16,
        split: 8,
        two_level: false,
    };
    let fault = streams.ste(&ram, StreamId(2), &caps);
    assert_eq!(fault, Err(Fault::SteFetch(Gpa(0x1_0080))));
    streams.two_level = true;
    let fault = streams.ste(&ram, StreamId(0x200), &caps);
    assert_eq!(fault, Err(Fault::SteFetch(Gpa(0x1_0010))));
    streams.base = Gpa(0);
    ram.set(0x10, 0x5_0000 | 9);
    let fault = streams.ste(&ram, StreamId(0x203), &caps);
    assert_eq!(fault, Err(Fault::SteFetch(Gpa(0x5_00c0))));
}

#[test]
fn memory_in_odd_pieces_is_read_all_the_same() {
    let bench = Bench::new();
    let whole = bench.setup.streams.raw_ste(&bench.ram, StreamId(STREAM));
    let ram = Bench::new().ram.in_pieces(3);
    assert_eq!(bench.setup.streams.raw_ste(&ram, StreamId(STREAM)), whole);
    assert_eq!(whole, Ok(Ste([DW0_STE, 0, 0, 0, 0, 0, 0, 0])));
}

fn ste_with(change: impl FnOnce(&mut [u64; 8], &mut Capabilities)) -> Result<StreamConfig, Fault> {
    let mut caps = Capabilities::default();
    let mut words = [DW0_STE, 0, 0, 0, 0, 0, 0, 0];
    change(&mut words, &mut caps);
    smmu_core::config::interpret(&Ste(words), &caps)
}

#[test]
fn a_stage_1_ste_is_understood() {
    let config = ste_with(|ste, caps| {
        *caps = caps.with_ats();
        // S1Fmt=2, S1CDMax=12, S1DSS=2, EATS=1, MEV.
        ste[0] = 0x6000_0000_0001_0fcb | 2 << 4;
        ste[1] = 0x1008_0002;
    });
    let Ok(StreamConfig::Stage1(attributes, stage1)) = config else {
        panic!("{config:?}");
    };
    assert_eq!((attributes.ats, attributes.merge_events), (Ats::Full, true));
    assert_eq!(stage1.contexts.format, ContextTableFormat::TwoLevel(10));
    // Four descriptors: the table is aligned to 64 bytes.
    assert_eq!(
        (stage1.contexts.log2size, stage1.contexts.base),
        (12, Gpa(0x1_0fc0))
    );
    assert_eq!(stage1.default_substream, DefaultSubstream::UseContext0);
    assert!(!stage1.el2 && !stage1.stall_disabled);
}

#[test]
fn every_reason_for_c_bad_ste_of_stage_1() {
    type Change = fn(&mut [u64; 8], &mut Capabilities);
    let reasons: [(&str, Change); 10] = [
        ("V=0", |ste, _| ste[0] &= !1),
        ("no stage 1", |_, caps| caps.idr0.set_s1p(false)),
        ("no stage 2", |ste, _| ste[0] |= 1 << 2),
        ("S1STALLD without stalls", |ste, _| ste[1] |= 1 << 27),
        ("S1CDMax", |ste, _| ste[0] |= 21 << 59),
        ("two levels", |ste, caps| {
            ste[0] |= 1 << 59 | 1 << 4;
            caps.idr0.set_cd2l(false);
        }),
        ("S1ContextPtr", |ste, _| ste[0] |= 1 << 48),
        ("STRW=1", |ste, caps| {
            ste[1] |= 1 << 30;
            caps.idr0.set_hyp(true);
        }),
        ("EATS=2 without stage 2", |ste, caps| {
            ste[1] |= 2 << 28;
            caps.idr0.set_ats(true);
        }),
        ("Config of stage 2", |ste, _| ste[0] = 0xd | CD),
    ];
    assert!(ste_with(|_, _| ()).is_ok());
    for (reason, change) in reasons {
        assert_eq!(ste_with(change), Err(Fault::BadSte), "{reason}");
    }
}

/// What looks wrong but is not: fields of absent features.
#[test]
fn fields_of_absent_features_do_not_make_an_ste_invalid() {
    type Change = fn(&mut [u64; 8], &mut Capabilities);
    let fine: [(&str, Change); 5] = [
        ("STRW without EL2", |ste, _| ste[1] |= 3 << 30),
        ("EATS without ATS", |ste, _| ste[1] |= 2 << 28),
        ("S1CDMax without substreams", |ste, caps| {
            ste[0] |= 31 << 59;
            caps.idr1.set_ssidsize(0);
        }),
        ("S1Fmt of a single CD", |ste, caps| {
            ste[0] |= 1 << 4;
            caps.idr0.set_cd2l(false);
        }),
        ("reserved and software bits", |ste, _| {
            ste[0] |= 7 << 56;
            ste[1] |= 0xfff << 52 | 0xf << 20;
            ste[7] = !0;
        }),
    ];
    for (reason, change) in fine {
        let config = ste_with(change);
        assert!(
            matches!(config, Ok(StreamConfig::Stage1(..))),
            "{reason}: {config:?}"
        );
    }
    // Config=0xx is never invalid.
    for config in 0..4u64 {
        assert_eq!(
            ste_with(|ste, _| ste[0] = 1 | config << 1 | 31 << 59),
            Ok(StreamConfig::Abort)
        );
    }
}

#[test]
fn bypass_checks_its_address_and_has_no_substreams() {
    let bench = Bench::new();
    bench.ram.set(STE, 9);
    assert_eq!(bench.read(PAGE), Ok(PAGE));
    assert_eq!(bench.read(1 << 48), Err(Fault::InputSize));
    let with_substream = bench.of_substream(Some(1), PAGE, Operation::Read, false);
    let Err(failed) = with_substream else {
        panic!("{with_substream:?}");
    };
    assert_eq!(failed.fault, Fault::BadSubstreamId);
    // SubstreamID, but no SSV.
    assert_eq!(failed.record(None).0, [0x0000_0003_0000_1008, 0, 0, 0]);
}

#[test]
fn a_bad_stream_is_recorded_only_if_asked_for() {
    let mut bench = Bench::new();
    bench.setup.streams.log2size = 1;
    for wanted in [false, true] {
        bench.setup.record_bad_stream_id = wanted;
        let Err(failed) = bench.translate(PAGE, Operation::Write, false) else {
            panic!("stream 3 of 2");
        };
        assert_eq!(failed.fault, Fault::BadStreamId);
        assert_eq!(
            (failed.verdict.record, failed.verdict.response),
            (wanted, Response::Abort)
        );
    }
}
