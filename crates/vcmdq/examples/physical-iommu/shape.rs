//! What Cloud Hypervisor's SMMUv3 asks of the IOMMU behind it, written down anew.

use std::io;

/// An entry of a stream table.
pub(crate) enum TableEntry {
    Smmuv3Ste([u64; 8]),
}

/// One invalidation, as the guest wrote it.
pub(crate) enum Request {
    Smmuv3Cmd([u64; 2]),
}

/// What the IOMMU can do: IDR0 to IDR5.
pub(crate) enum HwInfo {
    Smmuv3 { idr: [u32; 6], ats_supported: bool },
}

/// Every call returns when it has taken effect. `device_id` is the guest's StreamID.
pub(crate) trait PhysicalIommu: Send + Sync {
    fn hw_info(&self) -> io::Result<HwInfo>;
    fn install_table_entry(&self, device_id: u32, entry: TableEntry) -> io::Result<()>;
    fn set_passthrough(&self, device_id: u32) -> io::Result<()>;
    fn set_blocking(&self, device_id: u32) -> io::Result<()>;
    fn invalidate(&self, request: Request) -> io::Result<()>;
}
