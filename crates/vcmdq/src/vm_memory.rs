//! Our guest-memory trait over a vm-memory map.
#![expect(
    unsafe_code,
    reason = "vm-memory hands out pointers; here they become atomics that live as long as the map"
)]

use smmu_core::{Gpa, GuestMemory, MemoryError};
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

/// A vm-memory map as the engine's guest memory.
///
/// The map must stay mapped as long as this value lives, which every backend of vm-memory but
/// Xen's on-demand grants does. A backing file that shrinks underneath is a SIGBUS for the
/// VMM. What the engine writes enters the map's dirty bitmap.
#[derive(Clone, Debug)]
pub struct VmMemory<M>(M);

impl<M: GuestMemoryBackend> VmMemory<M> {
    /// Takes a map; clone it first to keep one (maps are cheap to clone).
    pub fn new(map: M) -> Self {
        Self(map)
    }

    /// The map.
    pub fn map(&self) -> &M {
        &self.0
    }

    fn region(&self, at: Gpa) -> Result<(&M::R, MemoryRegionAddress), MemoryError> {
        self.0
            .to_region_addr(GuestAddress(at.0))
            .ok_or(MemoryError::NotBacked(at))
    }
}

impl<M: GuestMemoryBackend + Send + Sync> GuestMemory for VmMemory<M> {
    #[inline]
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        if at.0 % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        let (region, offset) = self.region(at)?;
        let room = usize::try_from((region.len() - offset.0) / 8).unwrap_or(usize::MAX);
        let count = count.min(room);
        let slice = region
            .get_slice(offset, count * 8)
            .map_err(|_| MemoryError::NotBacked(at))?;
        let first = slice.ptr_guard_mut().as_ptr().cast::<AtomicU64>();
        if count == 0 {
            return Err(MemoryError::NotBacked(at));
        }
        if !first.is_aligned() {
            return Err(MemoryError::Misaligned(at, 8));
        }
        // SAFETY: `get_slice` has checked that `count * 8` bytes from `first` lie in one mapping,
        // which lives as long as `self` (see the type's contract); `first` is aligned; every
        // bit pattern is an AtomicU64; and all accesses of the engine to them are atomic.
        Ok(unsafe { std::slice::from_raw_parts(first, count) })
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        if at.0 % 4 != 0 {
            return Err(MemoryError::Misaligned(at, 4));
        }
        let (region, offset) = self.region(at)?;
        region
            .store(value.to_le(), offset, order)
            .map_err(|_| MemoryError::NotBacked(at))
    }

    #[inline]
    fn words32(&self, at: Gpa, count: usize) -> Option<&[AtomicU32]> {
        let words = self.words(at, count.div_ceil(2)).ok()?;
        // SAFETY: the same memory in halves: an AtomicU32 needs less alignment than an AtomicU64,
        // the run is as long, and the lifetime is that of `self`.
        let halves = unsafe {
            std::slice::from_raw_parts(words.as_ptr().cast::<AtomicU32>(), words.len() * 2)
        };
        halves.get(..count.min(halves.len()))
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        if let Ok((region, offset)) = self.region(at) {
            let offset = usize::try_from(offset.0).unwrap_or(usize::MAX);
            region.bitmap().mark_dirty(offset, len);
        }
    }
}
