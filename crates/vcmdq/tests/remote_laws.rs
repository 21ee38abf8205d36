//! Translations lent to devices in other processes: what is taken away from them comes back before the
//! SYNC completes (law 3), and before memory and registers have been exchanged (law 9).

mod dma_world;

use dispatch::backend::SoftwareSettings;
use dispatch::backend::software::{
    Denied, IovaRange, NotLent, Notice, Notifier, Overdue, Remote, RemoteSettings, Wanted,
};
use dispatch::{Backend, Barrier, Batch, Invalidation, Scope, Stage, WaiterId};
use dma_world::*;
use proptest::prelude::*;
use smmu_core::fault::Fault;
use smmu_core::guard::Use;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, GuestMemory, StreamId, Vmid};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::testing::HeapMemory;
use vcmdq::{Engine, Settings};

const VA: u64 = 0x40_0000;
const BLOCK_VA: u64 = VA + (2 << 20);
const DATA: u64 = 0x40_0000;

#[derive(Clone, Default)]
struct Ears(Arc<Heard>);

#[derive(Default)]
struct Heard {
    told: AtomicU32,
    overdue: Mutex<Vec<Duration>>,
}

impl Notifier for Ears {
    fn told(&self) {
        self.0.told.fetch_add(1, Ordering::Relaxed);
    }

    fn overdue(&self, waited: Duration) {
        self.0.overdue.lock().unwrap().push(waited);
    }
}

impl Ears {
    fn told(&self) -> bool {
        self.0.told.swap(0, Ordering::Relaxed) != 0
    }
}

/// Stream 1 has four pages, a block, and a page that only reads; stream 2 has an ASID of its own.
fn world() -> (World, Space) {
    let world = World::new();
    let space = world.guest.space(1);
    for page in 0..4 {
        let at = page * 0x1000;
        world.guest.map(&space, VA + at, DATA + 2 * at, PAGE);
    }
    let only = PAGE | READ_ONLY;
    world.guest.map(&space, VA + 0x4000, DATA, only);
    world.guest.map_block(&space, BLOCK_VA, 2 << 20, PAGE);
    world.guest.attach(1, &space);
    let other = world.guest.space(2);
    world.guest.map(&other, VA, DATA, PAGE);
    world.guest.attach(2, &other);
    (world, space)
}

fn remote_of(world: &World, settings: RemoteSettings) -> (Remote, Ears) {
    let ears = Ears::default();
    let tell = Box::new(ears.clone());
    let remote = world.core.remote(StreamId(1), None, settings, tell);
    (remote.unwrap(), ears)
}

fn remote(world: &World) -> (Remote, Ears) {
    remote_of(world, RemoteSettings::default())
}

fn lend(remote: &mut Remote, iova: u64) {
    let loan = remote.lend(iova, Wanted::ReadWrite, |_| ()).unwrap();
    assert!((loan.iova..loan.iova + loan.bytes).contains(&iova));
}

fn page(iova: u64) -> IovaRange {
    let bytes = 0x1000;
    IovaRange { iova, bytes }
}

fn take(remote: &mut Remote) -> Notice {
    remote.take().expect("something to take back")
}

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

/// Stream 3 has a stage 2 alone, stream 4 both; stage 2 puts the pages of one MiB in another order.
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

#[test]
fn law9_an_exchange_of_memory_waits_for_what_was_lent_of_the_old_one() {
    let (world, _) = world();
    let (mut remote, ears) = remote(&world);
    lend(&mut remote, VA);
    let core = world.core.clone();
    let replaced = std::thread::spawn(move || core.memory_changed(Arc::new(HeapMemory::new(RAM))));
    while !ears.told() {
        std::thread::yield_now();
    }
    let notice = take(&mut remote);
    assert!(!replaced.is_finished(), "the device has the old one");
    remote.answered(notice.number);
    replaced.join().unwrap();
    let refused = remote.lend(VA, Wanted::Read, |_| ());
    assert!(
        matches!(refused, Err(NotLent::Denied(_))),
        "no tables there"
    );
}

#[test]
fn law3_registers_settle_when_everything_has_come_back() {
    let (world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    world
        .core
        .traffic_changed(&dispatch::backend::Traffic::Enabled(setup(lenient())));
    assert!(!world.core.traffic_settled());
    let notice = take(&mut remote);
    assert!(!world.core.traffic_settled());
    remote.answered(notice.number);
    assert!(world.core.traffic_settled());
}

#[test]
fn law4_a_stream_that_fails_closed_gets_everything_back_and_lends_no_more() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    world.core.fail_closed(Some(StreamId(2)));
    assert_eq!(remote.take(), None);
    world.core.fail_closed(Some(StreamId(1)));
    world.send(&[sync()]);
    assert!(!world.done(), "every ring's next SYNC waits");
    let notice = take(&mut remote);
    assert_eq!(notice.ranges, [page(VA)]);
    let refused = remote.lend(VA, Wanted::Read, |_| ());
    assert_eq!(refused, Err(NotLent::Denied(Denied::Aborted)));
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
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

#[derive(Default)]
struct Told(Mutex<Vec<(StreamId, Duration)>>);

impl Overdue for Told {
    fn overdue(&self, used: &Use, waited: Duration) {
        self.0.lock().unwrap().push((used.stream, waited));
    }
}

#[test]
fn law3_an_overdue_answer_is_reported_to_the_device_then_to_the_vmm_and_the_sync_waits_on() {
    let (mut world, _) = world();
    let (mut remote, ears) = remote(&world);
    let host = Arc::new(Told::default());
    world.core.set_overdue_host(host.clone());
    lend(&mut remote, VA);
    world.send(&[tlbi(1, VA), sync()]);
    let SoftwareSettings {
        guard_age,
        guard_age_host,
        ..
    } = small();
    let overdue = |waited| world.core.overdue(WaiterId(0), waited);
    assert_eq!(overdue(Duration::ZERO), Some(guard_age));
    assert!(ears.0.overdue.lock().unwrap().is_empty());
    assert_eq!(overdue(guard_age), Some(guard_age_host));
    assert_eq!(*ears.0.overdue.lock().unwrap(), [guard_age]);
    assert!(host.0.lock().unwrap().is_empty());
    assert_eq!(overdue(guard_age_host), None);
    assert_eq!(*host.0.lock().unwrap(), [(StreamId(1), guard_age_host)]);
    assert_eq!(remote.handle().metrics().overdue, 2);
    assert!(!world.serve() && !world.done(), "telling completes nothing");
    let notice = take(&mut remote);
    remote.answered(notice.number);
    assert!(world.serve() && world.done());
}

#[test]
fn law3_a_peer_counts_as_gone_when_the_vmm_says_so_and_not_before() {
    let (mut world, _) = world();
    let (mut remote, _) = remote(&world);
    lend(&mut remote, VA);
    let handle = remote.handle();
    // The owner's thread ends: the connection is broken, but the peer may have its mapping.
    drop(remote);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.serve() && !world.done());
    handle.gone();
    assert!(world.serve() && world.done());
    world.send(&[tlbi(1, VA), sync()]);
    assert!(world.done());
    // Saying it twice takes nobody else's place.
    handle.gone();
    let (mut other, _) = self::remote(&world);
    lend(&mut other, VA);
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.done());
    let handle = other.handle();
    handle.gone();
    assert!(world.serve() && world.done());
    assert_eq!(other.lend(VA, Wanted::Read, |_| ()), Err(NotLent::Gone));
}

/// What a guest and a device do to each other.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest points a page elsewhere, and says so.
    Remap(u8, bool),
    Miss(u8),
    Take,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..4, any::<bool>()).prop_map(|(page, all)| Step::Remap(page, all)),
        (0u8..4).prop_map(Step::Miss),
        Just(Step::Take),
        Just(Step::Answer),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A device: what it was sent, and the notices that it has not got to yet.
#[derive(Default)]
struct Device {
    holds: BTreeMap<u64, Gpa>,
    asked: Vec<Notice>,
}

impl Device {
    fn answer(&mut self, remote: &mut Remote) {
        for notice in std::mem::take(&mut self.asked) {
            for range in &notice.ranges {
                let gone = range.iova..range.iova + range.bytes;
                self.holds.retain(|iova, _| !gone.contains(iova));
            }
            remote.answered(notice.number);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn law3_a_device_holds_nothing_old_when_a_sync_is_done(steps in steps()) {
        let (mut world, space) = world();
        let (mut remote, _) = remote_of(&world, RemoteSettings { loans: 3, places: 2 });
        let mut device = Device::default();
        let mut now: BTreeMap<u64, u64> = (0..4)
            .map(|page| (VA + page * 0x1000, DATA + page * 0x2000))
            .collect();
        let mut next = DATA + 0x8000;
        for step in steps {
            match step {
                Step::Remap(page, all) if world.done() => {
                    let va = VA + u64::from(page) * 0x1000;
                    world.guest.map(&space, va, next, PAGE);
                    now.insert(va, next);
                    next = DATA + (next + 0x1000) % 0x20_0000;
                    let removal = if all { tlbi_asid(1) } else { tlbi(1, va) };
                    world.send(&[removal, sync()]);
                }
                Step::Remap(..) => {}
                // A device whose answers are due may miss, too, and has room or makes it.
                Step::Miss(page) => {
                    let va = VA + u64::from(page) * 0x1000;
                    match remote.lend(va, Wanted::Read, |_| ()) {
                        Ok(loan) => {
                            device.answer(&mut remote);
                            device.holds.insert(loan.iova, loan.address);
                        }
                        Err(NotLent::Full) => device.asked.extend(remote.recall()),
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Step::Take => device.asked.extend(remote.take()),
                Step::Answer => device.answer(&mut remote),
            }
            world.serve();
            if world.done() {
                for (iova, held) in &device.holds {
                    prop_assert_eq!(now[iova], held.0, "{:#x}", iova);
                }
            }
        }
        device.asked.extend(remote.take());
        device.answer(&mut remote);
        device.asked.extend(remote.take());
        device.answer(&mut remote);
        world.serve();
        prop_assert!(world.done(), "everything has been answered");
    }
}
