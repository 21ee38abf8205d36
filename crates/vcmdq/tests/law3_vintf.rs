//! A SYNC covers every ring of its VINTF (law 3): a driver that splits a piece of commands and its
//! SYNC over two rings on purpose.

mod cmdqv_world;
mod common;

use cmdqv_world::*;
use common::{STREAM, fill, illegal, tlbi};
use dispatch::backend::faulty::Verdict;
use dispatch::{
    Backend, BackendCapabilities, Barrier, Batch, Cause, Rejected, Scope, WaiterId, Wake,
};
use smmu_core::StreamId;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vcmdq::cmdqv::CmdqvSettings;
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::{self, sync};
use vcmdq::{Engine, FrameSettings, Placement, Seams, Settings, StdThreads};

const BOTH: [bool; 2] = [false, true];

fn atc_inv() -> RawCommand {
    commands::atc_inv(STREAM, 0)
}

/// A piece in ring 1, its SYNC in ring 0, which alone is served.
#[test]
fn law3_a_sync_executes_what_another_ring_had_published() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        world.backend.take();
        (0..64).for_each(|page| world.cache(page));
        let piece: Vec<_> = (0..63).map(tlbi).chain([atc_inv()]).collect();
        world.put(1, 0, &piece);
        world.publish(1, 64);
        world.put(0, 0, &[sync()]);
        world.publish(0, 1);
        world.serve(0);
        assert_eq!((world.cons(0), world.cons(1)), (1, 0));
        assert!((0..63).all(|page| !world.cached(page)) && world.cached(63));
        let batches = world.backend.take();
        let requests = batches.iter().flat_map(|batch| batch.requests());
        let devices = requests.filter(|r| r.stream() == Some(STREAM)).count();
        assert_eq!(devices, 1, "the device's cache, too");
        assert_eq!(world.ring(0).metrics().covered, 64);
        // And ring 1 consumes its own commands all the same.
        world.serve(1);
        assert_eq!(world.cons(1), 64);
    }
}

/// More than a window holds, and more than a slice: done in portions, to the end.
#[test]
fn law3_law8_a_ring_full_of_others_commands_is_covered_in_portions() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        world.stepper = Stepper::with_slice(Duration::from_micros(1));
        for page in 0..256 {
            world.cache(page);
        }
        let all: Vec<_> = (0..256).map(tlbi).collect();
        world.put(1, 0, &all);
        world.publish(1, 256);
        world.put(0, 0, &[tlbi(999), sync(), tlbi(1000)]);
        world.publish(0, 3);
        let mut slices = 0;
        while world.cons(0) != 3 {
            assert!(
                world.cons(0) < 2 || (0..256).all(|page| !world.cached(page)),
                "CONS is behind the SYNC too early"
            );
            world.serve(0);
            slices += 1;
            assert!(slices < 10);
        }
        assert!(slices > 1);
        assert!((0..256).all(|page| !world.cached(page)));
        assert_eq!((world.cons(1), world.ring(0).metrics().covered), (0, 256));
    }
}

/// Served together, each piece is executed once, and each SYNC covers all of them.
#[test]
fn law3_rings_served_together_cover_each_other_in_one_call() {
    for mapped in BOTH {
        let mut world = World::new(2, mapped);
        world.reset();
        world.backend.take();
        (0..80).for_each(|page| world.cache(page));
        for queue in 0..4 {
            let first = 20 * queue as u64;
            let mut piece: Vec<_> = (first..first + 20).map(tlbi).collect();
            // One ring's piece has its SYNC in another one.
            piece.extend((queue != 2).then(sync));
            world.put(queue, 0, &piece);
            world.publish(queue, piece.len() as u32);
        }
        world.stepper.serve_together(world.cmdqv.rings());
        assert_eq!(
            [0, 1, 2, 3].map(|queue| world.cons(queue)),
            [21, 21, 20, 21]
        );
        assert!((0..80).all(|page| !world.cached(page)));
        assert_eq!(world.backend.take().len(), 1);
        assert!((0..4).all(|queue| world.ring(queue).metrics().covered == 0));
    }
}

/// What another ring has published beyond its share of the window, or behind its error, is covered
/// before the SYNC is done, however many rounds that takes.
#[test]
fn law3_rings_served_together_cover_what_did_not_fit() {
    for stop in [None, Some(3)] {
        for slice in [1, 2, 1000] {
            let mut world = World::new(1, false);
            world.reset();
            world.stepper = Stepper::with_slice(Duration::from_micros(slice));
            (0..256).for_each(|page| world.cache(page));
            let mut all: Vec<_> = (0..256).map(tlbi).collect();
            if let Some(stop) = stop {
                all[stop] = illegal();
            }
            world.put(1, 0, &all);
            world.publish(1, 256);
            world.put(0, 0, &[tlbi(999), sync(), tlbi(1000)]);
            world.publish(0, 3);
            let others = |world: &World| {
                let left = (0..256).filter(|page| world.cached(*page));
                left.filter(|page| stop != Some(*page as usize)).count()
            };
            let mut rounds = 0;
            while world.cons(0) != 3 {
                assert!(world.cons(0) < 2 || others(&world) == 0, "too early");
                world.stepper.serve_together(world.cmdqv.rings());
                rounds += 1;
                assert!(rounds < 200, "it never comes to its end");
            }
            assert_eq!(others(&world), 0);
        }
    }
}

/// What was published after the SYNC was fetched is no part of it: a guest that publishes on and on
/// in one ring cannot keep the SYNC of another one waiting.
#[test]
fn law3_law8_a_forged_prod_neither_delays_a_sync_nor_is_followed() {
    for mapped in BOTH {
        for forged in [257, 300, 511, 0xF_FFFF] {
            let mut world = World::new(1, mapped);
            world.reset();
            world.publish(1, forged);
            world.put(0, 0, &[tlbi(0), sync()]);
            world.publish(0, 2);
            world.serve(0);
            assert_eq!(world.cons(0), 2, "{forged}");
            assert_eq!(world.ring(0).metrics().covered, 0);
        }
        // A legal one over a ring of garbage costs its 256 entries, once.
        let mut world = World::new(1, mapped);
        world.reset();
        world.put(1, 0, &vec![illegal(); 256]);
        world.publish(1, 256);
        world.put(0, 0, &[sync()]);
        world.publish(0, 1);
        // In two slices at most.
        world.serve(0);
        world.serve(0);
        assert_eq!((world.cons(0), world.ring(0).metrics().covered), (1, 256));
    }
}

/// The other ring has stopped: what lies behind its error is removed for the SYNC's sake, and
/// nothing else of it happens.
#[test]
fn law3_law4_what_lies_behind_another_rings_error_is_covered() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        world.cache(7);
        world.put(1, 0, &[illegal(), tlbi(7), sync()]);
        world.publish(1, 3);
        world.serve(1);
        assert_eq!(world.cons(1), 1 << 24);
        assert!(world.cached(7));
        world.put(0, 0, &[sync()]);
        world.publish(0, 1);
        world.serve(0);
        assert_eq!((world.cons(0), world.cons(1)), (1, 1 << 24));
        assert!(!world.cached(7));
    }
}

#[test]
fn law3_a_ring_that_is_off_has_published_nothing() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        world.queue_write(1, offset::VCMDQ_CONFIG, 0);
        world.poll("EN_OK=0", |w| w.queue_read(1, offset::VCMDQ_STATUS) == 0);
        world.put(1, 0, &[tlbi(7)]);
        world.publish(1, 1);
        world.put(0, 0, &[sync()]);
        world.publish(0, 1);
        world.serve(0);
        assert_eq!((world.cons(0), world.ring(0).metrics().covered), (1, 0));
    }
}

/// Two rings whose SYNCs each cover the other's commands behind that one's SYNC: neither waits.
#[test]
fn law3_two_rings_that_cover_each_other_do_not_wait_for_each_other() {
    for mapped in BOTH {
        let mut world = World::new(1, mapped);
        world.reset();
        for queue in [0, 1] {
            let pages = queue as u64 * 10;
            world.put(queue, 0, &[sync(), tlbi(pages), sync(), tlbi(pages + 1)]);
            world.publish(queue, 4);
        }
        for queue in [0, 1] {
            world.serve(queue);
            assert_eq!(world.cons(queue), 4);
        }
    }
}

/// A failure of what was executed for another ring belongs to that ring: its own SYNC says so.
#[test]
fn law4_a_device_that_does_not_answer_is_charged_to_the_ring_that_asked() {
    let mut world = World::new(1, false);
    world.reset();
    world.put(1, 0, &[atc_inv()]);
    world.publish(1, 1);
    world.put(0, 0, &[sync()]);
    world.publish(0, 1);
    let timeout = Verdict::Refuse {
        take: 0,
        say: 0,
        cause: Cause::DeviceTimedOut,
    };
    world.backend.inner().script([timeout]);
    world.serve(0);
    assert_eq!((world.cons(0), world.ring(0).gerror()), (1, 0));
    world.backend.inner().script([timeout]);
    world.put(1, 1, &[sync()]);
    world.publish(1, 2);
    world.serve(1);
    assert_eq!((world.cons(1), world.ring(1).gerror()), (1 | 3 << 24, 1));
}

/// A backend in which accesses go on that some ring's invalidations concern.
#[derive(Default)]
struct Busy {
    by: Mutex<BTreeSet<u32>>,
    asked: Mutex<BTreeSet<u32>>,
    wake: Mutex<Option<Arc<dyn Wake>>>,
}

impl Busy {
    fn end(&self, waiter: u32) {
        self.by.lock().unwrap().remove(&waiter);
        if self.asked.lock().unwrap().remove(&waiter) {
            let wake = self.wake.lock().unwrap();
            wake.as_ref().unwrap().wake(WaiterId(waiter));
        }
    }
}

impl Backend for Busy {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ..BackendCapabilities::default()
        }
    }

    /// An access is going on that whatever is removed concerns.
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let addresses = |scope| matches!(scope, Scope::Addresses { .. });
        assert!(batch.requests().all(|r| addresses(r.scope)));
        self.by
            .lock()
            .unwrap()
            .extend(batch.waiters().iter().map(|w| w.0));
        Ok(())
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        if self.by.lock().unwrap().contains(&waiter.0) {
            self.asked.lock().unwrap().insert(waiter.0);
            return Barrier::Pending;
        }
        Barrier::Done
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        *self.wake.lock().unwrap() = Some(wake);
    }

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// Ring 1's commands are accepted, and an access goes on that uses what they removed. A SYNC in
/// ring 0 waits for it, and is woken by its end.
#[test]
fn law3_a_sync_waits_for_accesses_that_another_rings_commands_concern() {
    let memory = Arc::new(HeapMemory::with_regions(&[(smmu_core::Gpa(0), 0x20_0000)]));
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let mut world = World::with_memory(engine, 1, false, memory.clone());
    let settings = FrameSettings {
        caps: caps(),
        ..FrameSettings::default()
    };
    world.frame = world.engine.add_frame(settings, Seams::new(memory));
    let busy = Arc::new(Busy::default());
    world.frame.add_instance(busy.clone(), Placement::default());
    let settings = CmdqvSettings {
        log2_queues: 1,
        page: None,
    };
    world.cmdqv = world.frame.add_cmdqv(settings).unwrap();
    world.reset();
    while world.engine.take_ready().is_some() {}
    let other = 1;
    world.put(1, 0, &[tlbi(5)]);
    world.publish(1, 1);
    world.serve(1);
    assert_eq!(world.cons(1), 1, "accepted, and no SYNC of its own");
    world.put(0, 0, &[sync()]);
    world.publish(0, 1);
    while world.engine.take_ready().is_some() {}
    world.serve(0);
    assert_eq!(world.cons(0), 0);
    assert!(world.ring(0).is_waiting());
    assert!(world.engine.take_ready().is_none(), "and nobody rings");
    busy.end(other);
    let mut rung = BTreeSet::new();
    while let Some(ring) = world.engine.take_ready() {
        rung.insert(ring);
    }
    assert!(rung.contains(&0), "the ring that waits is woken");
    world.serve(0);
    assert_eq!(world.cons(0), 1);
    // Synced by its own ring, it concerns nobody any more.
    world.put(1, 1, &[tlbi(5), sync()]);
    world.publish(1, 3);
    world.serve(1);
    assert_eq!(world.cons(1), 2);
    busy.end(other);
    world.serve(1);
    assert_eq!(world.cons(1), 3);
    world.put(0, 1, &[sync()]);
    world.publish(0, 2);
    world.serve(0);
    assert_eq!(world.cons(0), 2);
}

const ROUNDS: u64 = 400;

/// One CPU of the guest, with two rings of its own.
struct Cpu<'w> {
    world: &'w World,
    rings: [usize; 2],
    prod: [u32; 2],
}

impl Cpu<'_> {
    fn put(&mut self, side: usize, commands: &[RawCommand]) {
        let (queue, prod) = (self.rings[side], self.prod[side]);
        self.wait(side, prod);
        self.world.put(queue, prod, commands);
        self.prod[side] = (prod + commands.len() as u32) % (2 << LOG2SIZE);
        self.world.publish(queue, self.prod[side]);
    }

    fn wait(&self, side: usize, cons: u32) {
        let start = Instant::now();
        while self.world.cons(self.rings[side]) != cons {
            assert!(start.elapsed() < Duration::from_secs(20), "no progress");
            std::thread::yield_now();
        }
    }

    fn fill(&self, page: u64) {
        let software = self.world.software();
        // A walk that a removal overtakes is walked again.
        while !fill(software, page) {}
    }

    fn run(&mut self, first: u64) {
        for round in 0..ROUNDS {
            let side = (round % 2) as usize;
            let pages = first..first + 64;
            pages.clone().for_each(|page| self.fill(page));
            let piece: Vec<_> = pages.clone().map(tlbi).collect();
            self.put(side, &piece);
            self.put(1 - side, &[sync()]);
            self.wait(1 - side, self.prod[1 - side]);
            let left = pages.filter(|page| self.world.cached(*page)).count();
            assert_eq!(left, 0, "round {round}: the SYNC came before its piece");
        }
    }
}

/// Two CPUs of a guest, each of which puts a piece of 64 into one ring and its SYNC into the other,
/// before three workers.
#[test]
fn law3_a_piece_and_its_sync_in_two_rings_with_several_workers() {
    for mapped in BOTH {
        let settings = Settings {
            workers: 3,
            ..Settings::default()
        };
        let engine = Engine::start(settings, Arc::new(StdThreads)).unwrap();
        let mut world = World::of(engine, 2, mapped);
        world.start();
        let shared = &world;
        std::thread::scope(|scope| {
            for rings in [[0, 1], [2, 3]] {
                scope.spawn(move || {
                    let prod = [0, 0];
                    let first = rings[0] as u64 * 1000;
                    Cpu {
                        world: shared,
                        rings,
                        prod,
                    }
                    .run(first);
                });
            }
        });
        let covered = (0..4).map(|queue| world.ring(queue).metrics().covered);
        assert!(covered.sum::<u64>() > 0, "rings did lag behind each other");
        world.engine.stop();
    }
}
