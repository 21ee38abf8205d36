//! Whatever the guest writes into its structures: a result, an event or an abort, never a panic,
//! and nobody is kept waiting afterwards.

mod dma_world;

use dispatch::Backend;
use dispatch::backend::software::Stale;
use dma_world::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use smmu_core::access::Operation;
use smmu_core::{StreamId, SubstreamId};
use std::cell::RefCell;
use std::sync::Arc;
use vcmdq::dma::{DmaError, Segment};
use vcmdq::testing::commands::sync;

struct Nobody;

impl Stale for Nobody {
    fn stale(&self) {}
}

/// Words that are often nearly right: a random one, or a valid one with a few bits turned.
fn word(near: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => any::<u64>(),
        2 => Just(near),
        3 => (0..64u32).prop_map(move |bit| near ^ 1 << bit),
    ]
}

const STE_AT: u64 = 64 * 3;
const CD_AT: u64 = 0x8000;
const TABLE: u64 = 0x9000;
const LEAF: u64 = 0x40_0000 | PAGE;

#[derive(Debug)]
struct Structures {
    ste: [u64; 8],
    cd: [u64; 8],
    table: Vec<u64>,
}

fn structures() -> impl Strategy<Value = Structures> {
    let zeros = || prop_oneof![4 => Just(0), 1 => any::<u64>()];
    let ste = (
        word(0xB | CD_AT),
        word(0),
        [zeros(), zeros(), zeros(), zeros(), zeros(), zeros()],
    );
    let cd = (
        word(CD | 1 << 48),
        word(TABLE),
        word(TABLE),
        word(0xF404_FF44),
        any::<[u64; 4]>(),
    );
    // A table that may point at itself.
    let descriptor = prop_oneof![word(TABLE | 3), word(LEAF), word(LEAF & !2)];
    let table = proptest::collection::vec(descriptor, 8);
    (ste, cd, table).prop_map(|((s0, s1, s), (c0, c1, c2, c3, c), table)| Structures {
        ste: [s0, s1, s[0], s[1], s[2], s[3], s[4], s[5]],
        cd: [c0, c1, c2, c3, c[0], c[1], c[2], c[3]],
        table,
    })
}

fn put(world: &World, structures: &Structures) {
    let words = |at: u64, words: &[u64]| {
        for (n, word) in (0..).zip(words) {
            world.guest.set(at + 8 * n, *word);
        }
    };
    words(STE_AT, &structures.ste);
    words(CD_AT, &structures.cd);
    for entry in 0..512 {
        let word = structures.table[entry as usize % structures.table.len()];
        world.guest.set(TABLE + 8 * entry, word);
    }
}

/// Accesses of every kind that does not write: a write could change the ring under the test.
fn exercise(world: &mut World, iova: u64, len: usize, substream: Option<u32>, privileged: bool) {
    let mut device = world.device(3);
    device.set_substream(substream.map(SubstreamId));
    device.set_privileged(privileged);
    let mut bytes = vec![0; len];
    let mut results = Vec::new();
    for _ in 0..2 {
        results.push(device.read(iova, &mut bytes).map(|()| len));
        results.push(device.fetch(iova, &mut bytes).map(|()| len));
        let segments = [Segment { iova, len }; 2];
        results.push(device.read_vectored(&segments, &mut bytes));
    }
    for result in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(result.done <= len, "{result:?}");
        assert!(!matches!(
            result.cause,
            DmaError::NoGuard(_) | DmaError::Misaligned(..)
        ));
    }
    if let Ok(Some(held)) = device.hold(Operation::Read, iova, len) {
        assert!(held.read(0, &mut bytes).is_ok_and(|read| read <= len) || !held.is_empty());
    }
    let tell: Arc<dyn Stale> = Arc::new(Nobody);
    let route = device.translate_msi(iova & !3, 1, &tell);
    drop(results);
    world.send(&[cfgi_ste(3), tlbi_asid(1), sync()]);
    assert!(world.done(), "a guard was left open");
    if let Ok(Some(route)) = &route {
        assert!(route.is_stale());
    }
    drop(route);
    let stalls = world.faults.sink.stalls().unwrap().in_use();
    assert_eq!(stalls, 0, "every stalled access has been given up");
}

#[test]
fn random_structures_never_harm() {
    let addresses = prop_oneof![0..0x4_0000_0000u64, any::<u64>()];
    let substreams = proptest::option::of(0..4u32);
    let accesses = (
        addresses,
        any::<bool>(),
        0..0x3000usize,
        substreams,
        any::<bool>(),
    );
    let world = RefCell::new(World::new());
    let config = ProptestConfig::with_cases(4000);
    let mut runner = TestRunner::new(config);
    runner
        .run(&(structures(), accesses), |(structures, access)| {
            let (address, upper, len, substream, privileged) = access;
            let mut world = world.borrow_mut();
            put(&world, &structures);
            world.send(&[cfgi_ste(3)]);
            let iova = if upper { !address } else { address };
            exercise(&mut world, iova, len, substream, privileged);
            Ok(())
        })
        .unwrap();
}

/// The same words and addresses while the stream is failed closed: nothing but aborts.
#[test]
fn law4_a_closed_stream_aborts_whatever_its_structures_say() {
    let world = World::new();
    let space = world.guest.space(1);
    world.guest.map(&space, 0x40_0000, 0x40_0000, PAGE);
    for ste in [0, 1, 0x9, 0xB | CD_AT, 0xD, 0xF, !0] {
        world.guest.cd(CD_AT, &space, CD);
        world.guest.ste(3, [ste, 0]);
        world.core.fail_closed(Some(StreamId(3)));
        let aborted = world.device(3).read(0x40_0000, &mut [0]).unwrap_err();
        assert!(
            matches!(aborted.cause, DmaError::Aborted),
            "{ste:#x}: {aborted:?}"
        );
    }
}
