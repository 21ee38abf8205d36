//! The calls of iommufd that the backend makes (`include/uapi/linux/iommufd.h`), as a trait: a real
//! `/dev/iommu`, or what a test puts in its place.

use std::fs::File;

pub use iommufd_bindings::iommufd as raw;
pub use rustix::io::Errno;

/// Numbers of data types, `enum iommu_*_type`.
pub mod kind {
    use super::raw;

    /// HW_INFO: whatever the device's IOMMU has.
    pub const HW_INFO_DEFAULT: u32 = raw::iommu_hw_info_type_IOMMU_HW_INFO_TYPE_DEFAULT;
    /// HW_INFO of an SMMUv3: [`raw::iommu_hw_info_arm_smmuv3`].
    pub const HW_INFO_ARM_SMMUV3: u32 = raw::iommu_hw_info_type_IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
    /// A page table of the kernel's own.
    pub const HWPT_NONE: u32 = raw::iommu_hwpt_data_type_IOMMU_HWPT_DATA_NONE;
    /// A nested one from a vSTE: [`raw::iommu_hwpt_arm_smmuv3`].
    pub const HWPT_ARM_SMMUV3: u32 = raw::iommu_hwpt_data_type_IOMMU_HWPT_DATA_ARM_SMMUV3;
    /// A vIOMMU of an SMMUv3.
    pub const VIOMMU_ARM_SMMUV3: u32 = raw::iommu_viommu_type_IOMMU_VIOMMU_TYPE_ARM_SMMUV3;
    /// Events of an SMMUv3: [`raw::iommu_vevent_arm_smmuv3`].
    pub const VEVENTQ_ARM_SMMUV3: u32 = raw::iommu_veventq_type_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3;
    /// Commands of an SMMUv3, for a vIOMMU: [`raw::iommu_viommu_arm_smmuv3_invalidate`].
    pub const INVALIDATE_ARM_SMMUV3: u32 =
        raw::iommu_hwpt_invalidate_data_type_IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3;
    /// Pages of a VT-d first stage, for a nested page table: [`raw::iommu_hwpt_vtd_s1_invalidate`].
    pub const INVALIDATE_VTD_S1: u32 =
        raw::iommu_hwpt_invalidate_data_type_IOMMU_HWPT_INVALIDATE_DATA_VTD_S1;
}

/// HWPT_INVALIDATE.
#[derive(Clone, Copy, Debug)]
pub struct Invalidate<'a> {
    /// A vIOMMU, or a nested page table.
    pub target: u32,
    /// What the entries are, of [`kind`].
    pub data_type: u32,
    /// Bytes of an entry; not zero.
    pub entry_len: u32,
    /// The entries, one behind the other.
    pub entries: &'a [u8],
}

impl Invalidate<'_> {
    /// How many entries there are.
    #[must_use]
    pub fn entry_num(&self) -> u32 {
        (self.entries.len() / self.entry_len.max(1) as usize) as u32
    }
}

/// HWPT_INVALIDATE did not do all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HWPT_INVALIDATE: {errno}; the kernel counts {handled} entries as handled")]
pub struct InvalidateError {
    /// Why.
    #[source]
    pub errno: Errno,
    /// What the kernel wrote to `entry_num`. Not what it executed: see the crate's documentation.
    pub handled: u32,
}

/// What GET_HW_INFO says besides the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HwInfo {
    /// What the data is, of [`kind`].
    pub data_type: u32,
    /// Bytes that the kernel has, which may be more than there was room for.
    pub data_len: u32,
    /// log2 of the number of PASIDs.
    pub max_pasid_log2: u8,
    /// `IOMMU_HW_CAP_*`.
    pub capabilities: u64,
}

/// HWPT_ALLOC.
#[derive(Clone, Copy, Debug)]
pub struct HwptAlloc<'a> {
    /// `IOMMU_HWPT_ALLOC_*`, without FAULT_ID_VALID, which `fault_queue` says.
    pub flags: u32,
    /// The device that it is for.
    pub device: u32,
    /// The IOAS, parent page table or vIOMMU that it is based on.
    pub parent: u32,
    /// What the data is, of [`kind`].
    pub data_type: u32,
    /// For the driver.
    pub data: &'a [u8],
    /// Where its page faults go.
    pub fault_queue: Option<u32>,
}

/// The calls that are made of iommufd. Each may be made from any thread, several at once, and may
/// block: a worker makes those of [`invalidate`](Self::invalidate), control threads the others.
///
/// What a kernel does not know ends in ENOTTY, which is also what a call does that an implementation
/// leaves out.
pub trait Iommufd: Send + Sync {
    /// HWPT_INVALIDATE. When it returns `Ok`, the hardware has executed all entries.
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError>;

    /// GET_HW_INFO of a device, as `wanted` ([`kind::HW_INFO_DEFAULT`]: what there is), into `data`. An
    /// SMMUv3 fills 40 bytes.
    fn hw_info(&self, device: u32, wanted: u32, data: &mut [u8]) -> Result<HwInfo, Errno> {
        let _ = (device, wanted, data);
        Err(Errno::NOTTY)
    }

    /// HWPT_ALLOC: the page table's ID.
    fn alloc_hwpt(&self, call: &HwptAlloc<'_>) -> Result<u32, Errno> {
        let _ = call;
        Err(Errno::NOTTY)
    }

    /// VIOMMU_ALLOC of a type without data of its own, on a parent page table: the vIOMMU's ID.
    fn alloc_viommu(&self, data_type: u32, device: u32, parent: u32) -> Result<u32, Errno> {
        let _ = (data_type, device, parent);
        Err(Errno::NOTTY)
    }

    /// VDEVICE_ALLOC: the device is `virt_id` (vSID) to the guest of the vIOMMU. The vdevice's ID.
    fn alloc_vdevice(&self, viommu: u32, device: u32, virt_id: u64) -> Result<u32, Errno> {
        let _ = (viommu, device, virt_id);
        Err(Errno::NOTTY)
    }

    /// VEVENTQ_ALLOC: the queue's ID, and the file to read it from, which does not block.
    fn alloc_veventq(&self, viommu: u32, data_type: u32, depth: u32) -> Result<(u32, File), Errno> {
        let _ = (viommu, data_type, depth);
        Err(Errno::NOTTY)
    }

    /// FAULT_QUEUE_ALLOC: the queue's ID, and the file to read faults from and write responses to.
    fn alloc_fault_queue(&self) -> Result<(u32, File), Errno> {
        Err(Errno::NOTTY)
    }

    /// DESTROY of any of these.
    fn destroy(&self, id: u32) -> Result<(), Errno> {
        let _ = id;
        Err(Errno::NOTTY)
    }
}
