//! Which slots have been written in this lap.
//!
//! One bit for each slot. A producer turns the bits of its slots after it has written
//! them; in laps whose wrap bit is 0 "written" is 1, in the others it is 0. So nobody has to
//! clear anything between two laps.

use smmu_core::queue_index::{Geometry, QueueIndex};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// The bits of all slots.
#[derive(Debug)]
pub struct ValidMap {
    geometry: Geometry,
    words: Box<[AtomicU64]>,
}

/// Bits of one word that belong to one lap.
struct Run {
    word: usize,
    mask: u64,
    /// What the bits are once their slots have been written.
    written: u64,
}

impl ValidMap {
    /// For a queue whose pointers stand at `start`: nothing is written.
    #[must_use]
    pub fn new(geometry: Geometry, start: QueueIndex) -> Self {
        let (slot, first_lap) = (geometry.slot(start), geometry.slot(start) == start.raw());
        // Slots before `start` have been written in this lap, all others in the lap before.
        let word = |at: u32| {
            (0..64)
                .filter(|bit| (at * 64 + bit < slot) == first_lap)
                .fold(0u64, |word, bit| word | 1 << bit)
        };
        let words = geometry.entries().div_ceil(64);
        Self {
            geometry,
            words: (0..words).map(|at| AtomicU64::new(word(at))).collect(),
        }
    }

    /// Says that the slots from `from` up to, not including, `to` have been written.
    pub fn set_written(&self, from: QueueIndex, to: QueueIndex) {
        for run in self.runs(from, to) {
            // Release pairs with the acquire in `is_written`: whoever sees the bit sees the words
            // of the slot.
            self.words[run.word].fetch_xor(run.mask, Ordering::Release);
        }
    }

    /// Whether all slots from `from` up to, not including, `to` have been written.
    #[must_use]
    pub fn is_written(&self, from: QueueIndex, to: QueueIndex) -> bool {
        self.runs(from, to)
            .all(|run| self.words[run.word].load(Ordering::Acquire) & run.mask == run.written)
    }

    fn runs(&self, from: QueueIndex, to: QueueIndex) -> impl Iterator<Item = Run> + '_ {
        let ring = self.geometry;
        let mut at = from;
        let mut left = ring.published(from, to).unwrap_or(0);
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let slot = ring.slot(at);
            let count = left.min(64 - slot % 64).min(ring.until_wrap(at));
            let mask = (u64::MAX >> (64 - count)) << (slot % 64);
            // The wrap bit is clear where the pointer is its slot.
            let written = if slot == at.raw() { mask } else { 0 };
            at = ring.advance(at, count);
            left -= count;
            Some(Run {
                word: (slot / 64) as usize,
                mask,
                written,
            })
        })
    }
}
