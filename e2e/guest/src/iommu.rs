//! Address spaces and page tables of iommufd.

use crate::ioctl::{Argument, call};
use crate::memory::{Memory, PAGE};
use anyhow::{Context, Result};
use iommufd_bindings::iommufd::{
    iommu_hw_info, iommu_hwpt_alloc, iommu_hwpt_arm_smmuv3,
    iommu_hwpt_data_type_IOMMU_HWPT_DATA_ARM_SMMUV3, iommu_hwpt_get_dirty_bitmap,
    iommu_hwpt_invalidate, iommu_hwpt_invalidate_data_type_IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
    iommu_hwpt_set_dirty_tracking, iommu_ioas_alloc, iommu_ioas_map, iommu_ioas_unmap,
    iommu_vdevice_alloc, iommu_viommu_alloc, iommu_viommu_arm_smmuv3_invalidate,
    iommu_viommu_type_IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
    iommufd_hw_capabilities_IOMMU_HW_CAP_DIRTY_TRACKING,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_DIRTY_TRACKING as DIRTY_TRACKING,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
    iommufd_hwpt_set_dirty_tracking_flags_IOMMU_HWPT_DIRTY_TRACKING_ENABLE as ENABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use iommufd_ioctls::IommuFd;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

fn length<T>() -> u32 {
    std::mem::size_of::<T>() as u32
}

/// An address space, which is the content of every stage 2 made for it.
pub(crate) struct Iommu {
    fd: Arc<IommuFd>,
    space: u32,
}

impl AsRawFd for Iommu {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What stands for a guest's SMMU: its invalidations are those of one stage 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Virtual(u32);

impl Iommu {
    /// An empty address space.
    pub(crate) fn new() -> Result<Self> {
        let fd = Arc::new(IommuFd::new()?);
        Self::beside(fd)
    }

    /// Another address space of the same file.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::beside(self.fd.clone())
    }

    /// The kernel's calls, for others.
    pub(crate) fn kernel(&self) -> Arc<IommuFd> {
        self.fd.clone()
    }

    /// What the kernel calls the address space.
    pub(crate) fn space(&self) -> u32 {
        self.space
    }

    /// Ends the address space, which nothing may use any more.
    pub(crate) fn destroy(&self) -> Result<()> {
        Ok(self.fd.destroy_iommu_object(self.space)?)
    }

    fn beside(fd: Arc<IommuFd>) -> Result<Self> {
        let mut space = iommu_ioas_alloc {
            size: length::<iommu_ioas_alloc>(),
            ..Default::default()
        };
        fd.alloc_iommu_ioas(&mut space)?;
        let space = space.out_ioas_id;
        Ok(Self { fd, space })
    }

    /// A page table that can stand under those of a guest: the SMMU's stage 2.
    pub(crate) fn stage2(&self, device: u32) -> Result<u32> {
        self.table(device, NEST_PARENT).context("a stage 2")
    }

    /// Whether the device's SMMU can tell which pages were written.
    pub(crate) fn tracks(&self, device: u32) -> Result<bool> {
        let mut info = iommu_hw_info {
            size: length::<iommu_hw_info>(),
            dev_id: device,
            ..Default::default()
        };
        self.fd.get_hw_info(&mut info)?;
        let tracking = u64::from(iommufd_hw_capabilities_IOMMU_HW_CAP_DIRTY_TRACKING);
        Ok(info.out_capabilities & tracking != 0)
    }

    /// A page table that tells which pages were written: a stage 1 whose descriptors the SMMU updates.
    pub(crate) fn tracking(&self, device: u32) -> Result<u32> {
        let table = self.table(device, DIRTY_TRACKING);
        table.context("a table that tracks dirty pages")
    }

    /// Begins to track; nothing is dirty.
    pub(crate) fn track(&self, table: u32) -> Result<()> {
        let mut track = iommu_hwpt_set_dirty_tracking {
            size: iommu_hwpt_set_dirty_tracking::length(),
            flags: ENABLE,
            hwpt_id: table,
            ..Default::default()
        };
        call(self, &mut track).context("dirty tracking")
    }

    /// Which of the pages from `address` on, at most 64, were written since this was asked last: a bit
    /// for each.
    pub(crate) fn written(&self, table: u32, address: u64, bytes: usize) -> Result<u64> {
        let mut bitmap = 0u64;
        let mut get = iommu_hwpt_get_dirty_bitmap {
            size: iommu_hwpt_get_dirty_bitmap::length(),
            hwpt_id: table,
            iova: address,
            length: bytes.min(64 * PAGE) as u64,
            page_size: PAGE as u64,
            data: &raw mut bitmap as u64,
            ..Default::default()
        };
        call(self, &mut get).context("the bitmap of dirty pages")?;
        Ok(bitmap)
    }

    fn table(&self, device: u32, flags: u32) -> Result<u32> {
        let mut table = iommu_hwpt_alloc {
            size: length::<iommu_hwpt_alloc>(),
            flags,
            dev_id: device,
            pt_id: self.space,
            ..Default::default()
        };
        self.fd.alloc_iommu_hwpt(&mut table)?;
        Ok(table.out_hwpt_id)
    }

    /// Maps a part of `memory` at `address`, for reading and writing.
    pub(crate) fn map(&self, memory: &Memory, part: &Range<usize>, address: u64) -> Result<()> {
        let map = iommu_ioas_map {
            size: length::<iommu_ioas_map>(),
            flags: FIXED | READABLE | WRITEABLE,
            ioas_id: self.space,
            user_va: memory.address(part.start),
            length: part.len() as u64,
            iova: address,
            ..Default::default()
        };
        let mapped = self.fd.map_iommu_ioas(&map);
        mapped.with_context(|| format!("map {:#x} bytes at {address:#x}", part.len()))
    }

    /// Unmaps. When it returns, the device does not reach it any more.
    pub(crate) fn unmap(&self, address: u64, bytes: usize) -> Result<()> {
        let mut unmap = iommu_ioas_unmap {
            size: length::<iommu_ioas_unmap>(),
            ioas_id: self.space,
            iova: address,
            length: bytes as u64,
        };
        let unmapped = self.fd.unmap_iommu_ioas(&mut unmap);
        unmapped.with_context(|| format!("unmap {bytes:#x} bytes at {address:#x}"))
    }

    /// An SMMU for a guest above a stage 2, with the device in it as stream `vsid`.
    pub(crate) fn virtual_smmu(&self, device: u32, stage2: u32, vsid: u64) -> Result<Virtual> {
        let mut made = iommu_viommu_alloc {
            size: length::<iommu_viommu_alloc>(),
            type_: iommu_viommu_type_IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
            dev_id: device,
            hwpt_id: stage2,
            ..Default::default()
        };
        self.fd.alloc_iommu_viommu(&mut made)?;
        let viommu_id = made.out_viommu_id;
        let mut stream = iommu_vdevice_alloc {
            size: length::<iommu_vdevice_alloc>(),
            viommu_id,
            dev_id: device,
            virt_id: vsid,
            ..Default::default()
        };
        self.fd.alloc_iommu_vdevice(&mut stream)?;
        Ok(Virtual(viommu_id))
    }

    /// A page table that is what a guest's stream table entry says, above the stage 2.
    pub(crate) fn nested(&self, smmu: Virtual, device: u32, entry: [u64; 2]) -> Result<u32> {
        let entry = iommu_hwpt_arm_smmuv3 {
            ste: entry.map(u64::to_le),
        };
        let mut table = iommu_hwpt_alloc {
            size: length::<iommu_hwpt_alloc>(),
            dev_id: device,
            pt_id: smmu.0,
            data_type: iommu_hwpt_data_type_IOMMU_HWPT_DATA_ARM_SMMUV3,
            data_len: length::<iommu_hwpt_arm_smmuv3>(),
            data_uptr: &raw const entry as u64,
            ..Default::default()
        };
        let made = self.fd.alloc_iommu_hwpt(&mut table);
        made.context("a nested table")?;
        Ok(table.out_hwpt_id)
    }

    /// Has the kernel send a guest's commands.
    pub(crate) fn send(&self, smmu: Virtual, commands: &[[u64; 2]]) -> Result<()> {
        let commands: Vec<_> = commands
            .iter()
            .map(|command| iommu_viommu_arm_smmuv3_invalidate {
                cmd: command.map(u64::to_le),
            })
            .collect();
        let mut array = iommu_hwpt_invalidate {
            size: length::<iommu_hwpt_invalidate>(),
            hwpt_id: smmu.0,
            data_uptr: commands.as_ptr() as u64,
            data_type: iommu_hwpt_invalidate_data_type_IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
            entry_len: length::<iommu_viommu_arm_smmuv3_invalidate>(),
            entry_num: commands.len() as u32,
            ..Default::default()
        };
        self.fd.invalidate_hwpt(&mut array)?;
        Ok(())
    }
}
