//! A slice of guest memory that holds its guard.

use super::ports::Ports;
use crate::VmMemory;
use crate::dma::error::DmaError;
use dispatch::backend::software::OwnedGuard;
use smmu_core::access::Operation;
use smmu_core::{Gpa, GuestMemory};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, VolatileSlice,
};

/// A translation in use by slices. Closes when the last of them is gone.
pub(super) struct Use {
    /// There until this is dropped.
    guard: Option<OwnedGuard>,
    ports: Arc<Ports>,
}

impl Use {
    pub(super) fn new(guard: OwnedGuard, ports: Arc<Ports>) -> Self {
        let guard = Some(guard);
        Self { guard, ports }
    }

    /// Where it goes and how far.
    pub(super) fn output(&self) -> (Gpa, usize) {
        let output = self.guard.as_ref().map(OwnedGuard::output);
        output.map_or((Gpa(0), 0), |output| {
            let len = usize::try_from(output.bytes).unwrap_or(usize::MAX);
            (Gpa(output.address), len)
        })
    }

    /// The map that it was translated by.
    fn memory(&self) -> Option<&dyn GuestMemory> {
        self.guard.as_ref().map(OwnedGuard::memory)
    }

    /// The same, as what it is made of.
    pub(super) fn map<M: 'static>(&self) -> Result<&VmMemory<M>, DmaError> {
        let any = self.memory().and_then(GuestMemory::as_any);
        any.and_then(|any| any.downcast_ref())
            .ok_or(DmaError::OtherMap)
    }

    /// The slice of guest memory behind the translation, for an access of this kind.
    pub(super) fn slice<'a, M: GuestMemoryBackend + Send + Sync + 'static>(
        self,
        operation: Operation,
    ) -> Result<VolatileSlice<'a, HeldSlice<M>>, GuestMemoryError> {
        let used = Arc::new(self);
        let (at, len) = used.output();
        let memory = used.map::<M>().map_err(io_error)?;
        if operation == Operation::Write && !memory.is_writable(at, 1) {
            return Err(io_error(DmaError::NotBacked(at)));
        }
        let map = memory.map();
        let (region, offset) = map
            .to_region_addr(GuestAddress(at.0))
            .ok_or_else(|| io_error(DmaError::NotBacked(at)))?;
        let room = region.len().saturating_sub(offset.0);
        let len = usize::try_from(room).map_or(len, |room| room.min(len));
        let slice = region.get_slice(offset, len)?;
        let held = HeldSlice {
            used: used.clone(),
            at,
            map: PhantomData,
        };
        Ok(with_handle(&slice, held))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            self.ports.put(guard.close());
        }
    }
}

pub(super) fn io_error(cause: DmaError) -> GuestMemoryError {
    GuestMemoryError::IOError(io::Error::other(cause))
}

/// The same bytes with another handle in the place of the bitmap's.
#[expect(
    unsafe_code,
    reason = "vm-memory has no safe way to exchange the bitmap of a slice outside its own crate"
)]
fn with_handle<'a, M: GuestMemoryBackend + Send + Sync + 'static, B: BitmapSlice>(
    slice: &VolatileSlice<'_, B>,
    held: HeldSlice<M>,
) -> VolatileSlice<'a, HeldSlice<M>> {
    let first = slice.ptr_guard_mut().as_ptr();
    // SAFETY: `slice` says that so many bytes from `first` on are there, and that they are accessed
    // volatilely. They belong to the map that `held` translates by, which its open guard keeps
    // mapped, and whatever vm-memory derives from the new slice carries a copy of `held`; so they
    // are there as long as anything that leads to them. No map of `VmMemory` needs a window to be
    // mapped first (its contract excludes Xen's grants), so there is none to hand on.
    unsafe { VolatileSlice::with_bitmap(first, slice.len(), held, None) }
}

/// What a slice carries: its guard, and where its writes are reported. Opaque to device models.
pub struct HeldSlice<M> {
    used: Arc<Use>,
    /// The guest-physical address of the slice's first byte.
    at: Gpa,
    map: PhantomData<fn() -> M>,
}

impl<M> Clone for HeldSlice<M> {
    fn clone(&self) -> Self {
        Self {
            used: self.used.clone(),
            at: self.at,
            map: PhantomData,
        }
    }
}

impl<M> fmt::Debug for HeldSlice<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldSlice")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> WithBitmapSlice<'_> for HeldSlice<M> {
    type S = Self;
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> BitmapSlice for HeldSlice<M> {}

impl<M: GuestMemoryBackend + Send + Sync + 'static> Bitmap for HeldSlice<M> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let at = Gpa(self.at.0.wrapping_add(offset as u64));
        if let Some(memory) = self.used.memory() {
            memory.mark_dirty(at, len);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let at = GuestAddress(self.at.0.wrapping_add(offset as u64));
        let map = self.used.map::<M>().ok();
        let found = map.and_then(|map| map.map().to_region_addr(at));
        found.is_some_and(|(region, offset)| {
            usize::try_from(offset.0).is_ok_and(|offset| region.bitmap().dirty_at(offset))
        })
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self {
            at: Gpa(self.at.0.wrapping_add(offset as u64)),
            ..self.clone()
        }
    }
}
