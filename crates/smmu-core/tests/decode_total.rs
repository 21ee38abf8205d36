//! Decoding is total and agrees with a second, naive reading of the architecture's command
//! table; encoding never removes less than what was asked for.

use proptest::prelude::*;
use smmu_core::caps::Capabilities;
use smmu_core::command::{AtcInv, Cfgi, Command, Msi, PriResponse, ResumeAction, Signal, Tlbi};
use smmu_core::decode::{Illegal, PageForm, SinglePage, decode};
use smmu_core::encode::{encode, pieces};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5};
use smmu_core::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};

/// When a command is illegal, one predicate for each remark in the architecture's table.
mod naive {
    use super::{Capabilities, RawCommand};

    fn bits(raw: RawCommand, low: u32, count: u32) -> u64 {
        let both = u128::from(raw.dw0) | u128::from(raw.dw1) << 64;
        ((both >> low) & ((1 << count) - 1)) as u64
    }

    /// NUM, SCALE and TTL are all zero although a granule is given.
    fn reserved_range(raw: RawCommand, caps: &Capabilities) -> bool {
        let idr3 = u32::from(caps.idr3);
        let idr5 = u32::from(caps.idr5);
        let (range_invalidation, wide) = (idr3 >> 10 & 1 == 1, idr5 >> 7 & 1 == 1);
        let tg = bits(raw, 74, 2);
        let mut ttl = bits(raw, 72, 2);
        if tg == 2 && ttl == 1 && !wide {
            ttl = 0;
        }
        let scale = bits(raw, 20, if wide { 6 } else { 5 });
        range_invalidation && tg != 0 && ttl == 0 && scale == 0 && bits(raw, 12, 5) == 0
    }

    pub(crate) fn is_legal(raw: RawCommand, caps: &Capabilities) -> bool {
        let idr0 = u32::from(caps.idr0);
        let has = |bit: u32| idr0 >> bit & 1 == 1;
        let (s2p, s1p, hyp, ats, pri) = (has(0), has(1), has(9), has(10), has(16));
        let stalls = idr0 >> 24 & 3 != 1;
        let not_secure = bits(raw, 10, 1) == 0;
        match bits(raw, 0, 8) {
            0x01..=0x04 => not_secure,
            0x05 | 0x06 => s1p && not_secure,
            0x10 | 0x11 => s1p,
            0x12 | 0x13 => s1p && !reserved_range(raw, caps),
            0x20 | 0x21 => hyp,
            0x22 | 0x23 => hyp && !reserved_range(raw, caps),
            0x28 => s2p,
            0x2a => s2p && !reserved_range(raw, caps),
            0x30 => true,
            0x40 => ats && bits(raw, 64, 6) <= 52,
            0x41 => pri && bits(raw, 76, 2) != 3,
            0x44 | 0x45 => stalls && not_secure,
            0x46 => bits(raw, 12, 2) != 3,
            _ => false,
        }
    }
}

prop_compose! {
    fn any_caps()(idr0: u32, idr1: u32, idr3: u32, idr5: u32) -> Capabilities {
        Capabilities {
            idr0: Idr0::from_bits(idr0),
            idr1: Idr1::from_bits(idr1),
            idr3: Idr3::from_bits(idr3),
            idr5: Idr5::from_bits(idr5),
            ..Capabilities::default()
        }
    }
}

/// Words with few bits set or cleared besides random ones: reserved combinations are rare in
/// uniform noise.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c),
        Just(0u64),
        Just(u64::MAX),
    ]
}

/// What makes every command legal.
fn everything() -> Capabilities {
    let mut caps = Capabilities::default().with_ats();
    caps.idr0.set_pri(true);
    caps.idr0.set_hyp(true);
    caps.idr0.set_s2p(true);
    caps.idr0.set_vmid16(true);
    caps.idr0.set_stall_model(0);
    caps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn law8_every_opcode_with_random_bits_never_panics(
        dw0 in any_word(), dw1 in any_word(), caps in any_caps(),
    ) {
        for opcode in 0..=255u64 {
            let raw = RawCommand { dw0: dw0 & !0xff | opcode, dw1 };
            let result = decode(raw, &caps);
            prop_assert_eq!(result.is_ok(), naive::is_legal(raw, &caps), "{:x?} {:?}", raw, result);
            if let Ok(command) = result {
                // A second pass sees the same command, except where one command cannot name it.
                let again = decode(encode(&command), &caps);
                prop_assert!(
                    again == Ok(command) || at_least(&command, again),
                    "{:?} became {:?}", command, again
                );
            }
        }
    }

    /// What is recognised by its form is what the decoder says, and what has the form is recognised.
    #[test]
    fn law7_a_single_page_is_recognised_as_the_decoder_decodes_it(
        dw0 in any_word(), dw1 in any_word(), caps in any_caps(), plain: bool, linux: bool,
    ) {
        let caps = if plain { everything() } else { caps };
        let (mut dw0, mut dw1) = (dw0 & !0xFF | 0x12, dw1);
        if linux {
            dw0 &= !0x03f1_f000;
            dw1 = dw1 & !0xC00 | 0x400;
        }
        let raw = RawCommand { dw0, dw1 };
        let decoded = decode(raw, &caps);
        let by_form = PageForm::of(&caps).page(raw).map(|page| {
            let SinglePage { vmid, asid, addr, ttl, leaf } = page;
            let granule = Some(Granule::K4);
            let range = TlbiRange { addr, bytes: 4096, granule, ttl, leaf };
            Command::Tlbi(Tlbi::NhVa { vmid, asid, range })
        });
        let is_page = |range: &TlbiRange| {
            range.granule == Some(Granule::K4) && range.bytes == 4096 && range.ttl != 0
        };
        match (by_form, decoded) {
            (Some(command), decoded) => prop_assert_eq!(decoded, Ok(command)),
            (None, Ok(Command::Tlbi(Tlbi::NhVa { range, .. }))) => {
                prop_assert!(!is_page(&range), "{:x?}", raw);
            }
            (None, _) => {}
        }
    }

    #[test]
    fn without_range_invalidation_the_range_fields_are_ignored(
        dw0 in any_word(), dw1 in any_word(),
    ) {
        let mut caps = everything();
        caps.idr3.set_ril(false);
        for opcode in [0x12u64, 0x13, 0x22, 0x23, 0x2a] {
            let raw = RawCommand { dw0: dw0 & !0xff | opcode, dw1 };
            let bare = RawCommand {
                // NUM at [16:12], SCALE at [25:20]; TTL at [9:8], TG at [11:10].
                dw0: raw.dw0 & !0x03f1_f000,
                dw1: raw.dw1 & !0xf00,
            };
            prop_assert_eq!(decode(raw, &caps), decode(bare, &caps));
        }
    }

    #[test]
    fn every_typed_command_survives_encoding(command in any_command()) {
        prop_assert_eq!(decode(encode(&command), &everything()), Ok(command));
    }

    /// Ranges that no decoder produces, too: unaligned, longer than one command, without end.
    #[test]
    fn law7_an_encoded_range_covers_what_was_asked(
        tlbi in any_tlbi(wild_range()), wide: bool,
    ) {
        let mut caps = everything();
        caps.idr5.set_ds(wide);
        let command = Command::Tlbi(tlbi);
        let raw = encode(&command);
        prop_assert!(naive::is_legal(raw, &caps), "{:x?}", raw);
        let decoded = decode(raw, &caps);
        prop_assert!(at_least(&command, decoded), "{:?} became {:?}", command, decoded);
    }

    #[test]
    fn law7_pieces_cover_exactly_and_are_legal(range in tame_range()) {
        let granule = range.granule.unwrap_or(Granule::K4);
        let mut at = u128::from(range.addr);
        let mut count = 0;
        for piece in pieces(range) {
            prop_assert_eq!(u128::from(piece.addr), at);
            prop_assert_eq!(piece.bytes % granule.bytes(), 0);
            at += u128::from(piece.bytes);
            count += 1;
            prop_assert!(count <= 8, "one piece for each five of 36 bits");
            let command = Command::Tlbi(Tlbi::NhVaa { vmid: Vmid(0), range: piece });
            let decoded = decode(encode(&command), &everything());
            if reserved(&piece) {
                prop_assert!(at_least(&command, decoded), "{:?} became {:?}", command, decoded);
            } else {
                prop_assert_eq!(decoded, Ok(command));
            }
        }
        prop_assert_eq!(at, u128::from(range.addr) + u128::from(range.bytes));
    }

    #[test]
    fn law8_pieces_of_any_range_end(range in wild_range()) {
        let mut covered = Vec::new();
        for piece in pieces(range) {
            prop_assert!(piece.bytes > 0);
            covered.push((piece.addr, piece.last()));
            prop_assert!(covered.len() <= 1 << 17);
        }
        if range.granule.is_some() {
            prop_assert!(covered.first().is_some_and(|first| first.0 <= range.addr));
            prop_assert!(covered.last().is_some_and(|last| last.1 >= range.last()));
            prop_assert!(covered.windows(2).all(|w| w[0].1.checked_add(1) == Some(w[1].0)));
        }
    }

    #[test]
    fn a_range_of_streams_is_what_64_bit_arithmetic_says(own: u32, other: u32, range in 0u8..31) {
        let size = 1u64 << (range + 1);
        let first = u64::from(own) / size * size;
        let inside = (first..first + size).contains(&u64::from(other));
        let cfgi = Cfgi::SteRange { stream: StreamId(own), range };
        prop_assert_eq!(cfgi.concerns(StreamId(other)), inside);
    }
}

/// The triple that the architecture reserves: such a range is sent without a granule.
fn reserved(range: &TlbiRange) -> bool {
    let ttl = match (range.granule, range.ttl) {
        (Some(Granule::K16), 1) => 0,
        (_, ttl) => ttl,
    };
    range.granule.is_some_and(|g| range.bytes <= g.bytes()) && ttl == 0
}

fn range_of(tlbi: &Tlbi) -> Option<TlbiRange> {
    match *tlbi {
        Tlbi::NhVa { range, .. }
        | Tlbi::NhVaa { range, .. }
        | Tlbi::El2Va { range, .. }
        | Tlbi::El2Vaa { range }
        | Tlbi::S2Ipa { range, .. } => Some(range),
        _ => None,
    }
}

/// Whether `got` removes at least what `asked` removes.
fn at_least(asked: &Command, got: Result<Command, Illegal>) -> bool {
    let (Command::Tlbi(asked), Ok(Command::Tlbi(got))) = (asked, got) else {
        return false;
    };
    let same_tags = match (*asked, got) {
        (Tlbi::NhVa { vmid: a, .. } | Tlbi::NhVaa { vmid: a, .. }, Tlbi::NhAll { vmid: b })
        | (Tlbi::S2Ipa { vmid: a, .. }, Tlbi::S12VmAll { vmid: b }) => return a == b,
        (Tlbi::El2Va { .. } | Tlbi::El2Vaa { .. }, Tlbi::El2All) => return true,
        (
            Tlbi::NhVa { vmid, asid, .. },
            Tlbi::NhVa {
                vmid: v, asid: a, ..
            },
        ) => (vmid, asid) == (v, a),
        (Tlbi::NhVaa { vmid, .. }, Tlbi::NhVaa { vmid: v, .. })
        | (Tlbi::S2Ipa { vmid, .. }, Tlbi::S2Ipa { vmid: v, .. }) => vmid == v,
        (Tlbi::El2Va { asid, .. }, Tlbi::El2Va { asid: a, .. }) => asid == a,
        (Tlbi::El2Vaa { .. }, Tlbi::El2Vaa { .. }) => true,
        _ => false,
    };
    let (Some(asked), Some(got)) = (range_of(asked), range_of(&got)) else {
        return false;
    };
    let page = |addr: u64| addr & !0xfff;
    let addresses = match got.granule {
        // Without a granule every entry that contains the page goes, of whatever granule: as
        // much as one granule of the request, or one page.
        None => asked.granule.map_or(page(asked.addr) == got.addr, |g| {
            asked.addr / g.bytes() == asked.last() / g.bytes()
                && asked.addr / g.bytes() == got.addr / g.bytes()
        }),
        granule => granule == asked.granule && got.addr <= asked.addr && got.last() >= asked.last(),
    };
    same_tags && addresses && (got.ttl == 0 || got.ttl == asked.ttl) && (!got.leaf || asked.leaf)
}

fn any_granule() -> impl Strategy<Value = Granule> {
    prop_oneof![Just(Granule::K4), Just(Granule::K16), Just(Granule::K64)]
}

/// Ranges that one command can name, in the form in which decoding returns them.
fn tame_range() -> impl Strategy<Value = TlbiRange> {
    let single = (any::<u64>(), any::<bool>()).prop_map(|(addr, leaf)| TlbiRange {
        addr: addr & !0xfff,
        bytes: 4096,
        granule: None,
        ttl: 0,
        leaf,
    });
    let shaped = (
        any::<u64>(),
        any_granule(),
        1u64..=32,
        0u32..=31,
        0u8..=3,
        any::<bool>(),
    )
        .prop_map(|(addr, granule, num, scale, ttl, leaf)| TlbiRange {
            addr: addr & !(granule.bytes() - 1),
            bytes: num << (scale + granule.shift()),
            granule: Some(granule),
            // 16 KiB has no blocks at level 1, so decoding never returns that.
            ttl: if granule == Granule::K16 && ttl == 1 {
                2
            } else {
                ttl
            },
            leaf,
        });
    prop_oneof![1 => single, 4 => shaped]
}

fn wild_range() -> impl Strategy<Value = TlbiRange> {
    let bytes = (any::<u64>(), 0u32..64).prop_map(|(bits, shift)| (bits >> shift).max(1));
    (
        any::<u64>(),
        bytes,
        proptest::option::weighted(0.9, any_granule()),
        0u8..=3,
        any::<bool>(),
    )
        .prop_map(|(addr, bytes, granule, ttl, leaf)| TlbiRange {
            addr,
            bytes: if granule.is_some() { bytes } else { 4096 },
            granule,
            ttl,
            leaf,
        })
}

fn any_tlbi(range: impl Strategy<Value = TlbiRange>) -> impl Strategy<Value = Tlbi> {
    (0..5u8, any::<u16>(), any::<u16>(), range).prop_map(|(which, vmid, asid, range)| {
        let (vmid, asid) = (Vmid(vmid), Asid(asid));
        match which {
            0 => Tlbi::NhVa { vmid, asid, range },
            1 => Tlbi::NhVaa { vmid, range },
            2 => Tlbi::El2Va { asid, range },
            3 => Tlbi::El2Vaa { range },
            _ => Tlbi::S2Ipa {
                vmid,
                // IPAs have 52 bits.
                range: TlbiRange {
                    addr: range.addr & ((1 << 52) - 1),
                    ..range
                },
            },
        }
    })
}

fn any_whole_tlbi() -> impl Strategy<Value = Tlbi> {
    (0..6u8, any::<u16>(), any::<u16>()).prop_map(|(which, vmid, asid)| {
        let (vmid, asid) = (Vmid(vmid), Asid(asid));
        match which {
            0 => Tlbi::NhAll { vmid },
            1 => Tlbi::NhAsid { vmid, asid },
            2 => Tlbi::El2All,
            3 => Tlbi::El2Asid { asid },
            4 => Tlbi::S12VmAll { vmid },
            _ => Tlbi::NsnhAll,
        }
    })
}

fn any_cfgi() -> impl Strategy<Value = Cfgi> {
    (0..5u8, any::<u32>(), 0u32..1 << 20, any::<bool>(), 0u8..31).prop_map(
        |(which, stream, substream, leaf, range)| {
            let (stream, substream) = (StreamId(stream), SubstreamId(substream));
            match which {
                0 => Cfgi::Ste { stream, leaf },
                1 => Cfgi::SteRange { stream, range },
                2 => Cfgi::All,
                3 => Cfgi::Cd {
                    stream,
                    substream,
                    leaf,
                },
                _ => Cfgi::CdAll { stream },
            }
        },
    )
}

fn any_signal() -> impl Strategy<Value = Signal> {
    (0..4u8, 1u64..1 << 54, any::<u32>()).prop_map(|(which, word, data)| match which {
        0 => Signal::None,
        1 => Signal::Sev,
        2 => Signal::Irq { msi: None },
        _ => Signal::Irq {
            msi: Some(Msi {
                addr: Gpa(word << 2),
                data,
            }),
        },
    })
}

fn any_stream_command() -> impl Strategy<Value = Command> {
    let substream = proptest::option::of((0u32..1 << 20).prop_map(SubstreamId));
    let numbers = (any::<u64>(), 0u8..=52, any::<u16>(), 0u8..3);
    (0..6u8, any::<u32>(), substream, numbers).prop_map(|(which, stream, substream, numbers)| {
        let (addr, size, word, choice) = numbers;
        let stream = StreamId(stream);
        match which {
            0 => Command::PrefetchConfig { stream, substream },
            1 => Command::PrefetchAddr {
                stream,
                substream,
                addr: addr & !0xfff,
                size: size & 31,
            },
            2 => Command::AtcInv(AtcInv {
                stream,
                substream,
                global: substream.is_some() && choice == 0,
                addr: if size == 52 {
                    0
                } else {
                    addr >> (size + 12) << (size + 12)
                },
                size,
            }),
            3 => Command::PriResp {
                stream,
                substream,
                group: word & 0x1ff,
                response: [
                    PriResponse::Failure,
                    PriResponse::Invalid,
                    PriResponse::Success,
                ][usize::from(choice)],
            },
            4 => Command::Resume {
                stream,
                stag: Stag(word),
                action: [
                    ResumeAction::Retry,
                    ResumeAction::Abort,
                    ResumeAction::Terminate,
                ][usize::from(choice)],
            },
            _ => Command::StallTerm { stream },
        }
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let exact = tame_range().prop_filter("sent without a granule", |range| !reserved(range));
    prop_oneof![
        any_stream_command(),
        any_cfgi().prop_map(Command::Cfgi),
        any_tlbi(exact).prop_map(Command::Tlbi),
        any_whole_tlbi().prop_map(Command::Tlbi),
        any_signal().prop_map(Command::Sync),
    ]
}
