//! Rings whose PROD lies in guest memory: an eventfd wakes the worker, and nothing else has to.
#![cfg(target_os = "linux")]

mod common;

use common::*;
use smmu_core::guest_memory::{GuestMemory, store_u64};
use smmu_core::{Gpa, MemoryError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{
    DoorbellMode, Engine, Frame, FrameSettings, GuestProd, Placement, Ring, RingError,
    RingSettings, Seams, Settings, StdThreads,
};
use vmm_sys_util::eventfd::EventFd;

/// The upper half of an 8-byte word, so that the lower one must not be taken for it.
const PROD: Gpa = Gpa(0x4);

fn event() -> Arc<EventFd> {
    Arc::new(EventFd::new(0).unwrap())
}

fn mode(at: Gpa, event: &Arc<EventFd>) -> DoorbellMode {
    let event = event.clone();
    DoorbellMode::EventFd(GuestProd { at, event })
}

/// What a guest does: stores PROD, then signals.
fn publish(memory: &HeapMemory, at: Gpa, event: &EventFd, prod: u32) {
    memory.store_u32(at, prod, Ordering::Release).unwrap();
    event.write(1).unwrap();
}

fn wait_for(ring: &Ring, cons: u32) {
    let start = Instant::now();
    while ring.cons() != cons {
        assert!(start.elapsed() < Duration::from_secs(20), "PROD was lost");
        std::thread::yield_now();
    }
}

struct World {
    memory: Arc<HeapMemory>,
    engine: Engine,
    frame: Frame,
}

impl World {
    fn new(settings: Settings) -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
        for slot in 0..32 {
            let at = Gpa(BASE.0 + slot * 16);
            store_u64(&*memory, at, sync().dw0, Ordering::Relaxed).unwrap();
        }
        let engine = Engine::start(settings, Arc::new(StdThreads)).unwrap();
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
        frame.add_instance(backend(), Placement::default());
        let world = Self {
            memory,
            engine,
            frame,
        };
        world
            .memory
            .store_u32(Gpa(0), 77, Ordering::Relaxed)
            .unwrap();
        world
    }

    fn ring(&self, mode: DoorbellMode, base: u64) -> Arc<Ring> {
        let ring = self.frame.add_ring(mode).unwrap();
        let (base, log2size) = (Gpa(base), 4);
        ring.configure(RingSettings { base, log2size }).unwrap();
        ring.enable();
        ring
    }
}

fn sleepy() -> Settings {
    Settings {
        spin: Duration::ZERO,
        ..Settings::default()
    }
}

#[test]
fn law5_an_eventfd_wakes_a_worker_that_sleeps_whenever_it_can() {
    let world = World::new(sleepy());
    let event = event();
    let ring = world.ring(mode(PROD, &event), BASE.0);
    let mut prod = 0u32;
    // Until it has slept often, however the threads are scheduled.
    while prod < 2000 || world.engine.metrics().sleeps < 50 {
        prod += 1 + prod % 3;
        if prod % 50 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
        publish(&world.memory, PROD, &event, prod % 32);
        wait_for(&ring, prod % 32);
        assert_eq!(ring.prod(), prod % 32);
    }
    world.engine.stop();
}

/// One worker has to wake for an eventfd, for a trapped doorbell and for a page, all the time.
#[test]
fn law5_all_kinds_of_doorbells_wake_the_same_worker() {
    let world = World::new(sleepy());
    let trapped = world.ring(DoorbellMode::Trap, BASE.0);
    let (one, two) = (event(), event());
    let first = world.ring(mode(PROD, &one), BASE.0);
    let page = Arc::new(vcmdq::HeapPage::default());
    let polled = world.ring(DoorbellMode::SharedPage(page), BASE.0 + 256);
    let second = world.ring(mode(Gpa(0x10), &two), BASE.0 + 256);
    for n in 1..500u32 {
        let prod = n % 32;
        match n % 2 {
            0 => publish(&world.memory, PROD, &one, prod),
            _ => publish(&world.memory, Gpa(0x10), &two, prod),
        }
        wait_for(if n % 2 == 0 { &first } else { &second }, prod);
        trapped.doorbell(prod);
        wait_for(&trapped, prod);
        polled.doorbell(prod);
        wait_for(&polled, prod);
    }
    world.engine.stop();
}

#[test]
fn a_trapped_doorbell_makes_the_worker_look_at_the_prod_in_memory() {
    let world = World::new(sleepy());
    let ring = world.ring(mode(PROD, &event()), BASE.0);
    world.memory.store_u32(PROD, 3, Ordering::Release).unwrap();
    ring.doorbell(9);
    wait_for(&ring, 3);
    assert_eq!(ring.prod(), 3, "the trapped value does not count");
    world.engine.stop();
}

#[test]
fn law10_a_prod_that_nobody_has_read_is_saved() {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let memory = Arc::new(HeapMemory::new(0x2_0000));
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
    let ring = frame.add_ring(mode(PROD, &event())).unwrap();
    ring.configure(RingSettings {
        base: BASE,
        log2size: 4,
    })
    .unwrap();
    ring.enable();
    memory.store_u32(PROD, 5, Ordering::Release).unwrap();
    assert_eq!(frame.save().rings[0].prod, 5);
}

#[test]
fn law8_a_prod_that_is_memory_no_more_is_counted_and_not_followed() {
    let world = World::new(sleepy());
    let event = event();
    let ring = world.ring(mode(PROD, &event), BASE.0);
    publish(&world.memory, PROD, &event, 2);
    wait_for(&ring, 2);
    let elsewhere = HeapMemory::with_regions(&[(Gpa(0x1_0000), 0x1_0000)]);
    assert!(matches!(
        elsewhere.words(Gpa(0), 1),
        Err(MemoryError::NotBacked(_))
    ));
    world.frame.update_memory(Arc::new(elsewhere));
    let before = ring.metrics().bad_prods;
    let start = Instant::now();
    while ring.metrics().bad_prods == before {
        event.write(1).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "not counted");
    }
    assert_eq!(ring.cons(), 2);
    world.engine.stop();
}

#[test]
fn doorbells_that_cannot_work_are_refused_with_the_reason() {
    let world = World::new(sleepy());
    let event = event();
    let refused = |mode| world.frame.add_ring(mode).unwrap_err();
    for at in [Gpa(0x6), Gpa(0x1000_0000)] {
        let error = refused(mode(at, &event));
        assert_eq!(error, RingError::ProdNotMemory(at));
        assert!(error.to_string().contains("multiple of 4"));
    }
    world.ring(mode(PROD, &event), BASE.0);
    assert_eq!(
        refused(mode(PROD, &self::event())),
        RingError::DoorbellTaken
    );
    let error = refused(mode(Gpa(0x10), &event));
    assert_eq!(error, RingError::DoorbellTaken);
    assert!(error.to_string().contains("of its own"));
    let page = Arc::new(vcmdq::HeapPage::default());
    world.ring(DoorbellMode::SharedPage(page.clone()), BASE.0);
    assert_eq!(
        refused(DoorbellMode::SharedPage(page)),
        RingError::DoorbellTaken
    );
    world.engine.stop();
}
