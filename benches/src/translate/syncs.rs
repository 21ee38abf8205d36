//! A SYNC of one address space while a device uses another one without pause.

use super::goals::{Goals, ns};
use super::partner::{Partner, Wanted};
use super::world::{World, one_page, only, read, translate};
use crate::engine_trip::{self, Way};
use crate::ping_pong::{self, Pins, Trips, no_trips};
use dispatch::backend::software::Port;
use dispatch::backend::{Backend, Software};
use dispatch::{Barrier, Batch, WaiterId};
use smmu_core::Asid;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Whose SYNC it is. The same that [`ping_pong::engine`] invalidates.
const OWN: Asid = Asid(1);
const DEVICES: Asid = Asid(2);
const HELD: Duration = Duration::from_millis(1);
const PAGES: u64 = 64;

/// What the device does.
const NOTHING: u64 = 0;
const GUARDS: u64 = 1;

/// Medians of what each round found, because a round that the machine disturbs is no one's tail.
#[derive(Debug)]
struct Tail {
    p50: Vec<u64>,
    p99: Vec<u64>,
    all: Trips,
}

impl Tail {
    fn new() -> Self {
        Self {
            p50: Vec::new(),
            p99: Vec::new(),
            all: no_trips(),
        }
    }

    fn add(&mut self, round: &Trips) {
        self.p50.push(round.value_at_quantile(0.5));
        self.p99.push(round.value_at_quantile(0.99));
        self.all.add(round).expect("same bounds");
    }

    fn medians(&mut self) -> (f64, f64) {
        let median = |values: &mut Vec<u64>| {
            values.sort_unstable();
            values[values.len() / 2] as f64
        };
        (median(&mut self.p50), median(&mut self.p99))
    }

    fn all99(&self) -> f64 {
        self.all.value_at_quantile(0.99) as f64
    }
}

fn goal(what: &str, with: &mut Tail, without: &mut Tail, goals: &mut Goals) {
    let ((p50, p99), (without50, without99)) = (with.medians(), without.medians());
    let ratio = p99 / without99;
    goals.row(
        &format!("{what}, 1 ms guards on another ASID, p99"),
        ns(p99),
        format!("without {} ({ratio:.2}x)", ns(without99)),
        "1.2x",
        Some(ratio <= 1.2),
    );
    goals.row(
        "  p50; p99 over all rounds, disturbed ones too",
        format!("{}; {}", ns(p50), ns(with.all99())),
        format!("without {}; {}", ns(without50), ns(without.all99())),
        "",
        None,
    );
}

/// Holds guards of a millisecond, or spins as long without.
fn device(port: &mut Port, work: u64, wanted: Wanted<'_>) -> u64 {
    let mut held = 0;
    while wanted.go_on() {
        let guard = (work == GUARDS).then(|| port.translate(None, read(held % PAGES), 64, |_| ()));
        let until = Instant::now() + HELD;
        while Instant::now() < until && wanted.go_on() {
            spin_loop();
        }
        assert!(
            guard.is_none_or(|guard| guard.is_ok()),
            "the page is mapped"
        );
        held += 1;
    }
    held
}

/// An invalidation of a page and its barrier, `count` times, each timed.
fn syncs(software: &Software, asid: Asid, count: u64, clock_cost: u64) -> Trips {
    let (mut trips, mut batch) = (no_trips(), Batch::new());
    let waiter = WaiterId(3);
    batch.set_waiter(waiter);
    let mut before = Instant::now();
    for number in 0..count {
        only(&mut batch, one_page(asid, number % PAGES));
        software.submit(&batch).expect("it takes everything");
        while software.barrier(waiter) == Barrier::Pending {
            spin_loop();
        }
        let now = Instant::now();
        let took = (now - before).as_nanos() as u64;
        before = now;
        trips.saturating_record(took.saturating_sub(clock_cost).max(1));
    }
    trips
}

/// At the backend: what a worker does for a TLBI and its SYNC.
///
/// # Panics
///
/// If a SYNC does not wait for guards of its own ASID: then nothing here would be worth anything.
pub fn at_the_backend(pins: Pins, rounds: usize, goals: &mut Goals) {
    let world = World::default();
    let software = world.software.clone();
    let clock_cost = ping_pong::clock_cost();
    let mut own = world.port(OWN);
    for page in 0..PAGES {
        translate(&mut own, page);
    }
    let mut port = world.port(DEVICES);
    let partner = Partner::new(pins, move |work, wanted| device(&mut port, work, wanted));
    let (mut with, mut without) = (Tail::new(), Tail::new());
    let mut longest = Vec::new();
    for _ in 0..rounds {
        let run = || syncs(&software, OWN, 20_000, clock_cost);
        without.add(&partner.beside(NOTHING, run).0);
        with.add(&partner.beside(GUARDS, run).0);
        // A guard of a page that the invalidation does not match ends at once.
        let own = || syncs(&software, DEVICES, 2 * PAGES, clock_cost);
        longest.push(partner.beside(GUARDS, own).0.max());
    }
    goal(
        "TLBI and SYNC at the backend",
        &mut with,
        &mut without,
        goals,
    );
    longest.sort_unstable();
    let longest = longest[longest.len() / 2];
    assert!(
        longest > 100_000,
        "a SYNC of the device's ASID waits: {longest} ns"
    );
    goals.row(
        "  of the device's own ASID, which waits: a round's longest",
        ns(longest as f64),
        String::new(),
        "",
        None,
    );
}

/// Through ring, worker and completion, polled.
pub fn through_an_engine(pins: Pins, rounds: usize, goals: &mut Goals) {
    let clock_cost = ping_pong::clock_cost();
    let (mut with, mut without) = (Tail::new(), Tail::new());
    for _ in 0..rounds {
        without.add(&engine_round(pins, NOTHING, clock_cost));
        with.add(&engine_round(pins, GUARDS, clock_cost));
    }
    goal(
        "TLBI and SYNC, a whole trip",
        &mut with,
        &mut without,
        goals,
    );
}

/// An engine of its own: a backend tells only its first one when a guard closes. The device sleeps
/// while it holds its guard, as one that waits for its disk, and leaves the cores to the two sides.
fn engine_round(pins: Pins, work: u64, clock_cost: u64) -> Trips {
    let world = World::default();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut port, enough) = (world.port(DEVICES), stop.clone());
    let device = thread::spawn(move || {
        let mut held = 0;
        while !enough.load(Ordering::Relaxed) {
            let guard =
                (work == GUARDS).then(|| port.translate(None, read(held % PAGES), 64, |_| ()));
            thread::sleep(HELD);
            assert!(
                guard.is_none_or(|guard| guard.is_ok()),
                "the page is mapped"
            );
            held += 1;
        }
    });
    let mut trips = no_trips();
    let backend = world.software.clone();
    let (how, count) = ((pins, Way::SharedPage), (20_000, clock_cost));
    engine_trip::engine(how, &world.memory, backend, count, &mut trips);
    stop.store(true, Ordering::Relaxed);
    device.join().expect("alive");
    trips
}
