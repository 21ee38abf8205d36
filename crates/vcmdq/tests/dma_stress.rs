//! Devices use a mapping that the guest changes all the time, on a real engine.

mod dma_world;

use dma_world::*;
use smmu_core::Capabilities;
use smmu_core::access::Operation;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use vcmdq::dma::Device;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings, StdThreads};

const VA: u64 = 0x40_0000;
/// Pages that the mapping goes through, one after the other.
const PAGES: u64 = 64;
const DATA: u64 = 0x40_0000;
const ROUNDS: u64 = 400;

/// A page that is not mapped, and whose SYNC is done, holds this in every word. Whoever reads it, or
/// overwrites it, used a translation that had been removed.
const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;

fn page(round: u64) -> u64 {
    DATA + (round % PAGES) * 0x1000
}

fn fill(world: &World, at: u64, value: u64) {
    for word in (at..at + 0x1000).step_by(8) {
        world.guest.set(word, value);
    }
}

fn assert_poisoned(world: &World, at: u64, round: u64) {
    for word in (at..at + 0x1000).step_by(8) {
        let found = world.guest.get(word);
        assert_eq!(
            found, POISON,
            "written after its SYNC, {word:#x} in round {round}"
        );
    }
}

/// Waits for what was published; the worker must not need to be told twice.
fn wait(world: &World) {
    let begun = Instant::now();
    while !world.done() {
        assert!(begun.elapsed() < SOON, "CONS {:#x}", world.ring.cons());
        std::thread::yield_now();
    }
}

/// Reads, writes or holds the page, over and over.
fn use_mapping(kind: usize, device: &mut Device, stop: &AtomicU64, used: &AtomicU64) {
    let mut bytes = [0; 0x1000];
    while stop.load(Ordering::Relaxed) == 0 {
        let accessed = match kind {
            0 => device.read(VA, &mut bytes).is_ok(),
            1 => device.write(VA + 0x101, &bytes[..0x203]).is_ok(),
            _ => match device.hold(Operation::Read, VA, 0x1000) {
                Ok(Some(held)) => {
                    std::thread::yield_now();
                    held.read(0, &mut bytes).is_ok()
                }
                _ => false,
            },
        };
        if accessed {
            let poisoned = |word: &[u8]| word == POISON.to_le_bytes();
            let stale = bytes.chunks_exact(8).any(poisoned);
            assert!(!stale, "read after its SYNC by device {kind}");
            used.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Break before make: each round removes the page, invalidates, waits for the SYNC, then poisons
/// the old page. The devices read whole pages, write to them and hold translations meanwhile.
#[test]
fn law3_no_device_uses_a_translation_after_the_sync_that_follows_its_removal() {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut world = World::with(engine, Capabilities::default(), small());
    let space = world.guest.space(1);
    world.guest.attach(1, &space);
    let descriptor = world.guest.descriptor(&space, VA, 3);
    for round in 0..PAGES {
        fill(&world, page(round), POISON);
    }
    let stop = AtomicU64::new(0);
    let used = AtomicU64::new(0);
    let devices: Vec<_> = (0..3).map(|_| world.device(1)).collect();
    std::thread::scope(|scope| {
        for (kind, mut device) in devices.into_iter().enumerate() {
            let (stop, used) = (&stop, &used);
            scope.spawn(move || use_mapping(kind, &mut device, stop, used));
        }
        let guest = std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                let at = page(round);
                assert_poisoned(&world, at, round);
                fill(&world, at, round);
                world.guest.set(descriptor, at | PAGE);
                if round % 4 == 0 {
                    std::thread::yield_now();
                }
                // However the threads are scheduled, some rounds have an access in them.
                let before = used.load(Ordering::Relaxed);
                let begun = Instant::now();
                while round % 32 == 0 && used.load(Ordering::Relaxed) == before {
                    assert!(begun.elapsed() < SOON, "no access succeeds");
                    std::thread::yield_now();
                }
                world.guest.set(descriptor, 0);
                let removal = [tlbi(1, VA), tlbi_asid(1)][(round % 2) as usize];
                world.publish(&[removal, sync()]);
                wait(&world);
                fill(&world, at, POISON);
            }
        });
        let result = std::panic::catch_unwind(guest);
        stop.store(1, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    for round in 0..PAGES {
        assert_poisoned(&world, page(round), ROUNDS);
    }
    assert!(used.load(Ordering::Relaxed) >= ROUNDS / 32);
    world.engine.stop();
}

/// Devices that never stop using an address space of their own do not delay anybody else's SYNC.
#[test]
fn law3_guards_without_pause_on_one_asid_never_stop_the_syncs_of_another() {
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut world = World::with(engine, Capabilities::default(), small());
    for asid in [1, 2] {
        let space = world.guest.space(asid);
        world.guest.map(&space, VA, DATA, PAGE);
        world.guest.attach(asid.into(), &space);
    }
    let mut device = world.device(2);
    let held = device.hold(Operation::Read, VA, 8).unwrap().unwrap();
    for _ in 0..1000 {
        world.publish(&[tlbi(1, VA), sync(), tlbi_asid(1), sync()]);
        wait(&world);
    }
    world.publish(&[tlbi(2, VA), sync()]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!world.done());
    drop(held);
    wait(&world);
    world.engine.stop();
}
