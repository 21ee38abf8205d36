//! vm-memory's trait: an access is as many slices as it has translations.

use super::slice::{HeldSlice, io_error};
use super::stream::StreamMemory;
use smmu_core::access::Operation;
use std::iter::FusedIterator;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, Permissions, VolatileSlice,
};

impl<M: GuestMemoryBackend + Send + Sync + 'static> GuestMemory for StreamMemory<M> {
    type PhysicalMemory = M;
    type Bitmap = HeldSlice<M>;

    /// Nothing is recorded of a range that is not accessible: no transaction takes place.
    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        let mut done = 0;
        while done < count {
            let at = addr.0.wrapping_add(done as u64);
            let Ok(used) = self.translate(at, operation(access), count - done, true) else {
                return false;
            };
            let (at, len) = used.output();
            let writes = operation(access) == Operation::Write;
            match used.map::<M>() {
                Ok(map) if writes && !map.is_writable(at, len) => return false,
                Ok(map) if map.map().check_range(GuestAddress(at.0), len) => done += len,
                _ => return false,
            }
        }
        true
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, HeldSlice<M>>, GuestMemoryError> {
        Ok(Slices {
            memory: self,
            iova: addr.0,
            left: count,
            operation: operation(access),
        })
    }
}

/// What is asked of stage 1: a page that may be written may be read.
fn operation(access: Permissions) -> Operation {
    if access.has_write() {
        Operation::Write
    } else {
        Operation::Read
    }
}

/// Translates slice by slice, when each is asked for.
struct Slices<'a, M> {
    memory: &'a StreamMemory<M>,
    iova: u64,
    left: usize,
    operation: Operation,
}

impl<'a, M: GuestMemoryBackend + Send + Sync + 'static> Iterator for Slices<'a, M> {
    type Item = Result<VolatileSlice<'a, HeldSlice<M>>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let used = self
            .memory
            .translate(self.iova, self.operation, self.left, false);
        let slice = used
            .map_err(io_error)
            .and_then(|used| used.slice(self.operation));
        match &slice {
            Ok(slice) => {
                self.iova = self.iova.wrapping_add(slice.len() as u64);
                self.left = self.left.saturating_sub(slice.len().max(1));
            }
            Err(_) => self.left = 0,
        }
        Some(slice)
    }
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> FusedIterator for Slices<'_, M> {}

impl<'a, M: GuestMemoryBackend + Send + Sync + 'static> GuestMemorySliceIterator<'a, HeldSlice<M>>
    for Slices<'a, M>
{
}
