//! A stream table of the VMM's own: the software SMMU reads its entries from memory, but here they come
//! by calls.

use smmu_core::config::StreamTable;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::ste::Ste;
use smmu_core::{Gpa, GuestMemory, MemoryError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the table lies: beyond every output address size (at most 52 bits), so no access of a device
/// leads there.
const TABLE: Gpa = Gpa(1 << 55);

/// The guest's memory, and above it a stream table.
pub(crate) struct WithTable {
    guest: Arc<dyn GuestMemory>,
    table: Vec<AtomicU64>,
    log2_streams: u8,
}

impl WithTable {
    /// With a table of `2^log2_streams` invalid entries.
    pub(crate) fn new(guest: Arc<dyn GuestMemory>, log2_streams: u8) -> Self {
        let words = (Ste::BYTES as usize / 8) << log2_streams;
        Self {
            guest,
            table: (0..words).map(|_| AtomicU64::new(0)).collect(),
            log2_streams,
        }
    }

    /// The table, for the translation core.
    pub(crate) fn streams(&self) -> StreamTable {
        StreamTable {
            base: TABLE,
            log2size: self.log2_streams,
            split: 6,
            two_level: false,
        }
    }

    /// Sets a word of a stream's entry. Fails if there is no such stream.
    pub(crate) fn set(&self, stream: u32, word: u64, value: u64) -> Result<(), MemoryError> {
        let at = Gpa(TABLE.0 + Ste::BYTES * u64::from(stream) + 8 * word);
        // Release: whoever reads it sees the words that were set before.
        store_u64(self, at, value, Ordering::Release)
    }
}

impl GuestMemory for WithTable {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let Some(offset) = at.0.checked_sub(TABLE.0) else {
            return self.guest.words(at, count);
        };
        if offset % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        let first = usize::try_from(offset / 8).unwrap_or(usize::MAX);
        let rest = self.table.get(first..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(MemoryError::NotBacked(at))?;
        Ok(&rest[..count.min(rest.len())])
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.guest.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        if at.0 < TABLE.0 {
            self.guest.mark_dirty(at, len);
        }
    }
}
