//! Calls of the kernel for which no library has a function: those of VFIO's character devices, and dirty
//! tracking.

use iommufd_bindings::iommufd::{
    IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING, IOMMUFD_TYPE,
    iommu_hwpt_get_dirty_bitmap, iommu_hwpt_set_dirty_tracking,
};
use std::io;
use std::os::fd::AsRawFd;
use std::os::raw::c_ulong;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_region_info,
};
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

/// The argument of one call, whose first field says how long it is.
pub(crate) trait Argument: Sized {
    /// The call: its type and its number.
    const CALL: (u8, u32);

    /// What the first field says.
    fn length() -> u32 {
        std::mem::size_of::<Self>() as u32
    }
}

impl Argument for vfio_region_info {
    const CALL: (u8, u32) = (VFIO_TYPE, VFIO_BASE + 8);
}

impl Argument for vfio_device_bind_iommufd {
    const CALL: (u8, u32) = (VFIO_TYPE, VFIO_BASE + 18);
}

impl Argument for vfio_device_attach_iommufd_pt {
    const CALL: (u8, u32) = (VFIO_TYPE, VFIO_BASE + 19);
}

impl Argument for iommu_hwpt_set_dirty_tracking {
    const CALL: (u8, u32) = (IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING);
}

impl Argument for iommu_hwpt_get_dirty_bitmap {
    const CALL: (u8, u32) = (IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP);
}

/// Makes the call. What the argument points to must be the caller's to have written.
pub(crate) fn call<T: Argument>(file: &impl AsRawFd, argument: &mut T) -> io::Result<()> {
    let (kind, number) = T::CALL;
    let request: c_ulong = ioctl_expr(_IOC_NONE, kind.into(), number, 0);
    // SAFETY: The argument is the one of this call, whose first field says its length: of it, the
    // kernel reads and writes no more.
    #[expect(unsafe_code, reason = "no library has these calls")]
    let result = unsafe { ioctl_with_mut_ref(file, request as _, argument) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
