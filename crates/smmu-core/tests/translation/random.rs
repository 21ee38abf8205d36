//! The translation core against the naive model, over random worlds.

use crate::naive::model::{self, Answer, Request};
use crate::naive::world::{Dice, World};
use proptest::prelude::*;
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};
use smmu_core::translate::{Setup, Translated};
use smmu_core::walk::Leaf;
use smmu_core::{StreamId, SubstreamId};
use std::collections::BTreeMap;

fn setup(world: &World) -> Setup {
    let registers = &world.registers;
    let caps = Capabilities {
        idr0: Idr0::from_bits(registers.idr0),
        idr1: Idr1::from_bits(registers.idr1),
        idr3: Idr3::from_bits(registers.idr3),
        idr5: Idr5::from_bits(registers.idr5),
        ..Capabilities::default()
    };
    Setup {
        streams: StreamTable::from_registers(
            StrtabBase::from_bits(registers.strtab_base),
            StrtabBaseCfg::from_bits(registers.strtab_base_cfg),
            &caps,
        ),
        caps,
        e2h: registers.e2h,
        record_bad_stream_id: true,
    }
}

fn transaction(request: &Request) -> Transaction {
    Transaction {
        stream: StreamId(request.stream),
        substream: request.substream.map(SubstreamId),
        access: Access {
            address: request.address,
            operation: match (request.write, request.execute) {
                (true, _) => Operation::Write,
                (false, true) => Operation::Execute,
                (false, false) => Operation::Read,
            },
            privileged: request.privileged,
        },
    }
}

/// The answer of the crate, in the model's words.
fn answer(setup: &Setup, world: &World, request: &Request) -> Answer {
    let transaction = transaction(request);
    match setup.translate(&world.ram, &transaction) {
        Ok(Translated::Aborted) => Answer::SilentAbort,
        Ok(Translated::Bypassed(address)) => Answer::Bypass(address),
        // Through the form in which caches hold it: nothing may be lost.
        Ok(Translated::Mapped(leaf)) if Leaf::unpack(leaf.pack()) != Some(leaf) => {
            panic!("{leaf:?} does not survive packing");
        }
        Ok(Translated::Mapped(leaf)) => Answer::Page {
            output: leaf.output(request.address),
            bytes: 1 << leaf.shift,
            global: leaf.global,
            mair: leaf.memory.mair,
            shareability: leaf.memory.shareability,
        },
        Err(failed) => Answer::Event(failed.record(None).0),
    }
}

/// A name for the kind of an answer.
fn kind(answer: &Answer) -> String {
    match answer {
        Answer::SilentAbort => "abort".into(),
        Answer::Bypass(_) => "bypass".into(),
        Answer::Page { bytes, .. } => format!("page of 2^{}", bytes.trailing_zeros()),
        // CLASS=TT without TTRnW.
        Answer::Event([id, how, ..])
            if id & 0xff == 0x13 && how >> 39 & 1 != 0 && how >> 40 & 0x13 == 1 =>
        {
            "event 0x13 by an update of stage 1".into()
        }
        Answer::Event([id, how, ..]) if how >> 39 & 1 != 0 => {
            format!(
                "event {:#04x} of stage 2, CLASS={}",
                id & 0xff,
                how >> 40 & 3
            )
        }
        Answer::Event([id, ..]) => format!("event {:#04x}", id & 0xff),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn translation_is_what_the_naive_model_says(seed: u64) {
        let mut dice = Dice::new(seed);
        // The same world twice, as each SMMU writes into its own.
        let naive = World::new(&mut dice.clone());
        let world = World::new(&mut dice);
        let setup = setup(&world);
        for _ in 0..512 {
            let request = world.request(&mut dice);
            let expected = model::translate(&naive.ram, &naive.registers, &request);
            prop_assert_eq!(answer(&setup, &world, &request), expected, "{:x?}", request);
            let expected = naive.ram.take_written();
            prop_assert_eq!(world.ram.take_written(), expected, "{:x?}", request);
        }
    }
}

/// The comparison above means something only if the random worlds reach every outcome.
#[test]
fn the_random_worlds_reach_every_outcome() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..160 {
        let mut dice = Dice::new(seed);
        let world = World::new(&mut dice);
        for _ in 0..1024 {
            let request = world.request(&mut dice);
            let found = model::translate(&world.ram, &world.registers, &request);
            *seen.entry(kind(&found)).or_default() += 1;
            for (_, new) in world.ram.take_written() {
                // Of which stage is not to be seen: bit 7 has opposite meanings.
                let what = format!("update, bit 7 is {}", new >> 7 & 1);
                *seen.entry(what).or_default() += 1;
            }
        }
    }
    let events = [
        0x02, 0x03, 0x04, 0x06, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13,
    ];
    let expected = events
        .map(|id| format!("event {id:#04x}"))
        .into_iter()
        .chain(["abort".into(), "bypass".into()])
        .chain((0..3).flat_map(|class| {
            [0x10, 0x12, 0x13].map(|id| format!("event {id:#04x} of stage 2, CLASS={class}"))
        }))
        .chain(["event 0x13 by an update of stage 1".into()])
        .chain([0, 1].map(|bit| format!("update, bit 7 is {bit}")))
        .chain([12, 21, 30, 14, 25, 16, 29].map(|log2| format!("page of 2^{log2}")));
    for kind in expected {
        assert!(
            seen.get(&kind).is_some_and(|&count| count >= 10),
            "{kind}: {seen:#?}"
        );
    }
}
