//! Invalidations of what devices keep (ATC_INV): a SYNC behind one waits for the device's answer and for
//! accesses under way (law 3), and says if there is none (law 4).

mod dma_world;

use dispatch::backend::{AtcAnswer, AtcTarget, SoftwareSettings, Traffic};
use dispatch::{Backend, WaiterId};
use dma_world::*;
use smmu_core::access::{Access, Operation};
use smmu_core::command::{AtcInv, Command};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::Gbpa;
use smmu_core::{StreamId, SubstreamId};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::dma::ats::{AtsDevice, AtsError};
use vcmdq::testing::WitnessedDevice;
use vcmdq::testing::commands::sync;
use vcmdq::{CommandError, Engine, Settings, StdThreads, gerror_bits};

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;
const EATS: u64 = 1 << 28;
/// The world's ring is the first of its engine.
const WAITER: WaiterId = WaiterId(0);

fn ats_caps() -> smmu_core::Capabilities {
    let mut caps = lenient();
    caps.idr0.set_ats(true);
    caps
}

/// Stream 1 with a page at `VA`; EATS=1.
fn attached(settings: SoftwareSettings) -> (World, Space) {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let world = World::with(engine, ats_caps(), settings);
    let space = world.guest.space(1);
    world.guest.map(&space, VA, DATA, PAGE);
    let cd = world.guest.attach(1, &space);
    world.guest.ste(1, [0xB | cd, EATS]);
    (world, space)
}

fn inv(addr: u64, size: u8) -> AtcInv {
    AtcInv {
        stream: StreamId(1),
        substream: None,
        global: false,
        addr,
        size,
    }
}

fn atc_inv(addr: u64, size: u8) -> RawCommand {
    encode(&Command::AtcInv(inv(addr, size)))
}

/// A device that answers when the test says so.
#[derive(Default)]
struct Slow {
    asked: Mutex<Vec<(AtcInv, AtcAnswer)>>,
    overdue: Mutex<u32>,
}

impl AtcTarget for Slow {
    fn invalidate(&self, what: &AtcInv, answer: AtcAnswer) {
        self.asked.lock().unwrap().push((*what, answer));
    }

    fn overdue(&self, _waited: Duration) {
        *self.overdue.lock().unwrap() += 1;
    }
}

impl Slow {
    fn attached_to(world: &World) -> Arc<Self> {
        let slow = Arc::new(Self::default());
        world.core.attach_atc(StreamId(1), slow.clone());
        slow
    }

    fn take(&self) -> (AtcInv, AtcAnswer) {
        self.asked.lock().unwrap().remove(0)
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// Where CONS stands and why the ring has stopped, if it has.
fn state(world: &World) -> (u32, Option<CommandError>) {
    let cons = world.ring.cons();
    let halted = (world.ring.gerror() ^ world.ring.gerrorn()) & gerror_bits::CMDQ_ERR != 0;
    let error = CommandError::from_code((cons >> 24) as u8 & 0x7F);
    (cons & 0xF_FFFF, error.filter(|_| halted))
}

fn acknowledge(world: &mut World) {
    world.ring.acknowledge(world.ring.gerror());
    world.serve();
}

#[test]
fn law3_a_sync_waits_for_the_answer_and_the_answer_wakes_it() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    world.send(&[atc_inv(VA, 3), sync()]);
    assert_eq!(state(&world), (1, None), "CONS stands at the SYNC");
    let (what, answer) = slow.take();
    assert_eq!((what, what.last()), (inv(VA, 3), VA + 0x7FFF));
    assert!(!world.serve(), "nobody rings");
    std::thread::spawn(|| answer.complete()).join().unwrap();
    assert!(world.serve(), "the answer rings");
    assert!(world.done());
    let metrics = world.core.atc_metrics(StreamId(1));
    assert_eq!((metrics.told, metrics.answered, metrics.missing), (1, 1, 0));
}

#[test]
fn law3_a_sync_waits_for_all_devices_of_all_streams_and_for_no_other_ring() {
    let (mut world, _) = attached(small());
    let (one, two) = (Slow::attached_to(&world), Slow::attached_to(&world));
    world.send(&[atc_inv(VA, 0), atc_inv(VA + 0x8000, 0), sync()]);
    // Either neighbours are merged or not; every device has to answer all that it was told.
    let mut answers: Vec<_> = [&one, &two]
        .iter()
        .flat_map(|slow| std::iter::from_fn(|| (slow.count() > 0).then(|| slow.take().1)))
        .collect();
    assert!(answers.len() >= 2);
    while let Some(answer) = answers.pop() {
        assert!(!world.done());
        answer.complete();
        world.serve();
    }
    assert!(world.done());
}

#[test]
fn law4_a_time_out_stops_the_ring_at_the_sync_and_the_guest_goes_on() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    world.send(&[tlbi(1, VA), atc_inv(VA, 0), sync(), sync()]);
    let limit = small().atc_timeout;
    assert_eq!(
        world.core.overdue(WAITER, Duration::ZERO),
        Some(small().guard_age)
    );
    world.core.overdue(WAITER, small().guard_age);
    assert_eq!(*slow.overdue.lock().unwrap(), 1, "the device is told first");
    assert!(!world.serve() && state(&world) == (2, None));
    world.core.overdue(WAITER, limit);
    assert!(world.serve(), "the time-out rings");
    assert_eq!(state(&world), (2, Some(CommandError::AtcInvSync)));
    assert_eq!(world.ring.metrics().atc_timeouts, 1);
    acknowledge(&mut world);
    assert!(world.done(), "it is told once");
    slow.take().1.complete();
    let metrics = world.core.atc_metrics(StreamId(1));
    assert_eq!((metrics.late, metrics.answered, metrics.missing), (1, 0, 0));
    world.send(&[sync()]);
    assert_eq!((state(&world).1, world.done()), (None, true));
}

#[test]
fn law4_an_answer_that_is_dropped_or_says_no_fails_the_sync() {
    for say_so in [true, false] {
        let (mut world, _) = attached(small());
        let slow = Slow::attached_to(&world);
        world.send(&[atc_inv(VA, 0), sync()]);
        let (_, answer) = slow.take();
        if say_so {
            answer.fail();
        } else {
            drop(answer);
        }
        assert!(world.serve());
        assert_eq!(state(&world), (1, Some(CommandError::AtcInvSync)));
        acknowledge(&mut world);
        assert!(world.done());
    }
}

/// Behind a SYNC: that one is complete before the device hears of the invalidation, and the next one says
/// that it was not answered.
#[test]
fn law4_an_atc_inv_is_charged_to_the_sync_behind_it() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    world.send(&[sync(), atc_inv(VA, 0), tlbi(1, VA), sync()]);
    assert_eq!(state(&world), (3, None), "the first SYNC is complete");
    drop(slow.take());
    world.serve();
    assert_eq!(state(&world), (3, Some(CommandError::AtcInvSync)));
    acknowledge(&mut world);
    assert!(world.done());
}

#[test]
fn law3_a_device_hears_of_an_atc_inv_when_the_sync_before_it_is_complete() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    let mut port = world.core.port(StreamId(1)).unwrap();
    let access = Access {
        address: VA,
        operation: Operation::Read,
        privileged: false,
    };
    let guard = port.translate(None, access, 8, |_| ()).unwrap();
    world.send(&[tlbi(1, VA), sync(), atc_inv(VA, 0), sync()]);
    assert_eq!((state(&world), slow.count()), ((1, None), 0));
    drop(guard);
    world.serve();
    assert_eq!((state(&world), slow.count()), ((3, None), 1));
    slow.take().1.complete();
    world.serve();
    assert!(world.done());
}

#[test]
fn law8_a_device_that_answers_nothing_keeps_no_more_than_its_depth() {
    let settings = SoftwareSettings {
        atc_depth: 4,
        ..small()
    };
    let (mut world, _) = attached(settings);
    let slow = Slow::attached_to(&world);
    for page in 0..32 {
        world.send(&[atc_inv(VA + page * 0x10_0000, 0)]);
    }
    assert_eq!(slow.count(), 4);
    let metrics = world.core.atc_metrics(StreamId(1));
    assert_eq!((metrics.told, metrics.refused, metrics.missing), (4, 28, 4));
    world.send(&[sync()]);
    while slow.count() > 0 {
        slow.take().1.complete();
    }
    world.serve();
    assert_eq!(
        state(&world).1,
        Some(CommandError::AtcInvSync),
        "what was refused is lost"
    );
}

#[test]
fn law4_a_ring_that_begins_anew_waits_for_nothing_of_before() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    world.send(&[atc_inv(VA, 0), atc_inv(VA + 0x10_0000, 0), sync()]);
    drop(slow.take());
    world.ring.disable();
    world.serve();
    world.ring.set_pointers(0, 0).unwrap();
    world.prod = 0;
    world.ring.enable();
    world.send(&[sync()]);
    assert_eq!((state(&world).1, world.done()), (None, true));
    slow.take().1.complete();
    assert_eq!(world.core.atc_metrics(StreamId(1)).late, 1);
}

#[test]
fn an_atc_inv_is_ignored_while_the_smmu_is_off_and_by_streams_without_a_cache() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    let other = encode(&Command::AtcInv(AtcInv {
        stream: StreamId(2),
        ..inv(VA, 0)
    }));
    world.send(&[other, sync()]);
    assert!(world.done());
    let off = Traffic::Disabled(Gbpa::RESET, ats_caps());
    world.core.traffic_changed(&off);
    world.send(&[atc_inv(VA, 0), sync()]);
    assert_eq!((world.done(), slow.count()), (true, 0));
}

#[test]
fn a_cache_that_is_detached_is_not_asked() {
    let (mut world, _) = attached(small());
    let slow = Slow::attached_to(&world);
    let device: Arc<dyn AtcTarget> = slow.clone();
    world.core.detach_atc(StreamId(1), &device);
    world.send(&[atc_inv(VA, 0), sync()]);
    assert_eq!((world.done(), slow.count()), (true, 0));
}

fn device(world: &World, substream: Option<SubstreamId>) -> AtsDevice {
    let who = vcmdq::dma::Requester {
        substream,
        ..requester(1)
    };
    AtsDevice::new(&world.core, who, world.seams(), 64).unwrap()
}

#[test]
fn law3_a_device_uses_what_it_keeps_until_it_is_told_and_not_afterwards() {
    let (mut world, space) = attached(small());
    world.guest.set(DATA, 0x0123_4567_89AB_CDEF);
    let mut device = device(&world, None);
    let mut word = [0; 8];
    for _ in 0..3 {
        device.read(VA, &mut word).unwrap();
    }
    assert_eq!(u64::from_le_bytes(word), 0x0123_4567_89AB_CDEF);
    assert_eq!((device.counts().requests, device.counts().hits), (1, 3));
    world.guest.unmap(&space, VA, 3);
    world.send(&[tlbi(1, VA), sync()]);
    device.read(VA, &mut word).unwrap();
    assert_eq!(
        device.counts().requests,
        1,
        "its own cache has not been told"
    );
    world.send(&[atc_inv(VA, 0), sync()]);
    assert!(world.done());
    let failed = device.read(VA, &mut word).unwrap_err();
    assert!(matches!(failed.cause, AtsError::NoRight(VA)));
    assert!(
        world.faults.take().is_empty(),
        "no event for what a request finds"
    );
}

#[test]
fn a_right_that_is_missing_is_asked_for_again() {
    let (world, _) = attached(small());
    let mut device = device(&world, None);
    let mut word = [0; 8];
    device.read(VA, &mut word).unwrap();
    device.write(VA, &[7; 8]).unwrap();
    device.read(VA, &mut word).unwrap();
    assert_eq!((word, device.counts().requests), ([7; 8], 2));
}

/// An access by a translation that the device keeps is under way when it is told to forget it.
#[test]
fn law3_a_sync_waits_for_an_access_by_a_kept_translation() {
    let (mut world, _) = attached(small());
    let mut port = world.core.port(StreamId(1)).unwrap();
    let access = Access {
        address: DATA,
        operation: Operation::Write,
        privileged: false,
    };
    for (addr, size, waits) in [
        (VA, 0, true),
        (0, 52, true),
        (VA + 0x1000, 0, false),
        (VA & !0x1F_FFFF, 9, true),
    ] {
        let guard = port.translated(VA + 8, access, 8, || true, |_| ()).unwrap();
        world.send(&[atc_inv(addr, size), sync()]);
        assert_eq!(!world.done(), waits, "{addr:#x}, {size}");
        drop(guard);
        world.serve();
        assert!(world.done());
    }
}

/// While an answer has not been put into the device's cache, the SYNC behind the TLBI waits.
#[test]
fn law3_a_sync_waits_for_an_answer_that_is_on_its_way() {
    let (mut world, _) = attached(small());
    let mut port = world.core.port(StreamId(1)).unwrap();
    let request = smmu_core::ats::AtsRequest {
        stream: StreamId(1),
        substream: None,
        address: VA,
        no_write: false,
        execute: false,
        privileged: false,
    };
    let mut into = [smmu_core::ats::AtsTranslation::NOTHING];
    let grant = port.request(&request, &mut into, |_| ()).unwrap();
    world.send(&[tlbi(1, VA), sync()]);
    assert!(!world.done());
    drop(grant);
    world.serve();
    assert!(world.done());
}

/// The whole way of a translation: a device that forgets what it is told to is never seen with a stale one, and
/// one that only says so is caught, with what it used and when.
#[test]
fn law3_a_device_with_a_stale_cache_is_caught() {
    for forgets in [true, false] {
        let (mut world, space) = attached(small());
        world.guest.set(DATA, 11);
        world.guest.set(DATA + 0x1000, 22);
        let mut device = WitnessedDevice::new(&world.core, requester(1), forgets).unwrap();
        assert_eq!(device.fetch(VA), Ok(true));
        assert_eq!(device.read(VA), Ok(Some(11)));
        world.guest.map(&space, VA, DATA + 0x1000, PAGE);
        world.send(&[tlbi(1, VA), sync(), atc_inv(VA, 0)]);
        // Between the invalidation and its SYNC either is right.
        let _either = device.read(VA).unwrap();
        assert!(device.witness().stale_uses().is_empty());
        world.send(&[sync()]);
        assert!(world.done());
        device.witness().synced();
        let seen = device.read(VA).unwrap();
        let stale = device.witness().stale_uses();
        if forgets {
            assert_eq!((seen, stale.len()), (None, 0));
            assert_eq!(device.fetch(VA), Ok(true));
            assert_eq!(device.read(VA), Ok(Some(22)));
            assert!(device.witness().stale_uses().is_empty());
            continue;
        }
        assert_eq!(seen, Some(11), "what the guest had taken away");
        let [stale] = stale[..] else {
            panic!("{stale:?}");
        };
        assert_eq!((stale.who, stale.from, stale.to), (requester(1), VA, DATA));
        // Granted, used, told to forget, used, SYNC, used.
        let when = (stale.granted, stale.invalidated, stale.synced, stale.used);
        assert_eq!(when, (Some(1), Some(3), Some(5), 6));
    }
}

/// With a real worker: it is its clock that ends the wait.
#[test]
fn law4_a_worker_ends_the_wait_for_a_silent_device() {
    let settings = SoftwareSettings {
        guard_age: Duration::from_millis(1),
        guard_age_host: Duration::from_millis(2),
        atc_timeout: Duration::from_millis(3),
        ..small()
    };
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let mut world = World::with(engine, ats_caps(), settings);
    let slow = Slow::attached_to(&world);
    world.publish(&[atc_inv(VA, 0), sync()]);
    while state(&world).1.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(state(&world), (1, Some(CommandError::AtcInvSync)));
    assert!(*slow.overdue.lock().unwrap() >= 1);
    world.ring.acknowledge(world.ring.gerror());
    while !world.done() {
        std::thread::yield_now();
    }
}
