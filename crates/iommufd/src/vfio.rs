//! Devices of VFIO's character devices (`/dev/vfio/devices/vfioN`).

use crate::device::{AttachDevice, Device};
use crate::uapi::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::raw::c_ulong;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_detach_iommufd_pt,
};
use vmm_sys_util::errno::Error as SysError;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

/// VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_ATTACH_IOMMUFD_PT and VFIO_DEVICE_DETACH_IOMMUFD_PT.
const BIND: u32 = VFIO_BASE + 18;
const ATTACH: u32 = VFIO_BASE + 19;
const DETACH: u32 = VFIO_BASE + 20;

/// A device whose file the VMM has bound to the iommufd (VFIO_DEVICE_BIND_IOMMUFD).
#[derive(Debug)]
pub struct VfioDevice(File);

impl VfioDevice {
    /// Of the device's file, or a duplicate of it.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self(file)
    }

    /// Binds the device's file to `iommufd`: what is plugged in then. The VMM keeps a duplicate of the file for
    /// the device's regions. Once for a file; blocks. EINVAL if it is bound already, EPERM or ENODEV if its
    /// group is not the VMM's whole.
    pub fn bind(file: File, iommufd: &impl AsRawFd) -> Result<Device, Errno> {
        let device = Self(file);
        let mut argument = vfio_device_bind_iommufd {
            argsz: size_of::<vfio_device_bind_iommufd>() as u32,
            iommufd: iommufd.as_raw_fd(),
            ..Default::default()
        };
        device.call(BIND, &mut argument)?;
        Ok(Device {
            id: argument.out_devid,
            attach: Arc::new(device),
        })
    }

    /// `argument` is one of VFIO's structures, whose first field says its length.
    fn call<T>(&self, number: u32, argument: &mut T) -> Result<(), Errno> {
        let request: c_ulong = ioctl_expr(_IOC_NONE, VFIO_TYPE.into(), number, 0);
        // SAFETY: The argument is the one of this call, and its first field says its length: the kernel reads
        // and writes no more. The result is checked.
        #[expect(unsafe_code, reason = "no library has these calls without a container")]
        let result = unsafe { ioctl_with_mut_ref(&self.0, request as _, argument) };
        match result {
            0 => Ok(()),
            _ => Err(Errno::from_raw_os_error(SysError::last().errno())),
        }
    }
}

impl AttachDevice for VfioDevice {
    fn attach(&self, page_table: u32) -> Result<(), Errno> {
        let mut argument = vfio_device_attach_iommufd_pt {
            argsz: size_of::<vfio_device_attach_iommufd_pt>() as u32,
            pt_id: page_table,
            ..Default::default()
        };
        self.call(ATTACH, &mut argument)
    }

    fn detach(&self) -> Result<(), Errno> {
        let mut argument = vfio_device_detach_iommufd_pt {
            argsz: size_of::<vfio_device_detach_iommufd_pt>() as u32,
            ..Default::default()
        };
        self.call(DETACH, &mut argument)
    }
}
