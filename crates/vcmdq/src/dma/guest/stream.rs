//! The handle, and how an access gets its translation.

use super::ports::Ports;
use super::slice::Use;
use crate::dma::device::Requester;
use crate::dma::error::DmaError;
use crate::dma::piece::refused;
use crate::dma::sinks::DeviceSeams;
use crate::events::{Resumption, StalledAccess};
use dispatch::backend::Software;
use smmu_core::access::Operation;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most bytes of one slice, so that no guard is held for more than this.
const MAX_BYTES: usize = 1 << 20;

/// A stream's address space over the instance's guest memory, which is a
/// [`VmMemory<M>`](crate::VmMemory). Share it in an `Arc`, which vm-memory takes as a
/// `GuestAddressSpace`. It stays as it is when the guest memory is exchanged.
///
/// Each slice that lives takes one guard slot of the instance; when there are none left, getting
/// a slice fails. From any thread; a stalled access waits for the guest, nothing else waits.
pub struct StreamMemory<M> {
    ports: Arc<Ports>,
    seams: DeviceSeams,
    who: Requester,
    stall_limit: Duration,
    map: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for StreamMemory<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMemory")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

impl<M> StreamMemory<M> {
    /// The address space of a stream. `M` must be the map that the frame's guest memory is a
    /// [`VmMemory`](crate::VmMemory) of: every access says so if not. `seams.mmio` is not used.
    #[must_use]
    pub fn new(core: &Arc<Software>, who: Requester, seams: DeviceSeams) -> Self {
        Self {
            ports: Arc::new(Ports::new(core)),
            seams,
            who,
            stall_limit: Duration::from_secs(10),
            map: PhantomData,
        }
    }

    /// How long a stalled access is waited for in all, ten seconds if nothing is said. Zero is
    /// "not at all".
    pub fn set_stall_limit(&mut self, limit: Duration) {
        self.stall_limit = limit;
    }

    /// Translates the beginning of an access. Waits while it is stalled, without a guard.
    /// `probing` accesses leave no event and never stall.
    pub(super) fn translate(
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
                    return Ok(Use::new(guard, ports));
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
}
