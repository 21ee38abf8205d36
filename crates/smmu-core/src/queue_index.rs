//! PROD and CONS: the only index arithmetic of the workspace (IHI 0070, 3.5.1).
//!
//! A queue of 2^n entries has pointers of n index bits and, above them, one wrap bit.
//! Equal pointers are an empty queue; equal indices with different wrap bits a full one.

/// The largest LOG2SIZE of any queue: 2^19 entries.
pub const MAX_LOG2SIZE: u8 = 19;

/// The size of a queue; everything that is done to its pointers goes through here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    log2size: u8,
}

/// A PROD or CONS pointer, reduced to index and wrap bit of its [`Geometry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueIndex(u32);

/// PROD claims more entries than the queue has: no legal producer writes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PROD {prod:#x} lies more than a whole queue ahead of CONS {cons:#x}")]
pub struct BeyondRing {
    /// The producer's pointer.
    pub prod: u32,
    /// The consumer's pointer.
    pub cons: u32,
}

impl Geometry {
    /// A queue of `2^min(log2size, cap)` entries. A LOG2SIZE above what IDR1 advertises is
    /// capped, not refused (IHI 0070, 6.3.26), and reads back as written elsewhere.
    #[must_use]
    pub fn capped(log2size: u8, cap: u8) -> Self {
        Self {
            log2size: log2size.min(cap).min(MAX_LOG2SIZE),
        }
    }

    /// The effective LOG2SIZE.
    #[must_use]
    pub fn log2size(self) -> u8 {
        self.log2size
    }

    /// The number of entries.
    #[must_use]
    #[inline]
    pub fn entries(self) -> u32 {
        1 << self.log2size
    }

    /// The pointer in a register or word of guest memory; bits above the wrap bit are ignored.
    #[must_use]
    #[inline]
    pub fn pointer(self, raw: u32) -> QueueIndex {
        QueueIndex(raw & self.pointer_mask())
    }

    /// The slot that a pointer names, without the wrap bit.
    #[must_use]
    #[inline]
    pub fn slot(self, at: QueueIndex) -> u32 {
        at.0 & (self.entries() - 1)
    }

    /// How many entries lie between `cons` and `prod`, or that `prod` cannot be.
    #[inline]
    pub fn published(self, cons: QueueIndex, prod: QueueIndex) -> Result<u32, BeyondRing> {
        let distance = prod.0.wrapping_sub(cons.0) & self.pointer_mask();
        if distance > self.entries() {
            return Err(BeyondRing {
                prod: prod.0,
                cons: cons.0,
            });
        }
        Ok(distance)
    }

    /// The pointer `count` entries further; the carry goes into the wrap bit.
    #[must_use]
    #[inline]
    pub fn advance(self, at: QueueIndex, count: u32) -> QueueIndex {
        QueueIndex(at.0.wrapping_add(count) & self.pointer_mask())
    }

    /// Entries from `at` to the end of the memory, where the next one is slot zero again.
    #[must_use]
    #[inline]
    pub fn until_wrap(self, at: QueueIndex) -> u32 {
        self.entries() - self.slot(at)
    }

    #[inline]
    fn pointer_mask(self) -> u32 {
        (2 << self.log2size) - 1
    }
}

impl QueueIndex {
    /// The register form: index bits and the wrap bit above them.
    #[must_use]
    #[inline]
    pub fn raw(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn advancing_is_what_published_counts(
            log2size in 0u8..=MAX_LOG2SIZE, start: u32, count in 0u32..=(1 << MAX_LOG2SIZE),
        ) {
            let ring = Geometry::capped(log2size, MAX_LOG2SIZE);
            let cons = ring.pointer(start);
            let count = count % (ring.entries() + 1);
            let prod = ring.advance(cons, count);
            prop_assert_eq!(ring.published(cons, prod), Ok(count));
            prop_assert_eq!(ring.slot(prod), (ring.slot(cons) + count) % ring.entries());
        }

        #[test]
        fn a_prod_beyond_the_ring_is_named(log2size in 0u8..MAX_LOG2SIZE, start: u32, extra: u32) {
            let ring = Geometry::capped(log2size, MAX_LOG2SIZE);
            let cons = ring.pointer(start);
            let over = ring.entries() + 1 + extra % ring.entries().saturating_sub(1).max(1);
            let prod = ring.advance(cons, over);
            if over < 2 * ring.entries() {
                prop_assert!(ring.published(cons, prod).is_err());
            }
        }
    }

    #[test]
    fn a_queue_of_one_entry_has_only_a_wrap_bit() {
        let ring = Geometry::capped(0, MAX_LOG2SIZE);
        let empty = ring.pointer(0);
        let full = ring.advance(empty, 1);
        assert_eq!(ring.published(empty, full), Ok(1));
        assert_eq!((ring.slot(full), full.raw()), (0, 1));
        assert_eq!(ring.advance(full, 1), empty);
    }

    /// Row 14 of the peers' bugs: LOG2SIZE above the advertised one is capped, not refused.
    #[test]
    fn peers_row14_log2size_is_capped() {
        assert_eq!(Geometry::capped(31, 8).entries(), 256);
        assert_eq!(Geometry::capped(31, 31).entries(), 1 << 19);
    }
}
