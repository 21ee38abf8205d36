//! Bugs that other SMMUv3 emulations have had in their command decoders, one test for each.

use smmu_core::caps::Capabilities;
use smmu_core::command::{Cfgi, Command};
use smmu_core::decode::{Feature, Illegal, PageForm, decode, nh_va};
use smmu_core::encode::pieces;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::{StreamId, SubstreamId};

fn try_decode(dw0: u64, dw1: u64) -> Result<Command, Illegal> {
    decode(RawCommand { dw0, dw1 }, &Capabilities::default())
}

#[test]
fn peers_row4_sync_cs3_is_illegal() {
    assert_eq!(try_decode(0x3046, 0), Err(Illegal::SyncSignal));
    assert!(try_decode(0x2046, 0).is_ok());
}

#[test]
fn peers_row9_prefetch_addr_is_legal() {
    assert_eq!(
        try_decode(0x0000_0007_0000_3802, 0x1234_5004),
        Ok(Command::PrefetchAddr {
            stream: StreamId(7),
            substream: Some(SubstreamId(3)),
            addr: 0x1234_5000,
            size: 4,
        })
    );
}

#[test]
fn peers_row25_cfgi_cd_is_illegal_without_stage_1() {
    let mut caps = Capabilities::default();
    caps.idr0.set_s1p(false);
    for op in [0x05, 0x06] {
        let raw = RawCommand { dw0: op, dw1: 0 };
        assert_eq!(
            decode(raw, &caps),
            Err(Illegal::NeedsFeature(op as u8, Feature::S1P))
        );
        assert!(decode(raw, &Capabilities::default()).is_ok());
    }
}

#[test]
fn peers_row34_cfgi_range_31_is_all_and_64bit_maths() {
    // Range=31 names everything and ignores the StreamID.
    assert_eq!(
        try_decode(0xffff_ffff_0000_0004, 31),
        Ok(Command::Cfgi(Cfgi::All))
    );
    assert!(Cfgi::All.concerns(StreamId(u32::MAX)));
    // Range=30: half of all streams.
    let Ok(Command::Cfgi(half)) = try_decode(0x8000_0001_0000_0004, 30) else {
        panic!("Range=30 is a range");
    };
    assert!(half.concerns(StreamId(0x8000_0000)) && half.concerns(StreamId(u32::MAX)));
    assert!(!half.concerns(StreamId(0x7fff_ffff)));
    // Range=0 is two streams, the low bit of the StreamID does not count.
    let pair = Cfgi::SteRange {
        stream: StreamId(5),
        range: 0,
    };
    let concerned: Vec<u32> = (0..8).filter(|&s| pair.concerns(StreamId(s))).collect();
    assert_eq!(concerned, [4, 5]);
}

#[test]
fn a_secure_stream_is_illegal_here() {
    for op in [0x01, 0x02, 0x03, 0x04, 0x05, 0x06] {
        assert_eq!(
            try_decode(1 << 10 | op, 0),
            Err(Illegal::SecureStream),
            "{op:#x}"
        );
    }
}

#[test]
fn commands_of_absent_features_are_illegal() {
    let absent = [
        (0x40, Feature::Ats),
        (0x41, Feature::Pri),
        (0x44, Feature::Stalls),
        (0x45, Feature::Stalls),
        (0x20, Feature::Hyp),
        (0x28, Feature::S2P),
        (0x2a, Feature::S2P),
        (0x07, Feature::Mpam),
        (0x70, Feature::Dpt),
    ];
    for (op, feature) in absent {
        assert_eq!(
            try_decode(op, 0),
            Err(Illegal::NeedsFeature(op as u8, feature))
        );
    }
    assert_eq!(try_decode(0x60, 0), Err(Illegal::OtherWorld(0x60)));
    // 4.1.2: 0x80 to 0x8f are the implementation's own, their neighbours nobody's.
    for op in [0x80, 0x8f] {
        let error = Illegal::ImplementationDefined(op as u8);
        assert_eq!(try_decode(op, 0), Err(error));
    }
    for op in [0x7f, 0x90] {
        assert_eq!(try_decode(op, 0), Err(Illegal::Reserved(op as u8)));
    }
}

/// NUM=SCALE=TTL=0 is reserved with a granule, and with 16 KiB TTL=1 counts as 0.
#[test]
fn the_reserved_range_is_illegal() {
    for (tg_ttl, legal) in [
        (0x400, false),
        (0x800, false),
        (0xc00, false),
        (0x900, false),
        (0x500, true),
        (0xd00, true),
        (0xa00, true),
        (0x000, true),
    ] {
        assert_eq!(try_decode(0x12, tg_ttl).is_ok(), legal, "{tg_ttl:#x}");
    }
    let mut caps = Capabilities::default();
    caps.idr5.set_ds(true);
    let raw = RawCommand {
        dw0: 0x12,
        dw1: 0x900,
    };
    assert!(
        decode(raw, &caps).is_ok(),
        "with 52-bit addresses level 1 holds 16 KiB blocks"
    );
    caps.idr3.set_ril(false);
    let raw = RawCommand {
        dw0: 0x12,
        dw1: 0x400,
    };
    assert!(
        decode(raw, &caps).is_ok(),
        "without range invalidation the fields are ignored"
    );
}

/// A guest can name the longest range with NUM=31, SCALE=31: a page count without any low bit.
#[test]
fn law8_the_longest_range_is_cut_into_pieces() {
    let whole = TlbiRange {
        addr: 0,
        bytes: 1 << 48,
        granule: Some(Granule::K4),
        ttl: 0,
        leaf: true,
    };
    let cut: Vec<TlbiRange> = pieces(whole).take(8).collect();
    assert_eq!(cut, [whole]);
}

/// An IPA has at most 52 bits; what lies above is reserved and ignored, as all reserved bits
/// are: a page that is not removed because of them would be one too many.
#[test]
fn law7_reserved_bits_of_an_ipa_do_not_hide_the_page() {
    let mut caps = Capabilities::default();
    caps.idr0.set_s2p(true);
    let raw = |dw1| RawCommand { dw0: 0x2a, dw1 };
    assert_eq!(
        decode(raw(0xfff0_0000_1234_5000), &caps),
        decode(raw(0x0000_0000_1234_5000), &caps)
    );
}

/// Reserved bits are ignored, as those above an address are: heeding them could spare what the rest of the
/// field names, and they would reach the queue of a host that has no such bits either.
#[test]
fn law7_bits_that_no_asid_has_spare_nothing() {
    let mut caps = Capabilities::default();
    caps.idr0.set_hyp(true);
    caps.idr0.set_asid16(false);
    for op in [0x11, 0x12, 0x21, 0x22] {
        // TG=1, TTL=3: the form that most have.
        let decoded = |high: u64| {
            let raw = RawCommand {
                dw0: op | (high << 8 | 5) << 48,
                dw1: 0x1000 | 7 << 8,
            };
            let short = nh_va(raw, &caps).map(|(_, asid, _)| asid.0);
            let page = PageForm::of(&caps).page(raw).map(|page| page.asid.0);
            let expected = (op == 0x12).then_some(5);
            assert_eq!((short, page), (expected, expected));
            decode(raw, &caps)
        };
        assert!(decoded(0).is_ok());
        assert_eq!(decoded(1), decoded(0), "{op:#x}");
    }
}

/// The same of VMIDs, with IDR0.VMID16=0. A VMID is the guest's own name here, of every kind of TLBI that has one.
#[test]
fn law7_bits_that_no_vmid_has_spare_nothing() {
    let mut caps = Capabilities::default();
    caps.idr0.set_s2p(true);
    for (wide, kept) in [(false, 5), (true, 0x105)] {
        caps.idr0.set_vmid16(wide);
        for op in [0x10, 0x11, 0x12, 0x13, 0x28, 0x2a] {
            let raw = |vmid: u64| RawCommand {
                dw0: op | vmid << 32,
                dw1: 0x1000 | 7 << 8,
            };
            let heard = decode(raw(0x105), &caps);
            assert!(heard.is_ok(), "{op:#x}");
            assert_eq!(heard, decode(raw(kept), &caps), "{op:#x}");
            let short = nh_va(raw(0x105), &caps).map(|(vmid, _, _)| vmid.0);
            let page = PageForm::of(&caps).page(raw(0x105)).map(|page| page.vmid.0);
            let expected = (op == 0x12).then_some(kept as u16);
            assert_eq!((short, page), (expected, expected));
        }
    }
}
