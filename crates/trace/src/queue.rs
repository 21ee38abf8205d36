//! One ring's way to the writer: a bounded queue of events of one size, without locks.
//!
//! The ring's owner and vCPUs that ring its doorbell push, the writer alone pops. What finds
//! the queue full is counted; the next event that finds room again tells the number first.

use crate::record::kind;
use crossbeam_queue::ArrayQueue;
use smmu_core::spec::command::RawCommand;
use std::time::Instant;
use vcmdq::tap::{Fetched, Tap};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Commands in one event; of a longer window there are several.
pub(crate) const PER_EVENT: usize = 3;

/// An event in the queue; 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) time: u64,
    pub(crate) kind: u8,
    /// Used places in `commands`.
    pub(crate) count: u8,
    /// Goes on with the commands of the event before.
    pub(crate) follows: bool,
    /// A pointer, or LOG2SIZE.
    pub(crate) value: u32,
    /// Commands; of a gap the two numbers, of a layout the base.
    pub(crate) commands: [RawCommand; PER_EVENT],
}

impl Slot {
    fn new(time: u64, kind: u8, value: u32) -> Self {
        Self {
            time,
            kind,
            count: 0,
            follows: false,
            value,
            commands: [RawCommand::default(); PER_EVENT],
        }
    }

    fn with(mut self, dw0: u64, dw1: u64) -> Self {
        self.commands[0] = RawCommand { dw0, dw1 };
        self
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct RingTap {
    start: Instant,
    queue: ArrayQueue<Slot>,
    /// Not told yet. Relaxed, here and below: each push is counted once, whoever tells it.
    dropped_events: AtomicU64,
    dropped_commands: AtomicU64,
    /// Base and, in the bits that it leaves free, LOG2SIZE, as last told. Owner only.
    layout: AtomicU64,
}

/// No ring lies there with such a size.
const NO_LAYOUT: u64 = u64::MAX;

impl RingTap {
    pub(crate) fn new(start: Instant, capacity: usize) -> Self {
        Self {
            start,
            queue: ArrayQueue::new(capacity.max(1)),
            dropped_events: AtomicU64::new(0),
            dropped_commands: AtomicU64::new(0),
            layout: AtomicU64::new(NO_LAYOUT),
        }
    }

    /// The oldest event. For the writer.
    pub(crate) fn pop(&self) -> Option<Slot> {
        self.queue.pop()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// What has been dropped since it was last told, and nobody will tell any more.
    pub(crate) fn take_dropped(&self) -> (u64, u64) {
        (
            self.dropped_events.swap(0, Ordering::Relaxed),
            self.dropped_commands.swap(0, Ordering::Relaxed),
        )
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether there was room.
    fn push(&self, slot: Slot) -> bool {
        let gap_told = self.dropped_events.load(Ordering::Relaxed) == 0 || self.tell(slot.time);
        let pushed = gap_told && self.queue.push(slot).is_ok();
        if !pushed {
            self.dropped_events.fetch_add(1, Ordering::Relaxed);
            self.dropped_commands
                .fetch_add(u64::from(slot.count), Ordering::Relaxed);
        }
        pushed
    }

    /// Tells how much was dropped, if there is room for that.
    fn tell(&self, time: u64) -> bool {
        let (events, commands) = self.take_dropped();
        let gap = Slot::new(time, kind::GAP, 0).with(events, commands);
        // Of two who come here at once, one finds nothing left to tell.
        let told = (events, commands) == (0, 0) || self.queue.push(gap).is_ok();
        if !told {
            self.dropped_events.fetch_add(events, Ordering::Relaxed);
            self.dropped_commands.fetch_add(commands, Ordering::Relaxed);
        }
        told
    }

    fn tell_layout(&self, time: u64, window: &Fetched<'_>) {
        // The base is a multiple of 32 at least, LOG2SIZE at most 19.
        let layout = window.base.0 & !31 | u64::from(window.log2size & 31);
        if self.layout.load(Ordering::Relaxed) == layout {
            return;
        }
        let slot = Slot::new(time, kind::LAYOUT, u32::from(window.log2size));
        // What was dropped is told with the next window.
        let told = self.push(slot.with(window.base.0, 0));
        self.layout
            .store(if told { layout } else { NO_LAYOUT }, Ordering::Relaxed);
    }
}

impl Tap for RingTap {
    fn published(&self, prod: u32) {
        self.push(Slot::new(self.now(), kind::PUBLISHED, prod));
    }

    fn fetched(&self, window: &Fetched<'_>) {
        let time = self.now();
        self.tell_layout(time, window);
        for (number, commands) in window.commands.chunks(PER_EVENT).enumerate() {
            let first = pointer(window, number * PER_EVENT);
            let mut slot = Slot::new(time, kind::FETCHED, first);
            slot.count = commands.len() as u8;
            slot.follows = number > 0;
            slot.commands[..commands.len()].copy_from_slice(commands);
            self.push(slot);
        }
    }

    fn completed(&self, index: u32) {
        self.push(Slot::new(self.now(), kind::COMPLETED, index));
    }

    fn consumed(&self, cons: u32) {
        self.push(Slot::new(self.now(), kind::CONSUMED, cons));
    }
}

/// Where the window's command `at` lies.
fn pointer(window: &Fetched<'_>, at: usize) -> u32 {
    use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
    let geometry = Geometry::capped(window.log2size, MAX_LOG2SIZE);
    geometry
        .advance(geometry.pointer(window.first), at as u32)
        .raw()
}
