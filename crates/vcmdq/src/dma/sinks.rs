//! What a device model needs of its VMM.

use crate::events::{Answer, EventSink};
use crate::seams::NoTarget;
use smmu_core::translate::Failed;
use smmu_core::{Gpa, StreamId};
use std::fmt;
use std::sync::Arc;

/// Takes the faults of devices: an [`EventSink`], or what a VMM puts before it.
pub trait FaultSink: Send + Sync {
    /// A transaction has faulted: records it as its verdict says and returns what the device
    /// sees. Called from the device's thread while the guard of the translation that failed is still
    /// open, so that the event is visible before a SYNC that waits for the access completes
    /// (law 3). Must not block.
    fn fault(&self, failed: &Failed) -> Answer;
}

impl FaultSink for EventSink {
    fn fault(&self, failed: &Failed) -> Answer {
        // Its rule that the caller holds no guard is there so that nobody waits with one: this
        // guard is closed before the stalled access can be waited for.
        Self::fault(self, failed)
    }
}

/// Takes accesses whose output is no RAM: an MSI doorbell, another device's BAR; and writes to memory that
/// can only be read.
///
/// Called from the device's thread with the translation's guard open: must not wait for the guest.
/// `data` has at most 4 KiB and does not cross a 4 KiB boundary; addresses and lengths are
/// otherwise what the device asked for.
pub trait MmioSink: Send + Sync {
    /// A write. `device_id` is the requester's, by which an ITS tells senders apart.
    fn write(&self, stream: StreamId, device_id: u32, at: Gpa, data: &[u8])
    -> Result<(), NoTarget>;

    /// A read. Fills `data` whole.
    fn read(
        &self,
        stream: StreamId,
        device_id: u32,
        at: Gpa,
        data: &mut [u8],
    ) -> Result<(), NoTarget>;
}

/// Nothing but RAM: everything else is an external abort.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMmio;

impl MmioSink for NoMmio {
    fn write(&self, _: StreamId, _: u32, _: Gpa, _: &[u8]) -> Result<(), NoTarget> {
        Err(NoTarget)
    }

    fn read(&self, _: StreamId, _: u32, _: Gpa, _: &mut [u8]) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

/// The sinks of a device.
#[derive(Clone)]
pub struct DeviceSeams {
    /// Faults.
    pub faults: Arc<dyn FaultSink>,
    /// What is no RAM.
    pub mmio: Arc<dyn MmioSink>,
}

impl DeviceSeams {
    /// Faults alone; nothing behind the SMMU but RAM.
    #[must_use]
    pub fn new(faults: Arc<dyn FaultSink>) -> Self {
        Self {
            faults,
            mmio: Arc::new(NoMmio),
        }
    }
}

impl fmt::Debug for DeviceSeams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSeams").finish_non_exhaustive()
    }
}
