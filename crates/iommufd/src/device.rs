//! A device of the VMM's, as far as the host's page tables are concerned.

use crate::uapi::Errno;
use std::fmt;
use std::sync::Arc;

/// Attaches one device. The VMM owns the device's file and has bound it to the iommufd; what it binds is
/// one device with one StreamID.
///
/// Called from workers and control threads, one at a time for each device; may block, and must not call
/// the engine.
pub trait AttachDevice: Send + Sync {
    /// Attaches the device to a page table, or *replaces* the one that it is attached to, without a moment
    /// in between (VFIO_DEVICE_ATTACH_IOMMUFD_PT). If it fails, the device is attached as before.
    fn attach(&self, page_table: u32) -> Result<(), Errno>;

    /// Takes the device's page table away: its DMA is blocked. Only of a device that is not, or no longer,
    /// the guest's, or that can be made to abort in no other way.
    fn detach(&self) -> Result<(), Errno>;
}

/// A device and its name in the iommufd.
#[derive(Clone)]
pub struct Device {
    /// What VFIO_DEVICE_BIND_IOMMUFD returned.
    pub id: u32,
    /// The way to it.
    pub attach: Arc<dyn AttachDevice>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
