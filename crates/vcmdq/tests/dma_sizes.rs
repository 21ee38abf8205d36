//! IDR3.BBML=2: translations change their size without break-before-make (IHI 0070, 3.21.1.3).

mod dma_world;

use dma_world::*;
use smmu_core::command::{Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Vmid};
use vcmdq::testing::commands::sync;

/// An address of 2 MiB, the block that it is mapped to at first, and another one.
const VA: u64 = 0x4000_0000;
const HERE: u64 = 0x20_0000;
const THERE: u64 = 0x40_0000;
const PAGES: [u64; 3] = [0, 0x5000, 0x1F_F000];

/// The whole block.
fn tlbi_block() -> RawCommand {
    tlbi_of(VA, 512)
}

/// Without a hint of the level; also of tables that have stood there, which an invalidation of leaves
/// alone may leave in the cache.
fn tlbi_of(va: u64, pages: u64) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(1),
        range: range(va, pages, false),
    }))
}

/// Pages and a block of the same place are both cached; a device sees one of them, and behind a TLBI
/// and its SYNC neither.
#[test]
fn law7_pages_and_a_block_are_cached_together_and_leave_together() {
    let mut world = World::new();
    let guest = &world.guest;
    let space = guest.space(1);
    for page in 0..512 {
        let at = page << 12;
        guest.map(&space, VA + at, HERE + at, PAGE);
    }
    for page in PAGES {
        guest.set(HERE + page, 1);
        guest.set(THERE + page, 2);
    }
    guest.attach(1, &space);
    let middle = guest.descriptor(&space, VA, 2);
    let table = guest.get(middle);
    let mut device = world.device(1);
    let mut see = |page: u64| {
        let mut byte = [0];
        device.read(VA + page, &mut byte).map(|()| byte[0]).ok()
    };
    assert_eq!(see(PAGES[0]), Some(1));
    // The same place as a block: what is not cached as a page comes as the block.
    world.guest.set(middle, HERE | PAGE & !2);
    assert_eq!(PAGES.map(&mut see), [Some(1); 3]);
    world.send(&[tlbi_block(), sync()]);
    // Another block, then pages again.
    world.guest.set(middle, THERE | PAGE & !2);
    assert_eq!(PAGES.map(&mut see), [Some(2); 3]);
    world.guest.set(middle, table);
    world.send(&[tlbi_block(), sync()]);
    assert_eq!(PAGES.map(&mut see), [Some(1); 3]);
    // One page goes, first from what was both.
    world.guest.set(middle, HERE | PAGE & !2);
    world.send(&[tlbi_of(VA + PAGES[1], 1), sync()]);
    assert_eq!(see(PAGES[1]), Some(1));
    world.guest.set(middle, 0);
    world.send(&[tlbi_of(VA + PAGES[1], 1), sync()]);
    assert_eq!(see(PAGES[1]), None);
    world.send(&[tlbi_block(), sync()]);
    assert_eq!(PAGES.map(&mut see), [None; 3]);
}
