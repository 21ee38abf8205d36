//! A stream's address space as vm-memory's guest memory, so that device models that exist already
//! (virtio-queue, vhost-user back ends) can sit behind the SMMU unchanged.
//!
//! # Where the guard is
//!
//! Users of the trait collect the slices that the iterator yields and use them after it is gone
//! (virtio-queue's `Reader` and `Writer` do), so a guard in the iterator alone would be closed too
//! early. Here each slice carries its guard, in the place where vm-memory has the handle of its dirty
//! bitmap, and the guard closes when the last copy of the slice is dropped. The same handle
//! reports writes by guest-physical address.
//!
//! # What the trait cannot express
//!
//! A stalled access is waited for, at most [`StreamMemory::set_stall_limit`]. "Reads are zero, writes
//! are ignored" and outputs that are no RAM are errors: a slice is memory. An address without
//! translation is an [`IOError`](vm_memory::GuestMemoryError::IOError) that holds a [`DmaError`].

use super::device::Requester;
use super::error::DmaError;
use super::piece::refused;
use super::sinks::DeviceSeams;
use crate::VmMemory;
use crate::events::{Resumption, StalledAccess};
use dispatch::backend::Software;
use dispatch::backend::software::{OwnedGuard, Port};
use smmu_core::access::Operation;
use smmu_core::guard::NoSlot;
use smmu_core::{Gpa, GuestMemory as _};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vcmdq_sync::claim::ClaimCell;
use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    Permissions, VolatileSlice,
};

/// Ports that are kept for the next slices; more slices than that lease a guard slot each time.
const SPARE: usize = 8;
/// The most bytes of one slice, so that no guard is held for more than this.
const MAX_BYTES: usize = 1 << 20;

/// A stream's address space over one map of guest memory. Share it in an `Arc`, which vm-memory takes
/// as a `GuestAddressSpace`.
///
/// Each slice that lives takes one guard slot of the instance; when there are none left, getting
/// a slice fails. A map that the instance does not use any more gives errors (law 9): after
/// [`Frame::update_memory`](crate::Frame::update_memory), devices are given a new one of these.
pub struct StreamMemory<M> {
    map: Arc<VmMemory<M>>,
    ports: Arc<Ports>,
    seams: DeviceSeams,
    who: Requester,
    stall_limit: Duration,
}

impl<M> fmt::Debug for StreamMemory<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMemory")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

/// Ports that nobody uses just now.
struct Ports {
    core: Arc<Software>,
    spare: [ClaimCell<Option<Port>>; SPARE],
}

impl Ports {
    fn take(&self, who: &Requester) -> Result<Port, NoSlot> {
        let spare = |cell: &ClaimCell<Option<Port>>| cell.enter()?.with(Option::take);
        match self.spare.iter().find_map(spare) {
            Some(port) => Ok(port),
            None => self.core.port(who.stream),
        }
    }

    /// Keeps a port, or drops it if there are enough.
    fn put(&self, port: Port) {
        let mut port = Some(port);
        for cell in &self.spare {
            // Whoever comes meanwhile goes to the next cell: a claim here is never asked for again.
            if let Some(mut claim) = cell.enter() {
                claim.with(|kept| {
                    if kept.is_none() {
                        *kept = port.take();
                    }
                });
            }
            if port.is_none() {
                return;
            }
        }
    }
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> StreamMemory<M> {
    /// The address space of a stream. `map` must be the very `Arc` that the frame was given as its
    /// guest memory. `seams.mmio` is not used.
    #[must_use]
    pub fn new(
        core: &Arc<Software>,
        who: Requester,
        seams: DeviceSeams,
        map: Arc<VmMemory<M>>,
    ) -> Self {
        let ports = Ports {
            core: core.clone(),
            spare: std::array::from_fn(|_| ClaimCell::new(None)),
        };
        Self {
            map,
            ports: Arc::new(ports),
            seams,
            who,
            stall_limit: Duration::from_secs(10),
        }
    }

    /// How long a stalled access is waited for in all, ten seconds if nothing is said. Zero is
    /// "not at all".
    pub fn set_stall_limit(&mut self, limit: Duration) {
        self.stall_limit = limit;
    }

    /// Translates the beginning of an access. Waits while it is stalled, without a guard.
    /// `probing` accesses leave no event and never stall.
    fn translate(
        &self,
        iova: u64,
        operation: Operation,
        len: usize,
        probing: bool,
    ) -> Result<Use, DmaError> {
        let mut waiting = None;
        let len = len.min(MAX_BYTES) as u64;
        let mut port = self.ports.take(&self.who)?;
        loop {
            let access = self.who.access(iova, operation);
            let mut answer = None;
            let entered = port.translate_owned(self.who.substream, access, len, |failed| {
                if !probing {
                    answer = Some(self.seams.faults.fault(failed));
                }
            });
            let denied = match entered {
                Ok(guard) => {
                    let ports = self.ports.clone();
                    let guard = Some(guard);
                    return Ok(Use { guard, ports });
                }
                Err((back, denied)) => {
                    port = back;
                    denied
                }
            };
            let cause = match refused(denied, answer) {
                Some(DmaError::Stalled(stalled)) => {
                    let begun = *waiting.get_or_insert_with(Instant::now);
                    match self.verdict(&stalled, begun) {
                        Some(Resumption::Retry) => continue,
                        Some(_) => denied.into(),
                        None => DmaError::Stalled(stalled),
                    }
                }
                Some(cause) => cause,
                None => denied.into(),
            };
            self.ports.put(port);
            return Err(cause);
        }
    }

    /// Waits for the guest's verdict, as long as the limit allows.
    fn verdict(&self, stalled: &StalledAccess, begun: Instant) -> Option<Resumption> {
        loop {
            let left = self.stall_limit.saturating_sub(begun.elapsed());
            let verdict = stalled.wait_for(left);
            if verdict.is_some() || left.is_zero() {
                return verdict;
            }
        }
    }

    /// The slice behind the beginning of an access.
    fn slice(
        &self,
        iova: u64,
        operation: Operation,
        len: usize,
    ) -> Result<VolatileSlice<'_, HeldSlice<M>>, GuestMemoryError> {
        let used = self
            .translate(iova, operation, len, false)
            .map_err(io_error)?;
        let (at, len) = used.output(&*self.map).map_err(io_error)?;
        let not_backed = || io_error(DmaError::NotBacked(at));
        let (region, offset) = self
            .map
            .map()
            .to_region_addr(GuestAddress(at.0))
            .ok_or_else(not_backed)?;
        let room = region.len().saturating_sub(offset.0);
        let len = usize::try_from(room).map_or(len, |room| room.min(len));
        let slice = region.get_slice(offset, len)?;
        let held = HeldSlice {
            used: Arc::new(used),
            map: self.map.clone(),
            at,
        };
        Ok(with_handle(&slice, held))
    }
}

/// The same bytes with another handle in the place of the bitmap's.
#[expect(
    unsafe_code,
    reason = "vm-memory has no safe way to exchange the bitmap of a slice outside its own crate"
)]
fn with_handle<'a, M: GuestMemoryBackend + Send + Sync + 'static, B: BitmapSlice>(
    slice: &VolatileSlice<'a, B>,
    held: HeldSlice<M>,
) -> VolatileSlice<'a, HeldSlice<M>> {
    let first = slice.ptr_guard_mut().as_ptr();
    // SAFETY: `slice` says that so many bytes from `first` on are there for `'a`, and that they are
    // accessed volatilely; the new one covers the same bytes for the same lifetime. No map of
    // `VmMemory` needs a window to be mapped first (its contract excludes Xen's grants), so
    // there is none to hand on.
    unsafe { VolatileSlice::with_bitmap(first, slice.len(), held, None) }
}

fn io_error(cause: DmaError) -> GuestMemoryError {
    GuestMemoryError::IOError(io::Error::other(cause))
}

/// A translation in use by slices. Closes when the last of them is gone.
struct Use {
    guard: Option<OwnedGuard>,
    ports: Arc<Ports>,
}

impl Use {
    /// Where it goes and how far; refused if the translation belongs to another map than `map`.
    fn output<M: GuestMemoryBackend + Send + Sync>(
        &self,
        map: &VmMemory<M>,
    ) -> Result<(Gpa, usize), DmaError> {
        let guard = self.guard.as_ref().ok_or(DmaError::Aborted)?;
        let output = guard.output();
        if !std::ptr::addr_eq(std::ptr::from_ref(guard.memory()), map) {
            return Err(DmaError::NotBacked(Gpa(output.address)));
        }
        let len = usize::try_from(output.bytes).unwrap_or(usize::MAX);
        Ok((Gpa(output.address), len))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            self.ports.put(guard.close());
        }
    }
}

/// What a slice carries: its guard, and where its writes are reported. Opaque to device models.
pub struct HeldSlice<M> {
    used: Arc<Use>,
    map: Arc<VmMemory<M>>,
    /// The guest-physical address of the slice's first byte.
    at: Gpa,
}

impl<M> Clone for HeldSlice<M> {
    fn clone(&self) -> Self {
        Self {
            used: self.used.clone(),
            map: self.map.clone(),
            at: self.at,
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

impl<M: GuestMemoryBackend + Send + Sync> WithBitmapSlice<'_> for HeldSlice<M> {
    type S = Self;
}

impl<M: GuestMemoryBackend + Send + Sync> BitmapSlice for HeldSlice<M> {}

impl<M: GuestMemoryBackend + Send + Sync> Bitmap for HeldSlice<M> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.map
            .mark_dirty(Gpa(self.at.0.wrapping_add(offset as u64)), len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let at = GuestAddress(self.at.0.wrapping_add(offset as u64));
        let found = self.map.map().to_region_addr(at);
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
            match used.output(&*self.map) {
                Ok((at, len)) if self.map.map().check_range(GuestAddress(at.0), len) => {
                    done += len;
                }
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
        let slice = self.memory.slice(self.iova, self.operation, self.left);
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
