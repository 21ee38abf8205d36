//! A word for each slot, close together: read often, written rarely.

use alloc::boxed::Box;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::AtomicU64;

/// Words of a cache line, or of the two that are fetched together.
#[cfg(not(loom))]
pub(super) const ROW: usize = 16;
#[cfg(loom)]
pub(super) const ROW: usize = 1;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Words(Box<[CachePadded<[AtomicU64; ROW]>]>);

impl Words {
    pub(super) fn new(count: usize) -> Self {
        let row = |_| CachePadded::new(core::array::from_fn(|_| AtomicU64::new(0)));
        Self((0..count.div_ceil(ROW)).map(row).collect())
    }

    #[inline]
    pub(super) fn of(&self, slot: usize) -> &AtomicU64 {
        let row = slot / ROW;
        &self.0[row][slot - row * ROW]
    }

    /// Rows of [`ROW`] words; the last one may be longer than there are slots.
    #[inline]
    pub(super) fn rows(&self) -> impl Iterator<Item = &[AtomicU64; ROW]> {
        self.0.iter().map(|row| &**row)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}
