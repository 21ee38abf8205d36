//! Translations lent to devices in other processes: what is taken away from them comes back before the
//! SYNC completes (law 3).

mod remote_world;

use dispatch::backend::software::{IovaRange, RemoteSettings, Wanted};
use dispatch::{Backend, Barrier, Batch, Invalidation, Scope, Stage, WaiterId};
use remote_world::dma_world::*;
use remote_world::*;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, GuestMemory, Vmid};
use vcmdq::testing::commands::sync;

#[test]
fn law3_a_sync_waits_until_the_device_has_answered() {
    let (mut world, space) = world();
    let (mut remote, ears) = remote(&world);
    let loan = remote.lend(VA + 0x1234, Wanted::ReadWrite, |_| ()).unwrap();
    assert_eq!((loan.iova, loan.bytes), (VA + 0x1000, 0x1000));
    assert_eq!(loan.address, Gpa(DATA + 0x2000));
    let words = world.guest.memory.words(loan.address, 1).unwrap();
    assert_eq!(loan.host, words.as_ptr().addr());
    world.guest.unmap(&space, VA + 0x1000, 3);
    world.send(&[tlbi(1, VA + 0x1000), sync()]);
    assert!(ears.told());
    assert!(!world.done(), "the device has not even been asked");
    let notice = take(&mut remote);
    assert_eq!(notice.ranges, [page(VA + 0x1000)]);
    // A device that keeps what it was told to drop never answers.
    assert!(!world.serve() && !world.done());
    assert!(remote.take().is_none());
    remote.answered(notice.number);
    assert!(world.serve() && world.done(), "the answer wakes the ring");
    assert_eq!(remote.loans(), 0);
}

#[test]
fn law3_what_was_not_lent_is_not_asked_for() {
    let (mut world, _) = world();
    let (mut remote, ears) = remote(&world);
    world.send(&[tlbi(1, VA), cfgi_ste(1), sync()]);
    assert!(world.done() && !ears.told(), "nothing is lent");
    lend(&mut remote, VA);
    world.send(&[tlbi(2, VA), tlbi_asid(2), cfgi_ste(2), sync()]);
    assert!(world.done() && !ears.told(), "another ASID, another stream");
    // Of the same ASID: only the owner knows, and need not ask the device.
    world.send(&[tlbi(1, VA + 0x3000), sync()]);
    assert!(ears.told() && !world.done());
    assert_eq!(remote.take(), None);
    assert!(world.serve() && world.done());
    assert_eq!(remote.loans(), 1);
    let metrics = remote.handle().metrics();
    assert_eq!((metrics.loans, metrics.notices, metrics.told), (1, 0, 1));
}

/// An invalidation of a ring, and whether a SYNC of it may complete.
fn removes_asid(world: &World, ring: WaiterId) -> bool {
    let mut batch = Batch::new();
    batch.set_waiter(ring);
    let (vmid, stage, scope) = (Vmid(0), Stage::One, Scope::Context(Asid(1)));
    batch.push(Invalidation { vmid, stage, scope }, 0);
    world.core.submit(&batch).unwrap();
    world.core.barrier(ring) == Barrier::Done
}

#[test]
fn law3_a_second_invalidation_waits_for_the_answer_to_the_first() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    world.send(&[tlbi(1, VA), sync()]);
    let notice = take(&mut remote);
    // It is not lent any more, but the device may still use it. Another ring knows nothing of the first.
    let other = WaiterId(9);
    assert!(!removes_asid(&world, other));
    assert_eq!(remote.take(), None);
    assert_eq!(world.core.barrier(other), Barrier::Pending);
    assert!(!world.serve() && !world.done());
    remote.answered(notice.number);
    assert_eq!(world.core.barrier(other), Barrier::Done);
    assert!(world.serve() && world.done());
    assert!(removes_asid(&world, other), "nothing is on its way back");
}

#[test]
fn law3_a_block_is_lent_whole_and_taken_back_by_any_of_its_addresses() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    let loan = remote.lend(BLOCK_VA + 0x12_3456, Wanted::Read, |_| ());
    let loan = loan.unwrap();
    assert_eq!((loan.iova, loan.bytes), (BLOCK_VA, 2 << 20));
    world.send(&[tlbi(1, BLOCK_VA + 0x1000), sync()]);
    let notice = take(&mut remote);
    let (iova, bytes) = (BLOCK_VA, 2 << 20);
    assert_eq!(notice.ranges, [IovaRange { iova, bytes }]);
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
}

#[test]
fn law3_neighbours_are_taken_back_in_one_range_by_what_removes_all() {
    for removal in [tlbi_asid(1), cfgi_ste(1), cfgi_cd(1, 0)] {
        let (mut world, _) = world();
        let (mut remote, _) = remote(&world);
        for at in [0x1000, 0, 0x3000] {
            lend(&mut remote, VA + at);
        }
        world.send(&[removal, sync()]);
        assert!(!world.done());
        let notice = take(&mut remote);
        let (iova, bytes) = (VA, 0x2000);
        assert_eq!(
            notice.ranges,
            [IovaRange { iova, bytes }, page(VA + 0x3000)]
        );
        remote.answered(notice.number);
        assert!(world.serve() && world.done());
    }
}

#[test]
fn law3_untranslated_addresses_are_taken_back_by_configuration_alone() {
    let (mut world, _) = world();
    world.guest.bypass(1);
    world.send(&[cfgi_ste(1), sync()]);
    let (mut remote, _) = remote(&world);
    let loan = remote.lend(0x12_3456, Wanted::Write, |_| ()).unwrap();
    assert_eq!((loan.iova, loan.bytes, loan.address), (0, 2 << 20, Gpa(0)));
    world.send(&[tlbi(1, 0x12_3000), sync()]);
    assert_eq!(remote.take(), None);
    world.serve();
    assert!(world.done());
    world.send(&[cfgi_ste(1), sync()]);
    assert!(!world.done());
    let notice = take(&mut remote);
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
}

#[test]
fn law3_more_invalidations_than_places_take_everything_back_and_lose_none() {
    let (mut world, _) = world();
    let settings = RemoteSettings {
        places: 2,
        ..RemoteSettings::default()
    };
    let (mut remote, _) = remote_of(&world, settings);
    lend(&mut remote, VA);
    lend(&mut remote, BLOCK_VA);
    let pages = [0x10, 0x20, 0x30, 0x40, 0x50].map(|page| VA + (page << 12));
    let commands: Vec<RawCommand> = pages.iter().map(|&va| tlbi(1, va)).collect();
    for command in commands {
        world.send(&[command]);
    }
    world.send(&[sync()]);
    assert!(!world.done());
    let notice = take(&mut remote);
    assert_eq!(notice.ranges.len(), 2, "everything that was lent");
    assert_eq!(remote.loans(), 0);
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
    let metrics = remote.handle().metrics();
    assert_eq!((metrics.told, metrics.widened, metrics.ranges), (5, 3, 2));
}
