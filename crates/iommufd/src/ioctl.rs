//! The calls of a real `/dev/iommu`: those that the crate `iommufd-ioctls` has, and beside them what it
//! lacks.

use crate::uapi::{Errno, HwInfo, HwptAlloc, Invalidate, InvalidateError, Iommufd, raw};
use iommufd_ioctls::{IommuFd, IommufdError};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::raw::c_ulong;
use vmm_sys_util::errno::Error as SysError;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

/// FAULT_QUEUE_ALLOC, which the crate lacks.
const FAULT_QUEUE_ALLOC: u32 = raw::IOMMUFD_CMD_FAULT_QUEUE_ALLOC;

fn errno(error: &IommufdError) -> Errno {
    let number = |error: &SysError| Errno::from_raw_os_error(error.errno());
    match error {
        IommufdError::IommuDestroy(error)
        | IommufdError::IommuHwptAlloc(error)
        | IommufdError::IommuViommuAlloc(error)
        | IommufdError::IommuVdeviceAlloc(error)
        | IommufdError::IommuGetHwInfo(error)
        | IommufdError::IommuHwptInvalidate(error)
        | IommufdError::IommuVeventqAlloc(error)
        | IommufdError::VeventqNonBlocking(error) => number(error),
        // The calls that are made here end in none of these.
        _ => Errno::IO,
    }
}

fn size_of<T>() -> u32 {
    std::mem::size_of::<T>() as u32
}

impl Iommufd for IommuFd {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let mut argument = raw::iommu_hwpt_invalidate {
            size: size_of::<raw::iommu_hwpt_invalidate>(),
            hwpt_id: call.target,
            data_uptr: call.entries.as_ptr() as u64,
            data_type: call.data_type,
            entry_len: call.entry_len,
            entry_num: call.entry_num(),
            ..Default::default()
        };
        self.invalidate_hwpt(&mut argument)
            .map_err(|error| InvalidateError {
                errno: errno(&error),
                handled: argument.entry_num,
            })
    }

    fn hw_info(&self, device: u32, wanted: u32, data: &mut [u8]) -> Result<HwInfo, Errno> {
        let typed = raw::iommufd_hw_info_flags_IOMMU_HW_INFO_FLAG_INPUT_TYPE;
        let mut argument = raw::iommu_hw_info {
            size: size_of::<raw::iommu_hw_info>(),
            flags: if wanted == 0 { 0 } else { typed },
            dev_id: device,
            data_len: data.len() as u32,
            data_uptr: data.as_mut_ptr() as u64,
            __bindgen_anon_1: raw::iommu_hw_info__bindgen_ty_1 {
                in_data_type: wanted,
            },
            ..Default::default()
        };
        self.get_hw_info(&mut argument)
            .map_err(|error| errno(&error))?;
        // SAFETY: Both fields of the union are the same 32-bit number.
        #[expect(unsafe_code, reason = "the type is in a union of input and output")]
        let data_type = unsafe { argument.__bindgen_anon_1.out_data_type };
        Ok(HwInfo {
            data_type,
            data_len: argument.data_len,
            max_pasid_log2: argument.out_max_pasid_log2,
            capabilities: argument.out_capabilities,
        })
    }

    fn alloc_hwpt(&self, call: &HwptAlloc<'_>) -> Result<u32, Errno> {
        let faults = match call.fault_queue {
            Some(_) => raw::iommufd_hwpt_alloc_flags_IOMMU_HWPT_FAULT_ID_VALID,
            None => 0,
        };
        let mut argument = raw::iommu_hwpt_alloc {
            size: size_of::<raw::iommu_hwpt_alloc>(),
            flags: call.flags | faults,
            dev_id: call.device,
            pt_id: call.parent,
            data_type: call.data_type,
            data_len: call.data.len() as u32,
            data_uptr: call.data.as_ptr() as u64,
            fault_id: call.fault_queue.unwrap_or_default(),
            ..Default::default()
        };
        self.alloc_iommu_hwpt(&mut argument)
            .map_err(|error| errno(&error))?;
        Ok(argument.out_hwpt_id)
    }

    fn alloc_viommu(&self, data_type: u32, device: u32, parent: u32) -> Result<u32, Errno> {
        let mut argument = raw::iommu_viommu_alloc {
            size: size_of::<raw::iommu_viommu_alloc>(),
            type_: data_type,
            dev_id: device,
            hwpt_id: parent,
            ..Default::default()
        };
        self.alloc_iommu_viommu(&mut argument)
            .map_err(|error| errno(&error))?;
        Ok(argument.out_viommu_id)
    }

    fn alloc_vdevice(&self, viommu: u32, device: u32, virt_id: u64) -> Result<u32, Errno> {
        let mut argument = raw::iommu_vdevice_alloc {
            size: size_of::<raw::iommu_vdevice_alloc>(),
            viommu_id: viommu,
            dev_id: device,
            virt_id,
            ..Default::default()
        };
        self.alloc_iommu_vdevice(&mut argument)
            .map_err(|error| errno(&error))?;
        Ok(argument.out_vdevice_id)
    }

    fn alloc_veventq(&self, viommu: u32, data_type: u32, depth: u32) -> Result<(u32, File), Errno> {
        let mut argument = raw::iommu_veventq_alloc {
            size: size_of::<raw::iommu_veventq_alloc>(),
            viommu_id: viommu,
            type_: data_type,
            veventq_depth: depth,
            ..Default::default()
        };
        IommuFd::alloc_veventq(self, &mut argument).map_err(|error| errno(&error))
    }

    fn alloc_fault_queue(&self) -> Result<(u32, File), Errno> {
        let mut argument = raw::iommu_fault_alloc {
            size: size_of::<raw::iommu_fault_alloc>(),
            ..Default::default()
        };
        let request: c_ulong =
            ioctl_expr(_IOC_NONE, raw::IOMMUFD_TYPE.into(), FAULT_QUEUE_ALLOC, 0);
        // SAFETY: The argument is the one of this call, and its first field says its length: the kernel
        // reads and writes no more. The result is checked.
        #[expect(unsafe_code, reason = "the library lacks this call")]
        let result = unsafe { ioctl_with_mut_ref(self, request as _, &mut argument) };
        if result != 0 {
            return Err(Errno::from_raw_os_error(SysError::last().errno()));
        }
        // SAFETY: The kernel has just opened it for this caller, who has not closed it.
        #[expect(unsafe_code, reason = "the kernel hands a file over by number")]
        let file = unsafe { OwnedFd::from_raw_fd(argument.out_fault_fd as _) };
        Ok((argument.out_fault_id, file.into()))
    }

    fn destroy(&self, id: u32) -> Result<(), Errno> {
        self.destroy_iommu_object(id).map_err(|error| errno(&error))
    }
}
