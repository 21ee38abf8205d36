//! The translation core against the naive model, over random worlds.

use crate::naive::asked::{answer, input, setup};
use crate::naive::model::{self, Answer};
use crate::naive::world::{Dice, World};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A name for the kind of an answer.
fn kind(answer: &Answer) -> String {
    match answer {
        Answer::SilentAbort => "abort".into(),
        Answer::Bypass(..) => "bypass".into(),
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
        let setup = setup(&world.registers);
        for _ in 0..512 {
            let request = world.request(&mut dice);
            let expected = model::translate(&naive.ram, &naive.registers, &request);
            let input = input(&setup, &world.ram, &request);
            let found = answer(&setup, &world.ram, &request, input);
            prop_assert_eq!(found, expected, "{:x?}", request);
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
            if let Answer::Page { memory, .. } | Answer::Bypass(_, memory) = found {
                let (mair, shared) = memory.raw();
                *seen.entry(format!("memory {mair:#04x}")).or_default() += 1;
                *seen.entry(format!("shared {shared}")).or_default() += 1;
            }
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
        .chain((0..4).map(|device| format!("memory {:#04x}", device << 2)))
        .chain([0x44, 0xff, 0xf4, 0xfb, 0xf2].map(|mair| format!("memory {mair:#04x}")))
        .chain((0..3).map(|shared| format!("shared {shared}")))
        .chain([12, 21, 30, 14, 25, 16, 29].map(|log2| format!("page of 2^{log2}")));
    for kind in expected {
        assert!(
            seen.get(&kind).is_some_and(|&count| count >= 10),
            "{kind}: {seen:#?}"
        );
    }
}
