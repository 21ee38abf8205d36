//! A round trip through the engine: a TLBI and a SYNC into the ring, PROD to the worker, until the
//! SYNC's word changes in its own slot.

use crate::ping_pong::{Pins, Trips, time};
use crate::rig::{BASE, LOG2SIZE, frame_of};
use crate::streams::{sync_to, tlbi};
use dispatch::Backend;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa};
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::QueueRegisters;
use vcmdq::{DoorbellMode, Engine, HeapPage, RingPage, Settings};

/// How PROD gets to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Stored into a page that the worker polls.
    SharedPage,
    /// By [`vcmdq::Ring::doorbell`], as an exit handler calls it; the worker is awake.
    Doorbell,
}

/// Makes `count` trips. The worker runs as long as they last.
///
/// # Panics
///
/// If the engine cannot be started.
pub fn engine(
    (pins, way): (Pins, Way),
    memory: &Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    (count, clock_cost): (u64, u64),
    trips: &mut Trips,
) {
    let settings = Settings {
        doze: Duration::ZERO,
        ..Settings::default()
    };
    let engine = Engine::start(settings, Arc::new(pins)).expect("one thread");
    let page = Arc::new(HeapPage::default());
    let mode = match way {
        Way::SharedPage => DoorbellMode::SharedPage(page.clone()),
        Way::Doorbell => DoorbellMode::Trap,
    };
    let (_frame, ring) = frame_of(&engine, memory.clone(), backend, mode);
    match way {
        Way::SharedPage => {
            let guest = PageRegisters(page);
            guest.enable();
            let publish = |prod| guest.write_prod(prod);
            time(trips, count, clock_cost, |n| trip(&**memory, n, publish));
        }
        Way::Doorbell => {
            ring.enable();
            let publish = |prod| ring.doorbell(prod);
            time(trips, count, clock_cost, |n| trip(&**memory, n, publish));
        }
    }
    engine.stop();
    assert_eq!(ring.metrics().syncs, count, "every trip had its SYNC");
}

/// The same stores and loads with nobody who executes anything: a thread looks at PROD, reads both
/// commands, clears the SYNC's word and shows CONS. What is left between this and
/// [`engine`] is the engine.
///
/// # Panics
///
/// If a thread cannot be started.
pub fn protocol(
    pins: Pins,
    memory: &Arc<dyn GuestMemory>,
    (count, clock_cost): (u64, u64),
    trips: &mut Trips,
) {
    let page = Arc::new(HeapPage::default());
    let (guest, shared) = (PageRegisters(page.clone()), memory.clone());
    let other = pins.answer("protocol".into(), move || {
        let words = page.words();
        for number in 0..count {
            let prod = prod_of(number);
            while u32::from_le(words[PROD].load(Ordering::Acquire)) != prod {
                spin_loop();
            }
            let slots = shared.words(slot_of(number), 4).expect("the ring is RAM");
            for word in slots {
                black_box(word.load(Ordering::Relaxed));
            }
            slots[2].store(0, Ordering::Release);
            words[CONS].store(prod.to_le(), Ordering::Release);
        }
    });
    let publish = |prod| guest.write_prod(prod);
    time(trips, count, clock_cost, |n| trip(&**memory, n, publish));
    other.expect("a thread").join().expect("alive");
}

/// Words of a shared page.
const CONS: usize = 0;
const PROD: usize = 1;

/// Where a trip's TLBI lies.
fn slot_of(number: u64) -> Gpa {
    let first = number * 2 % (1 << LOG2SIZE);
    Gpa(BASE.0 + first * RawCommand::BYTES)
}

/// PROD behind its SYNC.
fn prod_of(number: u64) -> u32 {
    ((number + 1) * 2 % (2 << LOG2SIZE)) as u32
}

/// One trip, the `number`th since the ring began at slot 0. `publish` writes PROD.
#[inline]
pub fn trip(memory: &dyn GuestMemory, number: u64, publish: impl FnOnce(u32)) {
    let at = slot_of(number);
    let slots = memory.words(at, 4).expect("the ring is RAM");
    let sync = sync_to(Gpa(at.0 + RawCommand::BYTES));
    let tlbi = tlbi(Asid(1), number % (1 << 20));
    let words = [tlbi.dw0, tlbi.dw1, sync.dw0, sync.dw1];
    for (slot, word) in slots.iter().zip(words) {
        slot.store(word.to_le(), Ordering::Relaxed);
    }
    publish(prod_of(number));
    while u64::from_le(slots[2].load(Ordering::Acquire)) as u32 != 0 {
        spin_loop();
    }
}
