//! What a walk reads: guest memory that remembers.

use smmu_core::guest_memory::load_le;
use smmu_core::{Gpa, GuestMemory, MemoryError};
use std::fmt;
use std::sync::Mutex;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Guest memory that remembers what was read from it.
pub struct Traced<'a> {
    memory: &'a dyn GuestMemory,
    reads: Mutex<Vec<u64>>,
}

impl fmt::Debug for Traced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").finish_non_exhaustive()
    }
}

impl<'a> Traced<'a> {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(memory: &'a dyn GuestMemory) -> Self {
        let reads = Mutex::default();
        Self { memory, reads }
    }

    /// The first word of each read, in order.
    #[must_use]
    pub fn into_reads(self) -> Vec<u64> {
        self.reads
            .into_inner()
            .unwrap_or_else(|dead| dead.into_inner())
    }
}

impl GuestMemory for Traced<'_> {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let words = self.memory.words(at, count)?;
        let mut reads = self.reads.lock().unwrap_or_else(|dead| dead.into_inner());
        reads.push(load_le(&words[0], Ordering::Relaxed));
        Ok(words)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.memory.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.memory.mark_dirty(at, len);
    }
}
