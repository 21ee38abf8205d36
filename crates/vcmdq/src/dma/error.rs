//! How an access ends that does not succeed.

use crate::events::StalledAccess;
use dispatch::backend::software::Denied;
use smmu_core::Gpa;
use smmu_core::guard::NoSlot;
use smmu_core::translate::Failed;

/// Why an access, or the rest of it, did not take place. All but [`NoGuard`](Self::NoGuard) and
/// [`OtherMap`](Self::OtherMap) is what the guest has arranged; none is a reason for a VMM to stop.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// Aborted without a record: the stream is set to abort or has been failed closed, or the SMMU
    /// is not set up.
    #[error("aborted: the stream may not access memory")]
    Aborted,
    /// It faulted and was aborted. The event has been recorded if the verdict says so.
    #[error("aborted: {}", .0.fault)]
    Fault(Failed),
    /// It faulted and waits for the guest. After [`Resumption::Retry`](crate::events::Resumption)
    /// the rest is to be asked for again; after the others it is aborted, or reads zero.
    #[error("stalled until the guest resumes it")]
    Stalled(StalledAccess),
    /// External abort: neither RAM (for a write, that can be written) nor a target of the
    /// [`MmioSink`](super::MmioSink) at the output address. The SMMU has no event for it (IHI 0070, 7.3: only its own fetches have).
    #[error("external abort: nothing at guest-physical address {0}")]
    NotBacked(Gpa),
    /// The frame's guest memory is not the kind of map that the device's handle was made for. The
    /// VMM's mistake.
    #[error("the guest memory is not a `VmMemory` of the map that this handle is for")]
    OtherMap,
    /// An atomic access whose address is no multiple of its size.
    #[error("atomic access of {1} bytes at {0:#x}, which is not aligned")]
    Misaligned(u64, usize),
    /// The instance has no more guards: the VMM's setting.
    #[error(transparent)]
    NoGuard(#[from] NoSlot),
}

/// An access that ended early.
#[derive(Debug, thiserror::Error)]
#[error("after {done} bytes: {cause}")]
pub struct Incomplete {
    /// Bytes that were transferred, from the beginning on. Those behind them were not touched.
    pub done: usize,
    /// Why not more.
    #[source]
    pub cause: DmaError,
}

impl From<Denied> for DmaError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Aborted => Self::Aborted,
            Denied::Fault(failed) => Self::Fault(failed),
        }
    }
}
