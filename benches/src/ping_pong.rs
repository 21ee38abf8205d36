//! Round trips between two cores: how long one side waits for the other's answer.
//!
//! One look at the clock between two trips ends one and begins the next; what the look itself
//! costs is measured first and taken off every trip.

use crate::rig::{BASE, LOG2SIZE, frame_of};
use crate::streams::{at_slot, sync, tlbi};
use core_affinity::CoreId;
use dispatch::Backend;
use hdrhistogram::Histogram;
use rtrb::RingBuffer;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa};
use std::hint::spin_loop;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::QueueRegisters;
use vcmdq::{DoorbellMode, Engine, HeapPage, Settings, Threads};

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

    fn answer<R: Send + 'static>(
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

/// Trips through the engine: a TLBI and a SYNC into the ring, PROD into a shared page, until the
/// SYNC's word changes in its own slot. Its worker runs as long as the trips.
///
/// # Panics
///
/// If the engine cannot be started.
pub fn engine(
    pins: Pins,
    memory: &Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    count: u64,
    clock_cost: u64,
    trips: &mut Trips,
) {
    let settings = Settings {
        doze: Duration::ZERO,
        ..Settings::default()
    };
    let engine = Engine::start(settings, Arc::new(pins)).expect("one thread");
    let page = Arc::new(HeapPage::default());
    let mode = DoorbellMode::SharedPage(page.clone());
    let (_frame, ring) = frame_of(&engine, memory.clone(), backend, mode);
    let guest = Guest {
        page: PageRegisters(page),
        memory: &**memory,
    };
    guest.page.enable();
    time(trips, count, clock_cost, |number| guest.trip(number));
    engine.stop();
    assert_eq!(ring.metrics().syncs, count, "every trip had its SYNC");
}

struct Guest<'m> {
    page: PageRegisters,
    memory: &'m dyn GuestMemory,
}

impl Guest<'_> {
    #[inline]
    fn trip(&self, number: u64) {
        let first = number * 2 % (1 << LOG2SIZE);
        let at = Gpa(BASE.0 + first * RawCommand::BYTES);
        let slots = self.memory.words(at, 4).expect("the ring is RAM");
        let sync = at_slot(sync(), Gpa(at.0 + RawCommand::BYTES));
        let tlbi = tlbi(Asid(1), number % (1 << 20));
        let words = [tlbi.dw0, tlbi.dw1, sync.dw0, sync.dw1];
        for (slot, word) in slots.iter().zip(words) {
            slot.store(word.to_le(), Ordering::Relaxed);
        }
        let prod = (number + 1) * 2 % (2 << LOG2SIZE);
        self.page.write_prod(prod as u32);
        while u64::from_le(slots[2].load(Ordering::Acquire)) as u32 != 0 {
            spin_loop();
        }
    }
}
