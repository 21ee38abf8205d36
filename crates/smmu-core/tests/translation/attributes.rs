//! Memory attributes by hand, row by row (IHI 0070, 5.4 MAIR0, 13.1.4 to 13.1.7; Arm ARM D8.6).

use crate::bench::{Bench, CD, LEAF, PAGE, STE};
use crate::nested::{DW2_STE, THIRD, nested};
use smmu_core::access::Operation::Read;
use smmu_core::attributes::{
    Cacheability, DeviceType, Hints, InputOverride, MemoryAttributes, MemoryType, Shareability,
    StageAttributes,
};
use smmu_core::caps::Capabilities;
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::event::Class;
use smmu_core::spec::register::Gbpa;
use smmu_core::spec::ste::SteWord1;
use smmu_core::translate::Translated;

fn half(half: Cacheability) -> String {
    let (name, hints) = match half {
        Cacheability::NonCacheable => return "NC".into(),
        Cacheability::WriteThrough(hints) => ("WT", hints),
        Cacheability::WriteBack(hints) => ("WB", hints),
    };
    if hints == Hints::DEFAULT {
        return name.into();
    }
    let or = |yes: bool, flag: &str| format!("{}{flag}", if yes { "" } else { "n" });
    format!(
        "{name}/{}{}{}",
        or(hints.read_allocate, "RA"),
        or(hints.write_allocate, "WA"),
        or(hints.transient, "TR")
    )
}

fn kind(memory: MemoryType) -> String {
    match memory {
        MemoryType::Device(device) => match device {
            DeviceType::NGnRnE => "nGnRnE".into(),
            DeviceType::NGnRE => "nGnRE".into(),
            DeviceType::NGRE => "nGRE".into(),
            DeviceType::GRE => "GRE".into(),
        },
        MemoryType::Normal { inner, outer } => format!("i{}-o{}", half(inner), half(outer)),
    }
}

/// In the specification's notation.
fn shown(attributes: MemoryAttributes) -> String {
    let shareability = match attributes.shareability() {
        Shareability::Non => "NSH",
        Shareability::Inner => "ISH",
        Shareability::Outer => "OSH",
    };
    format!("{}-{shareability}", kind(attributes.memory_type()))
}

#[test]
fn a_byte_of_mair_is_one_of_these() {
    for (mair, expected) in [
        (0x00, "nGnRnE"),
        (0x04, "nGnRE"),
        (0x08, "nGRE"),
        (0x0c, "GRE"),
        // Reserved: dd00 of the same quarter.
        (0x03, "nGnRnE"),
        (0x05, "nGnRE"),
        (0x0a, "nGRE"),
        (0x0d, "GRE"),
        (0x44, "iNC-oNC"),
        (0xff, "iWB-oWB"),
        (0xbb, "iWT-oWT"),
        (0xf4, "iNC-oWB"),
        (0x4b, "iWT-oNC"),
        (0x37, "iWB/RAWATR-oWT/RAWATR"),
        (0x62, "iWT/RAnWATR-oWB/RAnWATR"),
        (0x15, "iWB/nRAWATR-oWT/nRAWATR"),
        (0x8c, "iWB/nRAnWAnTR-oWT/nRAnWAnTR"),
        (0xde, "iWB/RAnWAnTR-oWB/nRAWAnTR"),
        // Reserved: as 0011.
        (0xf0, "iWT/RAWATR-oWB"),
        (0x40, "iWT/RAWATR-oNC"),
    ] {
        assert_eq!(kind(MemoryType::from_mair(mair)), expected, "{mair:#04x}");
    }
}

#[test]
fn a_byte_of_mair_is_written_as_it_is_read() {
    for mair in 0..=255 {
        let memory = MemoryType::from_mair(mair);
        assert_eq!(MemoryType::from_mair(memory.mair()), memory, "{mair:#04x}");
    }
}

const MEM_ATTR: [&str; 16] = [
    "nGnRnE", "nGnRE", "nGRE", "GRE", //
    "nGnRnE", "iNC-oNC", "iWT-oNC", "iWB-oNC", //
    "nGnRnE", "iNC-oWT", "iWT-oWT", "iWB-oWT", //
    "nGnRnE", "iNC-oWB", "iWT-oWB", "iWB-oWB",
];

#[test]
fn mem_attr_is_one_of_sixteen() {
    for (code, expected) in (0..).zip(MEM_ATTR) {
        assert_eq!(
            kind(MemoryType::from_mem_attr(code)),
            expected,
            "{code:04b}"
        );
    }
}

const INNER: u8 = 3;

/// Stage 1 by MAIR, inner shareable, with stage 2.
fn both(mair: u8, mem_attr: u8, forced: bool) -> String {
    let stage1 = StageAttributes::of_stage1(mair, INNER);
    let stage2 = StageAttributes::of_stage2(mem_attr, INNER, forced);
    shown(stage1.with_stage2(stage2).output(MemoryAttributes::CACHED))
}

/// 13.1.5: Device before Normal, the stricter Device, the half that is cached less.
#[test]
fn without_fwb_the_stronger_stage_wins() {
    for (mair, mem_attr, expected) in [
        // Device with Device: the stricter one.
        (0x00, 0b0011, "nGnRnE-OSH"),
        (0x0c, 0b0000, "nGnRnE-OSH"),
        (0x0c, 0b0001, "nGnRE-OSH"),
        (0x04, 0b0010, "nGnRE-OSH"),
        (0x0c, 0b0010, "nGRE-OSH"),
        (0x0c, 0b0011, "GRE-OSH"),
        // Device with Normal, either way round.
        (0x04, 0b1111, "nGnRE-OSH"),
        (0x0c, 0b0101, "GRE-OSH"),
        (0xff, 0b0001, "nGnRE-OSH"),
        (0x44, 0b0011, "GRE-OSH"),
        // Reserved values of MemAttr are the strictest.
        (0xff, 0b0100, "nGnRnE-OSH"),
        (0xff, 0b1000, "nGnRnE-OSH"),
        (0xff, 0b1100, "nGnRnE-OSH"),
        // Normal with Normal, each half by itself.
        (0xff, 0b1111, "iWB-oWB-ISH"),
        (0xff, 0b1010, "iWT-oWT-ISH"),
        (0xff, 0b0101, "iNC-oNC-OSH"),
        (0xbb, 0b1111, "iWT-oWT-ISH"),
        (0xbb, 0b0101, "iNC-oNC-OSH"),
        (0x44, 0b1111, "iNC-oNC-OSH"),
        (0x44, 0b1010, "iNC-oNC-OSH"),
        (0xff, 0b1101, "iNC-oWB-ISH"),
        (0xff, 0b0111, "iWB-oNC-ISH"),
        (0xf4, 0b1110, "iNC-oWB-ISH"),
        (0xf4, 0b0111, "iNC-oNC-OSH"),
        (0xbf, 0b1110, "iWT-oWT-ISH"),
        // Hints are stage 1's.
        (0x7d, 0b1011, "iWB/nRAWAnTR-oWT/RAWATR-ISH"),
    ] {
        assert_eq!(
            both(mair, mem_attr, false),
            expected,
            "{mair:#04x}, {mem_attr:04b}"
        );
    }
}

/// Bytes of MAIR: nGnRE, GRE, not cached, write-back with hints of its own, half of each.
const STAGE1: [u8; 5] = [0x04, 0x0c, 0x44, 0xee, 0xf4];

/// What MemAttr\[2:0\] makes of stage 1, for each row of [`STAGE1`].
const FORCED: [(u8, [&str; 5]); 8] = [
    (0, ["nGnRnE-OSH"; 5]),
    (1, ["nGnRE-OSH"; 5]),
    (
        2,
        ["nGnRE-OSH", "nGRE-OSH", "nGRE-OSH", "nGRE-OSH", "nGRE-OSH"],
    ),
    (3, ["nGnRE-OSH", "GRE-OSH", "GRE-OSH", "GRE-OSH", "GRE-OSH"]),
    // Reserved, and forced not to be cached, unless it is Device.
    (
        4,
        [
            "nGnRE-OSH",
            "GRE-OSH",
            "iNC-oNC-OSH",
            "iNC-oNC-OSH",
            "iNC-oNC-OSH",
        ],
    ),
    (
        5,
        [
            "nGnRE-OSH",
            "GRE-OSH",
            "iNC-oNC-OSH",
            "iNC-oNC-OSH",
            "iNC-oNC-OSH",
        ],
    ),
    // Forced to be cached. What was outer shareable before stays so.
    (
        6,
        [
            "iWB-oWB-OSH",
            "iWB-oWB-OSH",
            "iWB-oWB-OSH",
            "iWB/RAnWAnTR-oWB/RAnWAnTR-ISH",
            "iWB-oWB-ISH",
        ],
    ),
    // As stage 1 says.
    (
        7,
        [
            "nGnRE-OSH",
            "GRE-OSH",
            "iNC-oNC-OSH",
            "iWB/RAnWAnTR-oWB/RAnWAnTR-ISH",
            "iNC-oWB-ISH",
        ],
    ),
];

/// 13.1.6: MemAttr[3] does not count, and [2:0] say who wins.
#[test]
fn with_fwb_stage_2_says_who_wins() {
    for (mem_attr, expected) in FORCED {
        for (mair, expected) in STAGE1.into_iter().zip(expected) {
            for mem_attr in [mem_attr, mem_attr | 8] {
                assert_eq!(
                    both(mair, mem_attr, true),
                    expected,
                    "{mair:#04x}, {mem_attr:04b}"
                );
            }
        }
    }
}

#[test]
fn what_reaches_further_wins_and_some_memory_reaches_everybody() {
    let with = |mair, first, second| {
        let stage1 = StageAttributes::of_stage1(mair, first);
        let both = stage1.with_stage2(StageAttributes::of_stage2(0b1111, second, false));
        both.output(MemoryAttributes::CACHED).shareability()
    };
    use Shareability::{Inner, Non, Outer};
    // None, the reserved value, outer, inner.
    let expected = [
        [Non, Non, Outer, Inner],
        [Non, Non, Outer, Inner],
        [Outer, Outer, Outer, Outer],
        [Inner, Inner, Outer, Inner],
    ];
    for (first, row) in (0..).zip(expected) {
        for (second, expected) in (0..).zip(row) {
            assert_eq!(
                with(0xff, first, second),
                expected,
                "SH={first} with SH={second}"
            );
            assert_eq!(with(0x04, first, second), Outer, "Device");
            assert_eq!(with(0x44, first, second), Outer, "not cached");
        }
    }
}

/// Normal, with these nibbles of MAIR, and SH.
fn incoming(mair: u8, shareability: Shareability) -> MemoryAttributes {
    MemoryAttributes::new(MemoryType::from_mair(mair), shareability)
}

/// 13.4.2: nothing but hints of the input survives stage 1; 13.4.3: all of it goes through stage 2.
#[test]
fn the_input_counts_where_no_stage_1_is() {
    // Write-through, read-allocate, transient; outer write-back.
    let device = incoming(0xf2, Shareability::Non);
    let stage1 = |mair| StageAttributes::of_stage1(mair, INNER);
    assert_eq!(shown(stage1(0xff).output(device)), "iWB/RAnWATR-oWB-ISH");
    assert_eq!(shown(stage1(0xf4).output(device)), "iNC-oWB-ISH");
    assert_eq!(
        shown(stage1(0xdd).output(device)),
        "iWB/nRAnWAnTR-oWB/nRAWAnTR-ISH"
    );
    // What is not cached brings no hints.
    let uncached = incoming(0x44, Shareability::Non);
    assert_eq!(shown(stage1(0xef).output(uncached)), "iWB-oWB/RAnWAnTR-ISH");
    let nothing = StageAttributes::default();
    assert_eq!(nothing.output(device), device);
    let second =
        |mem_attr, forced| shown(StageAttributes::of_stage2(mem_attr, 2, forced).output(device));
    assert_eq!(second(0b1111, false), "iWT/RAnWATR-oWB-OSH");
    assert_eq!(second(0b0101, false), "iNC-oNC-OSH");
    assert_eq!(second(0b0010, false), "nGRE-OSH");
    assert_eq!(second(6, true), "iWB/RAnWATR-oWB-OSH");
    assert_eq!(second(7, true), "iWT/RAnWATR-oWB-OSH");
}

fn overriding() -> Capabilities {
    let mut caps = Capabilities::default();
    caps.idr1.set_attr_types_ovr(true);
    caps
}

/// The same fields in GBPA.
fn as_gbpa(word: SteWord1) -> Gbpa {
    Gbpa::new()
        .with_mem_attr(word.mem_attr())
        .with_mtcfg(word.mtcfg())
        .with_alloccfg(word.alloccfg())
        .with_shcfg(word.shcfg())
}

/// 13.1.4.
#[test]
fn overrides_replace_what_a_device_says() {
    let cached = MemoryAttributes::CACHED;
    let as_it_comes = SteWord1::new().with_shcfg(1);
    let typed = |mem_attr| as_it_comes.with_mtcfg(true).with_mem_attr(mem_attr);
    let transient = incoming(0x66, Shareability::Inner);
    for (word, input, expected) in [
        (as_it_comes, cached, "iWB-oWB-ISH"),
        // MemAttr means nothing without MTCFG.
        (as_it_comes.with_mem_attr(1), cached, "iWB-oWB-ISH"),
        (typed(0b0001), cached, "nGnRE-OSH"),
        (typed(0b1000), cached, "nGnRnE-OSH"),
        (typed(0b1001), cached, "iNC-oWT-ISH"),
        // The device's own hints stay, where it has any.
        (typed(0b1010), transient, "iWT/RAnWATR-oWT/RAnWATR-ISH"),
        (
            typed(0b1111),
            incoming(0x44, Shareability::Outer),
            "iWB-oWB-OSH",
        ),
        (
            typed(0b1111),
            incoming(0x04, Shareability::Outer),
            "iWB-oWB-OSH",
        ),
        // 1RWT, for what is cached only.
        (as_it_comes.with_alloccfg(0b1110), transient, "iWB-oWB-ISH"),
        (
            as_it_comes.with_alloccfg(0b1101),
            cached,
            "iWB/RAnWATR-oWB/RAnWATR-ISH",
        ),
        (
            as_it_comes.with_alloccfg(0b1001),
            cached,
            "iWB/nRAnWAnTR-oWB/nRAnWAnTR-ISH",
        ),
        (as_it_comes.with_alloccfg(0b0001), cached, "iWB-oWB-ISH"),
        (
            typed(0b0111).with_alloccfg(0b1010),
            cached,
            "iWB/nRAWAnTR-oNC-ISH",
        ),
        (typed(0b0101).with_alloccfg(0b1010), cached, "iNC-oNC-OSH"),
        (as_it_comes.with_shcfg(0), cached, "iWB-oWB-NSH"),
        (as_it_comes.with_shcfg(2), cached, "iWB-oWB-OSH"),
        (
            as_it_comes.with_shcfg(3),
            incoming(0xff, Shareability::Non),
            "iWB-oWB-ISH",
        ),
        (typed(0b0010).with_shcfg(0), cached, "nGRE-OSH"),
    ] {
        let found = InputOverride::of_ste(word, &overriding()).apply(input);
        assert_eq!(shown(found), expected, "{word:?} {input:?}");
        assert_eq!(
            InputOverride::of_gbpa(as_gbpa(word), &overriding()).apply(input),
            found
        );
        // IDR1.ATTR_TYPES_OVR=0: none of it means anything.
        let without = InputOverride::of_ste(word, &Capabilities::default());
        assert_eq!(without.apply(input), input, "{word:?}");
    }
}

/// What an access to the page reaches memory with.
fn found(bench: &Bench) -> String {
    match bench.translate(PAGE, Read, true) {
        Ok(Translated::Mapped(leaf)) => shown(leaf.memory.output(MemoryAttributes::CACHED)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_walk_takes_the_fields_of_both_descriptors() {
    let mut bench = nested();
    bench.setup.caps.idr3.set_fwb(true);
    // Bytes 0 to 3: not cached, write-back, Device-nGnRE, and half of each.
    bench.ram.set(CD + 24, 0xf404_ff44);
    let block = 0xb000 + 8 * (0x8765_4000 >> 21 & 511);
    let descriptor = bench.ram.get(block).expect("in memory") & !(0xf << 2);
    for (attr_index, mem_attr, forced, expected) in [
        (0, 0b1111, false, "iNC-oNC-OSH"),
        (1, 0b1111, false, "iWB-oWB-ISH"),
        (2, 0b1111, false, "nGnRE-OSH"),
        (3, 0b1111, false, "iNC-oWB-ISH"),
        (1, 0b0110, false, "iWT-oNC-ISH"),
        (0, 0b0110, true, "iWB-oWB-OSH"),
        (1, 0b0110, true, "iWB-oWB-ISH"),
        (2, 0b0110, true, "iWB-oWB-OSH"),
        (1, 0b0101, true, "iNC-oNC-OSH"),
        (2, 0b0111, true, "nGnRE-OSH"),
    ] {
        let leaf = LEAF & !(7 << 2) | attr_index << 2;
        bench.ram.set(Bench::LEAF_AT, leaf);
        bench.ram.set(block, descriptor | mem_attr << 2);
        bench.ram.set(STE + 8, u64::from(forced) << 25);
        assert_eq!(
            found(&bench),
            expected,
            "{attr_index} {mem_attr:04b} {forced}"
        );
    }
    // S2FWB is RES0 without IDR3.FWB.
    bench.ram.set(Bench::LEAF_AT, LEAF);
    bench.ram.set(block, descriptor | 0b0110 << 2);
    bench.setup.caps.idr3.set_fwb(false);
    assert_eq!(found(&bench), "iWT-oNC-ISH");
}

/// S2PTW and what MemAttr means: Device is what stage 2 makes Device by itself.
#[test]
fn protected_walks_go_by_what_stage_2_says_of_a_table() {
    for forced in [false, true] {
        for mem_attr in 0..16u64 {
            let mut bench = nested();
            bench.setup.caps.idr3.set_fwb(true);
            bench.ram.set(STE + 8, u64::from(forced) << 25);
            // The page of the level 2 table of stage 1.
            let at = THIRD + 8 * 4;
            let descriptor = bench.ram.get(at).expect("in memory") & !(0xf << 2);
            bench.ram.set(at, descriptor | mem_attr << 2);
            assert!(bench.read(PAGE).is_ok(), "S2PTW=0");
            bench.ram.set(STE + 16, DW2_STE | 1 << 54);
            let device = match forced {
                true => mem_attr & 4 == 0,
                false => MEM_ATTR[mem_attr as usize].ends_with('E'),
            };
            let refused = Place::Stage2 {
                class: Class::TranslationTable,
                ipa: Bench::SECOND_AT,
            };
            let expected = device.then_some(Fault::Permission(refused));
            assert_eq!(bench.read(PAGE).err(), expected, "{mem_attr:04b} {forced}");
        }
    }
}
