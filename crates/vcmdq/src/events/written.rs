//! Which slots of the event queue have been written in this lap.
//!
//! One bit for each slot, turned by whoever was given the slot once its record is there. In
//! laps whose wrap bit is 0 "written" is 1, in the others it is 0, so nobody has to clear
//! anything between two laps.

use smmu_core::queue_index::{Geometry, QueueIndex};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, order};

/// Slots for each word. A model sees neighbours in different words, as most slots are.
const BITS: u32 = if cfg!(loom) { 1 } else { 64 };

/// The bits of all slots.
#[derive(Debug)]
pub(super) struct Written {
    ring: Geometry,
    words: Box<[AtomicU64]>,
}

impl Written {
    /// For a queue whose pointers stand at `start`: nothing is written from there on.
    pub(super) fn new(ring: Geometry, start: QueueIndex) -> Self {
        let (slot, this_lap) = (ring.slot(start), written_is_set(ring, start));
        // Slots before `start` have been written in this lap, all others in the lap before.
        let word = |at: u32| {
            (0..BITS)
                .filter(|bit| (at * BITS + bit < slot) == this_lap)
                .fold(0u64, |word, bit| word | 1 << bit)
        };
        let words = ring.entries().div_ceil(BITS);
        Self {
            ring,
            words: (0..words).map(|at| AtomicU64::new(word(at))).collect(),
        }
    }

    /// Says that the record of the slot is there.
    pub(super) fn set(&self, at: QueueIndex) {
        let (word, bit) = self.place(at);
        // Release pairs with the acquire in `get`: whoever publishes the slot has the record
        // before it. Model: `events_record_is_whole_when_prod_shows_it`.
        let release = order(Site::EventWritten, Ordering::Release);
        if written_is_set(self.ring, at) {
            word.fetch_or(bit, release);
        } else {
            word.fetch_and(!bit, release);
        }
    }

    /// Whether the record of the slot is there, for a slot of the lap in which PROD stands.
    pub(super) fn get(&self, at: QueueIndex) -> bool {
        let (word, bit) = self.place(at);
        (word.load(Ordering::Acquire) & bit != 0) == written_is_set(self.ring, at)
    }

    fn place(&self, at: QueueIndex) -> (&AtomicU64, u64) {
        let slot = self.ring.slot(at);
        (
            &self.words[(slot / BITS) as usize],
            1 << (slot & (BITS - 1)),
        )
    }
}

/// The wrap bit is clear where the pointer is its slot.
fn written_is_set(ring: Geometry, at: QueueIndex) -> bool {
    ring.slot(at) == at.raw()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_at_first_and_again_after_each_lap() {
        for (log2size, start) in [(0, 0), (0, 1), (1, 3), (3, 5), (3, 13), (7, 70), (7, 200)] {
            let ring = Geometry::capped(log2size, 19);
            let start = ring.pointer(start);
            let map = Written::new(ring, start);
            for n in 0..3 * ring.entries() {
                let at = ring.advance(start, n);
                assert!(!map.get(at), "2^{log2size} from {start:?}: {n}");
                map.set(at);
                assert!(map.get(at));
            }
        }
    }
}
