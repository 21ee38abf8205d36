//! Access flags and dirty state of pages that are cached.

mod dma_world;

use dma_world::*;
use smmu_core::Gpa;
use smmu_core::caps::{Capabilities, TableUpdates};
use smmu_core::spec::event::EventId;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings};

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;
const AF: u64 = 1 << 10;
const DBM: u64 = 1 << 51;
/// HA and HD of a CD.
const UPDATES: u64 = 3 << 42;

/// Stream 1 with one page of `bits`, and where its descriptor lies.
fn world(bits: u64) -> (World, u64) {
    let updates = Capabilities::builder().table_updates(TableUpdates::DirtyState);
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let world = World::with(engine, updates.build().unwrap(), small());
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, bits);
    let cd = world.guest.attach(1, &space);
    world.guest.cd(cd, &space, CD | UPDATES);
    let at = world.guest.descriptor(&space, VA, 3);
    (world, at)
}

/// What is cached of a clean page allows no write; the write finds the table, which says that the page
/// is dirty before the SYNC of whoever made it clean again completes.
#[test]
fn law3_a_write_to_a_cached_clean_page_is_in_the_table() {
    let clean = PAGE | READ_ONLY | DBM;
    let (mut world, at) = world(clean & !AF);
    let mut device = world.device(1);
    let (as_clean, as_dirty) = (DATA | clean, (DATA | clean) & !READ_ONLY);
    for _round in 0..3 {
        for _again in 0..2 {
            device.read(VA, &mut [0; 8]).unwrap();
            assert_eq!(world.guest.get(at), as_clean, "used, and clean");
        }
        for _again in 0..2 {
            device.write(VA, &[1; 8]).unwrap();
            assert_eq!(world.guest.get(at), as_dirty);
        }
        // As software does that looks for dirty pages.
        world.guest.set(at, as_clean);
        world.send(&[tlbi(1, VA), sync()]);
        assert!(world.done());
    }
    // An atomic access is a write.
    device.fetch_add_u32(VA, 1).unwrap();
    assert_eq!(world.guest.get(at), as_dirty);
    assert_eq!(world.faults.take(), []);
}

#[test]
fn a_page_that_cannot_become_writable_faults_from_the_cache() {
    let (world, at) = world(PAGE | READ_ONLY);
    let mut device = world.device(1);
    device.read(VA, &mut [0; 8]).unwrap();
    for _again in 0..2 {
        let result = device.write(VA, &[1; 8]);
        assert!(result.is_err());
    }
    let events: Vec<EventId> = world
        .faults
        .take()
        .iter()
        .map(|f| f.fault.event())
        .collect();
    assert_eq!(events, [EventId::Permission; 2]);
    assert_eq!(world.guest.get(at), DATA | PAGE | READ_ONLY);
}

/// Each update is reported to the dirty log once, and what is cached is not updated again.
#[test]
fn updates_are_logged_as_they_are_made() {
    let (world, at) = world((PAGE | READ_ONLY | DBM) & !AF);
    let mut device = world.device(1);
    let _before = world.guest.memory.take_dirty();
    let table = Gpa(at & !0xFFF);
    device.read(VA, &mut [0; 8]).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), [table]);
    device.read(VA, &mut [0; 8]).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), []);
    device.write(VA, &[1; 8]).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), [table, Gpa(DATA)]);
    device.write(VA, &[1; 8]).unwrap();
    assert_eq!(world.guest.memory.take_dirty(), [Gpa(DATA)]);
}
