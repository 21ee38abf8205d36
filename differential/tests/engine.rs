//! The random worlds without QEMU: what they reach, and that the engine is of one mind about them.

use smmu_core::config::StreamTable;
use smmu_core::fault::Fault;
use smmu_core::spec::register::{StrtabBase, StrtabBaseCfg};
use smmu_core::translate::Setup;
use smmu_core::{Capabilities, GuestMemory};
use std::collections::BTreeSet;
use std::sync::Arc;
use vcmdq_differential::layout::{RAM_MIB, STREAMS, STREAMS_LOG2, STREAMS_SPLIT};
use vcmdq_differential::ours::Engine;
use vcmdq_differential::slate::Slate;
use vcmdq_differential::world::{Dice, World};
use vcmdq_e2e::vehicle::Ram;

const WORLDS: u64 = 600;

/// What QEMU 11.1 identifies itself as with both stages.
fn caps() -> Capabilities {
    Capabilities {
        idr0: 0x0D44_101B.into(),
        idr1: 0x0273_0010.into(),
        idr3: 0x1414.into(),
        idr5: 0x74.into(),
        aidr: 1.into(),
    }
}

fn setup(two_level: bool) -> Setup {
    let streams = StrtabBaseCfg::new()
        .with_log2size(STREAMS_LOG2)
        .with_split(STREAMS_SPLIT)
        .with_fmt(two_level.into());
    Setup {
        streams: StreamTable::from_registers(StrtabBase::from_bits(STREAMS), streams, &caps()),
        caps: caps(),
        e2h: false,
        record_bad_stream_id: true,
    }
}

/// `outcomes` fails when the cached backend and the walk disagree.
#[test]
fn caches_say_what_walks_say_and_worlds_reach_every_fault() {
    let ram = Ram::new(RAM_MIB).expect("RAM");
    let memory: Arc<dyn GuestMemory> = ram.memory().clone();
    let mut slate = Slate::new(ram);
    let (mut faults, mut done) = (BTreeSet::new(), 0);
    for number in 0..WORLDS {
        let two_level = number % 8 == 7;
        let world = World::random(&mut Dice::new(1, number), two_level);
        slate.enter(&world).expect("RAM");
        let mut engine = Engine::new(&setup(two_level), &memory).expect("guards");
        let outcomes = engine.outcomes(&world);
        for outcome in outcomes.unwrap_or_else(|error| panic!("world {number}: {error:#}")) {
            done += u64::from(outcome.reached.is_some());
            faults.extend(
                outcome
                    .fault
                    .as_ref()
                    .map(Fault::event)
                    .map(|event| event as u8),
            );
        }
        assert!(
            slate.is_unspoilt().expect("RAM"),
            "world {number}: the engine wrote"
        );
    }
    let all = [0x02, 0x04, 0x09, 0x0A, 0x0B, 0x10, 0x11, 0x12, 0x13];
    assert!(
        all.iter().all(|event| faults.contains(event)),
        "only {faults:x?}"
    );
    let accesses = WORLDS * 16;
    assert!(
        (accesses / 4..accesses).contains(&done),
        "{done} of {accesses} were done"
    );
}

/// A change behind which the caches would be wrong if nothing were sent, in one of ten worlds at least.
#[test]
fn law7_the_narrowest_invalidation_of_a_change_is_enough() {
    let ram = Ram::new(RAM_MIB).expect("RAM");
    let memory: Arc<dyn GuestMemory> = ram.memory().clone();
    let mut slate = Slate::new(ram);
    let (mut changes, mut needed) = (0, 0);
    for number in 0..WORLDS {
        let two_level = number % 8 == 7;
        let world = World::random(&mut Dice::new(1, number), two_level);
        let Some(change) = &world.change else {
            continue;
        };
        slate.enter(&world).expect("RAM");
        let engine = || {
            let mut engine = Engine::new(&setup(two_level), &memory).expect("guards");
            engine.outcomes(&world).expect("of one mind");
            engine
        };
        let (mut untold, mut told) = (engine(), engine());
        let after = world.after(change);
        slate.enter(&after).expect("RAM");
        needed += u32::from(untold.outcomes(&after).is_err());
        told.execute(&change.commands).expect("legal");
        let outcomes = told.outcomes(&after);
        outcomes.unwrap_or_else(|error| {
            panic!("world {number} behind {:x?}: {error:#}", change.commands)
        });
        changes += 1;
    }
    assert!(needed * 10 > changes, "{needed} of {changes}");
    assert!(changes * 10 > WORLDS as u32, "{changes}");
}

#[test]
fn a_seed_is_a_run() {
    let world = |seed, number| format!("{:?}", World::random(&mut Dice::new(seed, number), false));
    assert_eq!(world(3, 5), world(3, 5));
    assert_ne!(world(3, 5), world(3, 6));
    assert_ne!(world(3, 5), world(4, 5));
}

#[test]
fn what_a_world_has_written_is_gone_in_the_next() {
    let mut slate = Slate::new(Ram::new(RAM_MIB).expect("RAM"));
    let [one, other] = [1, 2].map(|number| World::random(&mut Dice::new(1, number), false));
    slate.enter(&one).expect("RAM");
    let (&at, &word) = one
        .words
        .iter()
        .find(|(at, _)| !other.words.contains_key(at))
        .expect("a word");
    assert_eq!(slate.read(at).expect("RAM"), word);
    assert!(slate.is_unspoilt().expect("RAM"));
    slate.write(at, !word).expect("RAM");
    assert!(!slate.is_unspoilt().expect("RAM"));
    slate.enter(&other).expect("RAM");
    assert_eq!(slate.read(at).expect("RAM"), 0);
}
