//! Calls of iommufd, with the error that the kernel gave and nothing made of it; and those of its mock,
//! whose layout is Linux's `drivers/iommu/iommufd/iommufd_test.h`.

use iommufd_bindings::iommufd::{
    IOMMUFD_CMD_BASE, IOMMUFD_CMD_DESTROY, IOMMUFD_CMD_FAULT_QUEUE_ALLOC, IOMMUFD_CMD_GET_HW_INFO,
    IOMMUFD_CMD_HWPT_ALLOC, IOMMUFD_CMD_HWPT_INVALIDATE, IOMMUFD_CMD_IOAS_ALLOC,
    IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_UNMAP, IOMMUFD_CMD_VDEVICE_ALLOC,
    IOMMUFD_CMD_VEVENTQ_ALLOC, IOMMUFD_CMD_VIOMMU_ALLOC, IOMMUFD_TYPE, iommu_destroy,
    iommu_fault_alloc, iommu_hwpt_alloc, iommu_hwpt_invalidate, iommu_ioas_alloc, iommu_ioas_map,
    iommu_ioas_unmap, iommu_vdevice_alloc, iommu_veventq_alloc, iommu_viommu_alloc,
};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::raw::c_ulong;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

/// The argument of one call. Its first field says how long it is.
pub(crate) trait Argument: Sized {
    /// The number of the call.
    const NUMBER: u32;

    /// What the first field says.
    const LENGTH: u32 = size_of::<Self>() as u32;
}

macro_rules! arguments {
    ($($argument:ty = $number:expr),+ $(,)?) => {
        $(impl Argument for $argument {
            const NUMBER: u32 = $number;
        })+
    };
}

arguments! {
    iommu_destroy = IOMMUFD_CMD_DESTROY,
    iommu_ioas_alloc = IOMMUFD_CMD_IOAS_ALLOC,
    iommu_ioas_map = IOMMUFD_CMD_IOAS_MAP,
    iommu_ioas_unmap = IOMMUFD_CMD_IOAS_UNMAP,
    iommu_hwpt_alloc = IOMMUFD_CMD_HWPT_ALLOC,
    iommu_hwpt_invalidate = IOMMUFD_CMD_HWPT_INVALIDATE,
    iommu_fault_alloc = IOMMUFD_CMD_FAULT_QUEUE_ALLOC,
    iommu_viommu_alloc = IOMMUFD_CMD_VIOMMU_ALLOC,
    iommu_vdevice_alloc = IOMMUFD_CMD_VDEVICE_ALLOC,
    iommu_veventq_alloc = IOMMUFD_CMD_VEVENTQ_ALLOC,
    HwInfo = IOMMUFD_CMD_GET_HW_INFO,
    Test = IOMMUFD_CMD_BASE + 32,
}

/// `struct iommu_hw_info`, whose type is in and out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HwInfo {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) device: u32,
    pub(crate) bytes: u32,
    pub(crate) data: u64,
    pub(crate) kind: u32,
    pub(crate) pasids_log2: u8,
    pub(crate) reserved: [u8; 3],
    pub(crate) capabilities: u64,
}

/// `struct iommu_test_cmd`: what is asked of the mock, of which object, and up to 48 bytes by what is asked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Test {
    pub(crate) size: u32,
    pub(crate) operation: u32,
    pub(crate) id: u32,
    pub(crate) reserved: u32,
    /// Words of 64 bits, low half first.
    pub(crate) words: [u64; 6],
    pub(crate) last: u32,
}

const _: () = assert!(size_of::<Test>() == 72 && size_of::<HwInfo>() == 40);

/// Makes the call. What the argument points to must be the caller's, and as long as the argument says.
///
/// # Errors
///
/// The kernel's; what it has written into the argument is there then, too.
pub(crate) fn call<T: Argument>(file: &impl AsRawFd, argument: &mut T) -> io::Result<()> {
    let request: c_ulong = ioctl_expr(_IOC_NONE, IOMMUFD_TYPE.into(), T::NUMBER, 0);
    // SAFETY: The argument is the one of this call, whose first field says its length: of it, the
    // kernel reads and writes no more.
    #[expect(unsafe_code, reason = "no library has these calls")]
    let result = unsafe { ioctl_with_mut_ref(file, request as _, argument) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file that a call has made and nobody else has.
pub(crate) fn made(descriptor: u32) -> io::Result<File> {
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: The kernel has just made it for the caller of the call.
    #[expect(unsafe_code, reason = "a descriptor becomes a file")]
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
