//! Round trips of every kind side by side.

use crate::engine_trip::{self, Way};
use crate::ping_pong::{self, Pins, Trips};
use crate::rig::guest_memory;
use crate::{plants, streams, vcmdq_trip};
use dispatch::backend::Software;
use smmu_core::guest_memory::GuestMemory;
use std::fmt;
use std::sync::Arc;

/// Whose trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One TLBI and a SYNC, PROD in a shared page.
    SharedPage,
    /// The same by a doorbell call to a worker that is awake: what an exit handler adds to its exit.
    Doorbell,
    /// The stores and loads of the first, with nobody who executes anything.
    Protocol,
    /// Two rtrb queues.
    Rtrb,
    /// Two of crossbeam's `ArrayQueue`s.
    ArrayQueue,
    /// Two cache lines, each written by one side.
    TwoLines,
    /// One cache line, written by both sides in turn.
    OneLine,
    /// The page of the only VCMDQ.
    Vcmdq1,
    /// The page of the first of eight VCMDQs.
    Vcmdq8,
}

impl Who {
    /// All of them, the engine first.
    pub const ALL: [Self; 9] = [
        Self::SharedPage,
        Self::Doorbell,
        Self::Protocol,
        Self::Rtrb,
        Self::ArrayQueue,
        Self::TwoLines,
        Self::OneLine,
        Self::Vcmdq1,
        Self::Vcmdq8,
    ];

    /// For the reader.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedPage => "shared page",
            Self::Doorbell => "doorbell call",
            Self::Protocol => "shared page without an engine",
            Self::Rtrb => "rtrb",
            Self::ArrayQueue => "ArrayQueue",
            Self::TwoLines => "two lines",
            Self::OneLine => "one line",
            Self::Vcmdq1 => "1 VCMDQ",
            Self::Vcmdq8 => "8 VCMDQs",
        }
    }
}

/// Two cores, a guest's memory and a backend that has held something.
pub struct Sides {
    /// Where they run.
    pub pins: Pins,
    /// What a look at the clock costs; taken off every trip.
    pub clock_cost: u64,
    memory: Arc<dyn GuestMemory>,
    software: Arc<Software>,
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sides")
            .field("pins", &self.pins)
            .field("clock_cost", &self.clock_cost)
            .finish_non_exhaustive()
    }
}

impl Sides {
    /// The caller has been pinned to the asking side.
    #[must_use]
    pub fn new(pins: Pins) -> Self {
        let software = Arc::new(Software::default());
        // A cache that has never held anything makes an invalidation cheaper than it is.
        let entries = plants::of(&streams::tlbis(64));
        plants::plant(&software, &entries);
        Self {
            pins,
            clock_cost: ping_pong::clock_cost(),
            memory: guest_memory(),
            software,
        }
    }

    /// Makes `count` trips of one kind.
    pub fn run(&self, who: Who, count: u64, trips: &mut Trips) {
        let (pins, clock_cost) = (self.pins, self.clock_cost);
        match who {
            Who::SharedPage => self.engine(Way::SharedPage, count, trips),
            Who::Doorbell => self.engine(Way::Doorbell, count, trips),
            Who::Protocol => {
                let trip = (count, clock_cost);
                engine_trip::protocol(pins, &self.memory, trip, trips);
            }
            Who::Rtrb => ping_pong::rtrb(pins, count, clock_cost, trips),
            Who::ArrayQueue => ping_pong::array_queue(pins, count, clock_cost, trips),
            Who::TwoLines => ping_pong::bare(pins, count, clock_cost, trips),
            Who::OneLine => ping_pong::one_line(pins, count, clock_cost, trips),
            Who::Vcmdq1 => self.vcmdq(0, count, trips),
            Who::Vcmdq8 => self.vcmdq(3, count, trips),
        }
    }

    fn engine(&self, way: Way, count: u64, trips: &mut Trips) {
        let (how, trip) = ((self.pins, way), (count, self.clock_cost));
        engine_trip::engine(how, &self.memory, self.software.clone(), trip, trips);
    }

    fn vcmdq(&self, log2_queues: u8, count: u64, trips: &mut Trips) {
        let backend = self.software.clone();
        let trip = (count, self.clock_cost);
        vcmdq_trip::vcmdq(self.pins, &self.memory, backend, log2_queues, trip, trips);
    }
}
