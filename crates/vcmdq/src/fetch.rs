//! STAGE fetch: which entries are published, and where they lie.

use smmu_core::guest_memory::GuestMemory;
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Gpa, MemoryError};
use vcmdq_sync::atomic::AtomicU64;

/// A ring's entries in guest memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    base: Gpa,
    geometry: Geometry,
}

impl Entries {
    /// The base is aligned down to the size of the ring, at least 32 bytes (IHI 0070, 6.3.26).
    pub(crate) fn new(base: Gpa, geometry: Geometry) -> Self {
        let align = (u64::from(geometry.entries()) * RawCommand::BYTES).max(32);
        Self {
            base: Gpa(base.0 & !(align - 1)),
            geometry,
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn base(&self) -> Gpa {
        self.base
    }

    /// Whether an address lies in the ring itself: there Linux waits for a SYNC's message.
    #[inline]
    pub(crate) fn contains(&self, at: Gpa) -> bool {
        let size = u64::from(self.geometry.entries()) * RawCommand::BYTES;
        at.0.wrapping_sub(self.base.0) < size
    }

    /// Two words for each of up to `count` entries from `at` on, as far as they lie in one piece.
    /// The error is about the entry at `at` itself.
    #[inline]
    pub(crate) fn words<'m>(
        &self,
        memory: &'m dyn GuestMemory,
        at: QueueIndex,
        count: u32,
    ) -> Result<&'m [AtomicU64], MemoryError> {
        let slot = u64::from(self.geometry.slot(at));
        let first = Gpa(self.base.0 + slot * RawCommand::BYTES);
        let count = count.min(self.geometry.until_wrap(at)) as usize;
        let words = memory.words(first, count * 2)?;
        // A piece may end within an entry only if the map is not even 16-byte grained; such an
        // entry cannot be read whole.
        let whole = words.len() & !1;
        if whole == 0 {
            return Err(MemoryError::NotBacked(Gpa(first.0 + 8)));
        }
        Ok(&words[..whole])
    }
}
