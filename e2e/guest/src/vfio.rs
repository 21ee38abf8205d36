//! A PCI device through its character device of VFIO.

use crate::ioctl::{Argument, call};
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, vfio_device_attach_iommufd_pt,
    vfio_device_bind_iommufd, vfio_region_info,
};

/// The command register, and its bits for memory and DMA.
const COMMAND: u64 = 4;
const MEMORY_AND_MASTER: u16 = 0b110;

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    /// What iommufd calls it.
    pub(crate) id: u32,
    /// Where BAR 0 begins in the file.
    bar: u64,
}

impl Device {
    /// Opens a device that is bound to vfio-pci, by its address on the bus, for `iommufd`.
    pub(crate) fn open(address: &str, iommufd: &impl AsRawFd) -> Result<Self> {
        let directory = format!("/sys/bus/pci/devices/{address}/vfio-dev");
        let mut names = std::fs::read_dir(&directory).with_context(|| directory.clone())?;
        let name = names.next().context("vfio-pci has not taken it")??;
        let path = format!("/dev/vfio/devices/{}", name.file_name().to_string_lossy());
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let mut bind = vfio_device_bind_iommufd {
            argsz: vfio_device_bind_iommufd::length(),
            iommufd: iommufd.as_raw_fd(),
            ..Default::default()
        };
        let file = file.with_context(|| path.clone())?;
        call(&file, &mut bind).context("bind to iommufd")?;
        let mut device = Self {
            file,
            id: bind.out_devid,
            bar: 0,
        };
        device.bar = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
        Ok(device)
    }

    /// Where a region begins in the file.
    fn region(&self, index: u32) -> Result<u64> {
        let mut info = vfio_region_info {
            argsz: vfio_region_info::length(),
            index,
            ..Default::default()
        };
        call(&self.file, &mut info).context("a region")?;
        Ok(info.offset)
    }

    /// Has the device's accesses go through a page table of iommufd, instead of any before.
    pub(crate) fn attach(&self, table: u32) -> Result<()> {
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: vfio_device_attach_iommufd_pt::length(),
            pt_id: table,
            ..Default::default()
        };
        call(&self.file, &mut attach).context("attach")
    }

    /// The file, once more, for others who attach it.
    pub(crate) fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// Lets it use memory.
    pub(crate) fn enable(&self) -> Result<()> {
        let at = self.region(VFIO_PCI_CONFIG_REGION_INDEX)? + COMMAND;
        let mut command = [0; 2];
        self.file.read_exact_at(&mut command, at)?;
        let command = u16::from_le_bytes(command) | MEMORY_AND_MASTER;
        self.file.write_all_at(&command.to_le_bytes(), at)?;
        Ok(())
    }

    /// A register of BAR 0.
    pub(crate) fn read(&self, register: u64) -> Result<u32> {
        let mut word = [0; 4];
        self.file.read_exact_at(&mut word, self.bar + register)?;
        Ok(u32::from_le_bytes(word))
    }

    /// Writes a register of BAR 0. A system call: the stores before it have been made when the
    /// device hears of it.
    pub(crate) fn write(&self, register: u64, value: u32) -> Result<()> {
        self.file
            .write_all_at(&value.to_le_bytes(), self.bar + register)?;
        Ok(())
    }
}
