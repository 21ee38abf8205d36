//! SYNCs that wait for accesses, and who tells whoever delays them.

mod pool_world;

use pool_world::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vcmdq::seams::Clock;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, Settings};

/// A millisecond passes between any two looks.
#[derive(Default)]
struct Jumps(AtomicU64);

impl Clock for Jumps {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// An engine whose slices are one command long, and a guest whose SYNC waits.
fn waiting() -> (Engine, Log, Guest) {
    let settings = Settings {
        slice: Duration::from_nanos(1),
        spin: Duration::ZERO,
        doze: Duration::from_micros(1),
        ..Settings::default()
    };
    let engine = Engine::without_workers_on(settings, Arc::new(Jumps::default())).unwrap();
    let log = Log::default();
    let mut guest = Guest::new(&engine, 0, 2, &log);
    guest.add(false, sync());
    guest.script.in_use.store(true, Ordering::SeqCst);
    guest.publish(0, 1);
    (engine, log, guest)
}

#[test]
fn law8_a_guest_that_floods_keeps_nobody_from_being_told_of_anothers_sync() {
    let (engine, log, guest) = waiting();
    let mut flood = Guest::new(&engine, 1, 1, &log);
    flood.add(false, tlbi());
    let mut worker = engine.stepped_worker(0);
    for _ in 0..100 {
        let cons = flood.rings[0].0.cons();
        flood.publish(0, (cons + 512) % (2 << LOG2SIZE));
        worker.turn();
    }
    assert!(guest.rings[0].0.is_waiting());
    let told = guest.script.overdue.load(Ordering::SeqCst);
    assert!(told > 10, "{told}");
}

/// Whoever comes for the ring meanwhile is not forgotten when the call panics.
#[test]
fn law5_a_backend_that_panics_when_it_is_told_loses_no_doorbell() {
    let (engine, _log, guest) = waiting();
    let engine = Arc::new(engine);
    // A page keeps the worker from sleeping until a doorbell rings.
    let mut other = Guest::new(&engine, 1, 1, &Log::default());
    other.add(true, tlbi());
    let mut worker = engine.stepped_worker(0);
    worker.turn();
    assert!(guest.rings[0].0.is_waiting());
    while engine.take_ready().is_some() {}
    let (ring, taker) = (guest.rings[0].0.clone(), engine.clone());
    let come = move || {
        ring.doorbell(2);
        // Another worker takes it, finds it owned, and leaves it to the owner.
        assert!(taker.take_ready().is_some());
        let mut stepper = vcmdq::stepping::Stepper::default();
        assert!(!stepper.serve(&ring));
    };
    *guest.script.when_told.lock().unwrap() = Some(Box::new(come));
    let told = || catch_unwind(AssertUnwindSafe(|| worker.turn()));
    assert!(
        std::iter::repeat_with(told)
            .take(20)
            .any(|turn| turn.is_err())
    );
    assert!(engine.take_ready().is_some(), "the doorbell is lost");
}
