//! Round trips between two cores: how long one side waits for the other's answer.
//!
//! One look at the clock between two trips ends one and begins the next; what the look itself
//! costs is measured first and taken off every trip.

use core_affinity::CoreId;
use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;
use rtrb::RingBuffer;
use std::hint::{black_box, spin_loop};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use vcmdq::Threads;

/// A cache line, and the one that a prefetcher fetches with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// Where the two sides run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    /// The side that asks and waits.
    pub asks: CoreId,
    /// The side that answers.
    pub answers: CoreId,
}

impl Pins {
    /// Two cores, if the process may use two. Pins the caller to the first.
    #[must_use]
    pub fn take() -> Option<Self> {
        let cores = core_affinity::get_core_ids()?;
        let (asks, answers) = (*cores.first()?, *cores.get(1)?);
        core_affinity::set_for_current(asks).then_some(Self { asks, answers })
    }

    /// Starts a thread on the answering side's core.
    ///
    /// # Errors
    ///
    /// As [`thread::Builder::spawn`].
    pub fn answer<R: Send + 'static>(
        self,
        name: String,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        thread::Builder::new().name(name).spawn(move || {
            // A thread that cannot be pinned shares the asking side's core, and the table shows it.
            core_affinity::set_for_current(self.answers);
            body()
        })
    }
}

impl Threads for Pins {
    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        self.answer(name, body)
    }
}

/// Times of single trips, in nanoseconds.
pub type Trips = Histogram<u64>;

/// An empty histogram for trips of up to a second.
///
/// # Panics
///
/// Never: the bounds are legal.
#[must_use]
pub fn no_trips() -> Trips {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).expect("legal bounds")
}

/// What one look at the clock costs, in nanoseconds.
#[must_use]
pub fn clock_cost() -> u64 {
    let mut looks = no_trips();
    time(&mut looks, 20_000, 0, |_| {});
    looks.value_at_quantile(0.5)
}

/// Makes `count` trips and records each.
pub(crate) fn time(trips: &mut Trips, count: u64, clock_cost: u64, mut trip: impl FnMut(u64)) {
    let mut before = Instant::now();
    for number in 0..count {
        trip(number);
        let now = Instant::now();
        let took = (now - before).as_nanos() as u64;
        before = now;
        trips.saturating_record(took.saturating_sub(clock_cost).max(1));
    }
}

/// Trips over two cache lines and nothing else: the least that two cores can do.
///
/// # Panics
///
/// If a thread cannot be started.
pub fn bare(pins: Pins, count: u64, clock_cost: u64, trips: &mut Trips) {
    let lines = Arc::new((Line::default(), Line::default()));
    let shared = lines.clone();
    let other = pins.answer("bare".into(), move || {
        for number in 1..=count {
            while shared.0.0.load(Ordering::Acquire) != number {
                spin_loop();
            }
            shared.1.0.store(number, Ordering::Release);
        }
    });
    time(trips, count, clock_cost, |number| {
        lines.0.0.store(number + 1, Ordering::Release);
        while lines.1.0.load(Ordering::Acquire) != number + 1 {
            spin_loop();
        }
    });
    other.expect("a thread").join().expect("alive");
}

/// Trips over one cache line, which both sides write.
///
/// # Panics
///
/// If a thread cannot be started.
pub fn one_line(pins: Pins, count: u64, clock_cost: u64, trips: &mut Trips) {
    let line = Arc::new(Line::default());
    let shared = line.clone();
    let other = pins.answer("one line".into(), move || {
        for number in 0..count {
            while shared.0.load(Ordering::Acquire) != 2 * number + 1 {
                spin_loop();
            }
            shared.0.store(2 * number + 2, Ordering::Release);
        }
    });
    time(trips, count, clock_cost, |number| {
        line.0.store(2 * number + 1, Ordering::Release);
        while line.0.load(Ordering::Acquire) != 2 * number + 2 {
            spin_loop();
        }
    });
    other.expect("a thread").join().expect("alive");
}

/// Trips over two of crossbeam's `ArrayQueue`s.
///
/// # Panics
///
/// If a thread cannot be started.
pub fn array_queue(pins: Pins, count: u64, clock_cost: u64, trips: &mut Trips) {
    let queues = Arc::new((ArrayQueue::<u64>::new(64), ArrayQueue::<u64>::new(64)));
    let shared = queues.clone();
    let pop = |queue: &ArrayQueue<u64>| loop {
        match queue.pop() {
            Some(number) => return number,
            None => spin_loop(),
        }
    };
    let other = pins.answer("ArrayQueue".into(), move || {
        for _ in 0..count {
            let number = pop(&shared.0);
            shared.1.push(number).expect("one at a time fits");
        }
    });
    time(trips, count, clock_cost, |number| {
        queues.0.push(number).expect("one at a time fits");
        assert_eq!(pop(&queues.1), number, "the answer to what was asked");
    });
    other.expect("a thread").join().expect("alive");
}

/// Reads records of two 64-bit words that the other core has just written, `rounds` times.
/// Returns what each round took for one record, in nanoseconds: the least that fetching can cost.
///
/// # Panics
///
/// If a thread cannot be started, or what was read is not what was written.
#[must_use]
pub fn read_records(pins: Pins, records: usize, rounds: u64, clock_cost: u64) -> Vec<f64> {
    let shared = Arc::new((
        Line::default(),
        (0..2 * records)
            .map(|_| AtomicU64::new(0))
            .collect::<Vec<_>>(),
    ));
    let written = shared.clone();
    let other = pins.answer("records".into(), move || {
        for round in 0..rounds {
            for word in &written.1 {
                word.store(round, Ordering::Relaxed);
            }
            written.0.0.store(2 * round + 1, Ordering::Release);
            while written.0.0.load(Ordering::Acquire) != 2 * round + 2 {
                spin_loop();
            }
        }
    });
    let read = |round: u64| {
        while shared.0.0.load(Ordering::Acquire) != 2 * round + 1 {
            spin_loop();
        }
        let start = Instant::now();
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let both = shared
            .1
            .chunks_exact(2)
            .map(|record| load(&record[0]) + load(&record[1]));
        let sum = black_box(both.sum::<u64>());
        let took = (start.elapsed().as_nanos() as u64).saturating_sub(clock_cost);
        assert_eq!(sum, 2 * records as u64 * round, "every word was read");
        shared.0.0.store(2 * round + 2, Ordering::Release);
        took as f64 / records as f64
    };
    let took = (0..rounds).map(read).collect();
    other.expect("a thread").join().expect("alive");
    took
}

/// Trips over two rtrb queues.
///
/// # Panics
///
/// If a thread cannot be started.
pub fn rtrb(pins: Pins, count: u64, clock_cost: u64, trips: &mut Trips) {
    let (mut ask, mut asked) = RingBuffer::<u64>::new(64);
    let (mut answer, mut answered) = RingBuffer::<u64>::new(64);
    let other = pins.answer("rtrb".into(), move || {
        for _ in 0..count {
            let number = loop {
                match asked.pop() {
                    Ok(number) => break number,
                    Err(_) => spin_loop(),
                }
            };
            answer.push(number).expect("one at a time fits");
        }
    });
    time(trips, count, clock_cost, |number| {
        ask.push(number).expect("one at a time fits");
        while answered.pop() != Ok(number) {
            spin_loop();
        }
    });
    other.expect("a thread").join().expect("alive");
}
