//! What is lent to devices in other processes, and to whom nothing is.

#[expect(dead_code, reason = "the rig is for several files")]
mod remote_world;

use dispatch::backend::software::{NotLent, RemoteSettings, Wanted};
use remote_world::dma_world::*;
use remote_world::*;
use smmu_core::fault::Fault;
use smmu_core::{Gpa, StreamId, Vmid};
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings};

/// Stream 3 has a stage 2 alone, stream 4 both; stage 2 puts the pages of one MiB in another order, and one of them
/// at the first addresses.
fn stages() -> World {
    let mut caps = lenient();
    caps.idr0.set_s2p(true);
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let world = World::with(engine, caps, small());
    let guest = &world.guest;
    let [first, second, third] = [(); 3].map(|()| guest.page());
    guest.set(first, second | 3);
    guest.set(second, third | 3);
    for page in 0..0x200 {
        let to = match page {
            0..0x100 => page << 12,
            0x103 => 0x1000,
            _ => SECOND_DATA + (((page ^ 1) - 0x100) << 12),
        };
        guest.set(third + 8 * page, to | RIGHTS);
    }
    let space = guest.space(1);
    guest.map_block(&space, BLOCK_VA, 0, PAGE);
    let cd = guest.page();
    guest.cd(cd, &space, CD);
    // S2VMID=9, S2T0SZ=25, S2SL0=1, 4 KiB, S2PS=48 bits, S2AA64, S2R.
    let word = 9 | 25 << 32 | 1 << 38 | 5 << 48 | 1 << 51 | 1 << 58;
    for (stream, config) in [(3, 0xD), (4, 0xF | cd)] {
        guest.set(64 * stream + 16, word);
        guest.set(64 * stream + 24, first);
        guest.ste(stream as u32, [config, 0]);
    }
    world
}

const SECOND_DATA: u64 = 0x60_0000;
/// Readable, writable, AF, write-back, page.
const RIGHTS: u64 = 0x4FF;

#[test]
fn law3_no_more_is_lent_than_one_translation_of_both_stages_covers() {
    for (stream, va) in [(3, 0x10_0000), (4, BLOCK_VA + 0x10_0000)] {
        let mut world = stages();
        let tell = Box::new(Ears::default());
        let settings = RemoteSettings::default();
        let remote = world.core.remote(StreamId(stream), None, settings, tell);
        let mut remote = remote.unwrap();
        for (page, to) in [(0, 1), (1, 0), (2, 3), (255, 254)] {
            let iova = va + (page << 12);
            let loan = remote.lend(iova + 8, Wanted::ReadWrite, |_| ()).unwrap();
            assert_eq!((loan.iova, loan.bytes), (iova, 0x1000));
            assert_eq!(loan.address, Gpa(SECOND_DATA + (to << 12)));
        }
        let ipa = smmu_core::command::Tlbi::S2Ipa {
            vmid: Vmid(9),
            range: range(0x10_0000, 1, true),
        };
        let ipa = smmu_core::encode::encode(&smmu_core::command::Command::Tlbi(ipa));
        world.send(&[ipa, sync()]);
        assert!(!world.done(), "stream {stream}");
        let notice = take(&mut remote);
        assert_eq!(notice.ranges[0].iova, va);
        remote.answered(notice.number);
        assert!(world.serve() && world.done());
    }
}

/// What is lent is looked for from the largest block down, which would begin in front of the first address.
#[test]
fn law8_a_page_that_stage_2_puts_at_the_first_addresses_is_lent() {
    for (stream, va) in [(3, 0x10_0000), (4, BLOCK_VA + 0x10_0000)] {
        let world = stages();
        let tell = Box::new(Ears::default());
        let settings = RemoteSettings::default();
        let remote = world.core.remote(StreamId(stream), None, settings, tell);
        let mut remote = remote.unwrap();
        let loan = remote.lend(va + 0x3008, Wanted::Read, |_| ()).unwrap();
        assert_eq!((loan.iova, loan.bytes), (va + 0x3000, 0x1000));
        assert_eq!(loan.address, Gpa(0x1000));
    }
}

#[test]
fn a_loan_may_be_used_for_what_it_was_asked_for() {
    let (world, _) = world();
    let (mut remote, _) = remote(&world);
    let only = VA + 0x4000;
    let mut faults = Vec::new();
    let mut ask = |wanted| remote.lend(only, wanted, |failed| faults.push(failed.fault));
    assert_eq!(ask(Wanted::Read).unwrap().wanted, Wanted::Read);
    assert!(matches!(ask(Wanted::Write), Err(NotLent::Denied(_))));
    assert!(matches!(ask(Wanted::ReadWrite), Err(NotLent::Denied(_))));
    assert_eq!(faults.len(), 2);
    assert!(faults.iter().all(|f| matches!(f, Fault::Permission(_))));
    assert_eq!(remote.handle().metrics().refused, 2);
}

#[test]
fn what_is_not_memory_is_not_lent() {
    let (world, space) = world();
    let (mut remote, _) = remote(&world);
    world.guest.map(&space, VA + 0x9000, DOORBELL, PAGE);
    let refused = remote.lend(VA + 0x9010, Wanted::Write, |_| ());
    assert_eq!(refused, Err(NotLent::NotMemory(Gpa(DOORBELL))));
    assert_eq!(remote.loans(), 0);
}

#[test]
fn law3_a_full_record_makes_room_only_by_taking_back() {
    let (mut world, _) = world();
    let settings = RemoteSettings {
        loans: 1,
        ..RemoteSettings::default()
    };
    let (mut remote, _) = remote_of(&world, settings);
    lend(&mut remote, VA);
    let refused = remote.lend(VA + 0x1000, Wanted::Read, |_| ());
    assert_eq!(refused, Err(NotLent::Full));
    let recalled = remote.recall().unwrap();
    assert_eq!(recalled.ranges, [page(VA)]);
    // The device has not answered: the page is still in use.
    world.send(&[tlbi(1, VA), sync()]);
    assert_eq!(remote.take(), None);
    assert!(!world.serve() && !world.done());
    remote.answered(recalled.number);
    assert!(world.serve() && world.done());
    lend(&mut remote, VA + 0x1000);
}
