//! What stands in the place of guest memory that has been given back.

use smmu_core::guest_memory::MemoryError;
use smmu_core::{Gpa, GuestMemory};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// A guest without memory.
pub(crate) struct NoMemory;

impl GuestMemory for NoMemory {
    fn words(&self, at: Gpa, _count: usize) -> Result<&[AtomicU64], MemoryError> {
        Err(MemoryError::NotBacked(at))
    }

    fn store_u32(&self, at: Gpa, _value: u32, _order: Ordering) -> Result<(), MemoryError> {
        Err(MemoryError::NotBacked(at))
    }

    fn mark_dirty(&self, _at: Gpa, _len: usize) {}
}
