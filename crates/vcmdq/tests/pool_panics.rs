//! Threads that die by a panic of a backend or a callback: the guest loses nothing (laws 5 and 6), and
//! the host does not burn (law 8).

mod pool_world;

use pool_world::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    DoorbellMode, Engine, FrameSettings, HeapPage, Interrupts, Line, RingPage, RingSettings, Seams,
    Settings, seams::NoTarget,
};

fn settings() -> Settings {
    Settings {
        spin: Duration::from_micros(20),
        ..Settings::default()
    }
}

/// Two calls panic; `rings` rings of the guest have something to do.
fn loses_nothing(blocks: Blocks, rings: usize) {
    let (engine, log) = (engine(settings()), Log::default());
    let mut guest = Guest::behind(&engine, 0, rings as u64, &log, blocks);
    let command = if blocks == Blocks::Host {
        cfgi()
    } else {
        tlbi()
    };
    (0..rings).for_each(|ring| _ = guest.add(ring % 2 == 1, command));
    guest.script.panics.store(2, Ordering::SeqCst);
    (0..rings).for_each(|ring| guest.publish(ring, 40));
    (0..rings).for_each(|ring| wait_for("consumption", || guest.is_consumed(ring, 40)));
    if blocks == Blocks::Host {
        assert!(guest.script.effects.load(Ordering::SeqCst) >= 40);
    }
    let metrics = engine.metrics();
    assert_eq!((metrics.panics, metrics.broken_rings), (2, 0));
    for n in 41..100 {
        (0..rings).for_each(|ring| guest.round_trip(ring, n));
    }
    // A worker counts a window behind its CONS.
    engine.stop();
    let counted = guest.rings.iter().map(|(ring, _)| ring.metrics().commands);
    assert_eq!(counted.sum::<u64>(), 99 * rings as u64);
}

#[test]
fn law6_a_backend_that_panics_costs_the_guest_nothing() {
    loses_nothing(Blocks::Never, 1);
}

#[test]
fn law6_a_page_whose_backend_panics_loses_nothing() {
    loses_nothing(Blocks::Never, 2);
}

#[test]
fn law6_a_backend_that_panics_in_a_shared_call_costs_the_guest_nothing() {
    loses_nothing(Blocks::Backend, 4);
}

#[test]
fn law6_a_callback_that_panics_costs_the_guest_nothing() {
    loses_nothing(Blocks::Host, 1);
}

/// It fails closed, the VMM is told, and others go on.
fn is_given_up(blocks: Blocks) {
    let (engine, log) = (engine(settings()), Log::default());
    let mut other = Guest::new(&engine, 1, 2, &log);
    (0..2).for_each(|ring| _ = other.add(ring == 1, tlbi()));
    let mut guest = Guest::behind(&engine, 0, 1, &log, blocks);
    guest.add(
        false,
        if blocks == Blocks::Host {
            cfgi()
        } else {
            tlbi()
        },
    );
    guest.script.panics.store(u64::MAX, Ordering::SeqCst);
    guest.publish(0, 3);
    wait_for("the end", || engine.metrics().broken_rings == 1);
    for n in 1..50 {
        guest.publish(0, 3 + n);
        (0..2).for_each(|ring| other.round_trip(ring, n));
    }
    let script = &guest.script;
    wait_for("the call", || {
        script.failed_closed.load(Ordering::SeqCst) == 1
    });
    let told = u64::from(blocks == Blocks::Host);
    wait_for("the word", || script.told.load(Ordering::SeqCst) == told);
    assert_eq!((engine.metrics().panics, guest.rings[0].0.cons()), (3, 0));
    // And it can be removed.
    drop(guest);
    engine.stop();
}

#[test]
fn law8_a_command_at_which_every_thread_dies_is_given_up() {
    is_given_up(Blocks::Never);
}

#[test]
fn law8_a_command_at_which_every_thread_dies_in_a_call_that_may_block_is_given_up() {
    is_given_up(Blocks::Backend);
}

#[test]
fn law8_a_command_whose_callback_always_panics_is_given_up() {
    is_given_up(Blocks::Host);
}

/// A page of the VMM's that is not always there.
#[derive(Default)]
struct Flaky {
    page: HeapPage,
    dies: AtomicBool,
}

impl RingPage for Flaky {
    fn words(&self) -> &[AtomicU32] {
        assert!(!self.dies.load(Ordering::SeqCst), "the script says so");
        self.page.words()
    }

    fn is_coherent(&self) -> bool {
        true
    }
}

/// Whoever has come for the ring meanwhile was told that it is looked at again.
#[test]
fn law5_a_page_that_panics_while_its_ring_is_enabled_leaves_the_ring_to_a_worker() {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let memory = HeapMemory::new(4096);
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(Arc::new(memory)));
    let page = Arc::new(Flaky::default());
    let mode = DoorbellMode::SharedPage(page.clone());
    let ring = frame.add_ring(mode).unwrap();
    while engine.take_ready().is_some() {}
    page.dies.store(true, Ordering::SeqCst);
    let enabled = catch_unwind(AssertUnwindSafe(|| ring.enable()));
    page.dies.store(false, Ordering::SeqCst);
    assert!(enabled.is_err());
    assert!(engine.take_ready().is_some(), "nobody knows of it");
}

/// A VMM's object that a callback keeps alive for a moment, as with a `Weak`.
struct LastOwner {
    engine: Mutex<Option<Arc<Engine>>>,
    dropped: Mutex<mpsc::Sender<()>>,
}

impl Interrupts for LastOwner {
    fn pulse(&self, _: Line) {
        let engine = self.engine.lock().unwrap().take();
        drop(engine);
        let _ = self.dropped.lock().unwrap().send(());
    }

    fn message(&self, _: u32, _: smmu_core::command::Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

#[test]
fn an_engine_that_is_dropped_inside_a_callback_waits_for_all_threads_but_that_one() {
    let engine = Arc::new(engine(settings()));
    let (dropped, drops) = mpsc::channel();
    let owner = Arc::new(LastOwner {
        engine: Mutex::new(Some(engine.clone())),
        dropped: Mutex::new(dropped),
    });
    // No legal command.
    let memory = Arc::new(HeapMemory::new(4096));
    let mut seams = Seams::new(memory);
    seams.interrupts = owner;
    let frame = engine.add_frame(FrameSettings::default(), seams);
    let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
    let base = smmu_core::Gpa(0);
    ring.configure(RingSettings { base, log2size: 4 }).unwrap();
    ring.enable();
    drop(engine);
    ring.doorbell(1);
    let limit = Duration::from_secs(20);
    drops.recv_timeout(limit).expect("the callback returns");
}
