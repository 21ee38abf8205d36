//! Which rings have work: one bit each, and one bit for each word of bits.
//!
//! Marking is two additions to words; taking looks at one summary word and one word of bits,
//! however many idle rings there are.

use vcmdq_sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct ReadySet {
    summary: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl ReadySet {
    /// For rings `0..rings`, at most 4096.
    pub(crate) fn new(rings: usize) -> Self {
        let words = rings.div_ceil(64).clamp(1, 64);
        Self {
            summary: AtomicU64::new(0),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The ring has work. Release pairs with the acquire in `take`: what made the caller come (a
    /// PROD, an acknowledgement) is seen by who takes the ring.
    #[inline]
    pub(crate) fn mark(&self, ring: u32) {
        let word = ring as usize / 64;
        self.words[word].fetch_or(1 << (ring % 64), Ordering::Release);
        self.summary.fetch_or(1 << word, Ordering::Release);
    }

    /// A ring that has work, which from now on is the caller's to serve. Rings behind `after` come
    /// first, so that none is passed over for ever.
    #[inline]
    pub(crate) fn take(&self, after: u32) -> Option<u32> {
        let mut summary = self.summary.load(Ordering::Relaxed);
        while summary != 0 {
            let word = next_bit(summary, (after as usize / 64) as u32) as usize;
            if let Some(ring) = self.take_from(word, after) {
                return Some(ring);
            }
            summary = self.summary.load(Ordering::Relaxed);
        }
        None
    }

    fn take_from(&self, word: usize, after: u32) -> Option<u32> {
        let bits = self.words[word].load(Ordering::Relaxed);
        if bits == 0 {
            self.retire(word);
            return None;
        }
        let start = if after as usize / 64 == word {
            (after % 64 + 1) % 64
        } else {
            0
        };
        let bit = next_bit(bits, start);
        // Acquire pairs with `mark`. Somebody else may have been faster.
        let before = self.words[word].fetch_and(!(1 << bit), Ordering::AcqRel);
        if before & !(1 << bit) == 0 {
            self.retire(word);
        }
        (before & 1 << bit != 0).then_some((word * 64) as u32 + bit)
    }

    /// Clears the summary's bit of an empty word, and sets it again if the word was marked
    /// meanwhile: the marker's bit may be the one that was cleared.
    fn retire(&self, word: usize) {
        self.summary.fetch_and(!(1 << word), Ordering::AcqRel);
        // A read-modify-write reads the newest value: a mark whose summary bit the line above
        // cleared is seen here. Model: `doorbell_wakes_the_worker`.
        if self.words[word].fetch_or(0, Ordering::AcqRel) != 0 {
            self.summary.fetch_or(1 << word, Ordering::Release);
        }
    }

    /// Whether nothing is marked; exact behind a full fence.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.summary.load(Ordering::Relaxed) == 0
    }
}

/// The first set bit at or after `start`, or the first of all. `bits` is not zero.
#[inline]
fn next_bit(bits: u64, start: u32) -> u32 {
    let later = bits & u64::MAX.checked_shl(start).unwrap_or(0);
    if later != 0 {
        later.trailing_zeros()
    } else {
        bits.trailing_zeros()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_marked_ring_is_taken_once_and_in_turn() {
        let set = ReadySet::new(200);
        for ring in [3, 64, 65, 199, 3] {
            set.mark(ring);
        }
        let mut after = 64;
        let mut order = Vec::new();
        while let Some(ring) = set.take(after) {
            order.push(ring);
            after = ring;
        }
        assert_eq!(order, [65, 64, 199, 3]);
        assert!(set.is_empty());
    }
}
