//! Whatever lies in guest memory, translation returns.

use crate::naive::Ram;
use proptest::prelude::*;
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::caps::Capabilities;
use smmu_core::config::{StreamTable, interpret};
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};
use smmu_core::spec::ste::Ste;
use smmu_core::translate::Setup;
use smmu_core::{StreamId, SubstreamId};

/// Noise, and noise that is nearly all ones or zeros.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b),
    ]
}

prop_compose! {
    fn any_caps()(idr0 in any_word(), idr1: u32, idr3: u32, idr5: u32) -> Capabilities {
        Capabilities {
            // Both stages, AArch64 tables.
            idr0: Idr0::from_bits(idr0 as u32 | 0xb),
            idr1: Idr1::from_bits(idr1),
            idr3: Idr3::from_bits(idr3),
            idr5: Idr5::from_bits(idr5),
            ..Capabilities::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Row 27 of the peers' bugs: an STE with S2AA64=0 reached an assertion. Random bytes as
    /// STE, CD and descriptors, under random capabilities: every verdict is allowed, a panic is
    /// not.
    #[test]
    fn peers_row27_random_bytes_never_panic(
        words in proptest::collection::vec(any_word(), 64..128),
        caps in any_caps(),
        base: u64, cfg: u32, e2h: bool,
        stream in 0u32..8, substream: Option<u16>, address in any_word(),
        valid in proptest::bool::weighted(0.9),
    ) {
        let ram = Ram::new(8 * words.len() as u64);
        ram.set_all(0, &words);
        let mut setup = Setup {
            streams: StreamTable::from_registers(
                StrtabBase::from_bits(base), StrtabBaseCfg::from_bits(cfg), &caps,
            ),
            caps,
            e2h,
            record_bad_stream_id: true,
        };
        if valid {
            // A table that is there, and an STE that is valid and has a CD table that is there.
            setup.streams = StreamTable {
                base: smmu_core::Gpa(0), log2size: 3, split: 6, two_level: false,
            };
            let at = 64 * u64::from(stream);
            let ste = ram.get(at).unwrap_or(0);
            ram.set(at, ste & !0x00ff_ffff_ffff_ffff | ste & 0x1f0 | 0xb);
        }
        for operation in [Operation::Read, Operation::Write, Operation::Execute] {
            let transaction = Transaction {
                stream: StreamId(stream),
                substream: substream.map(|s| SubstreamId(s.into())),
                access: Access { address, operation, privileged: address & 1 == 0 },
            };
            match setup.translate(&ram, &transaction) {
                Ok(_) => {}
                Err(failed) => prop_assert!(failed.record(None).id().is_some()),
            }
        }
    }

    #[test]
    fn peers_row27_random_stes_never_panic(words: [u64; 8], caps in any_caps()) {
        for config in 0..8 {
            let mut words = words;
            words[0] = words[0] & !0xe | config << 1 | 1;
            // Half of them without what makes nearly every stage 2 invalid.
            words[2] |= 1 << 51;
            let found = interpret(&Ste(words), &caps);
            prop_assert_eq!(found.is_ok_and(|c| c.attributes().is_none()), config < 4);
        }
    }
}
