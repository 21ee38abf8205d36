//! Attaches a device of the mock, as a VMM attaches one of VFIO.

use crate::host::{Device, Host};
use crate::rig::Counted;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vcmdq_iommufd::AttachDevice;

/// A device, what it was attached to last, and how often it had nothing.
pub(crate) struct Port {
    host: Arc<Host>,
    kernel: Arc<Counted>,
    pub(crate) device: Device,
    /// An address space with nothing in it: who is attached to it reaches nothing.
    empty: u32,
    attached: AtomicU32,
    detached: AtomicU32,
}

impl Port {
    /// A device of its own.
    pub(crate) fn new(host: &Arc<Host>, kernel: &Arc<Counted>) -> io::Result<Self> {
        Ok(Self {
            device: host.device()?,
            empty: host.another_space()?,
            host: host.clone(),
            kernel: kernel.clone(),
            attached: AtomicU32::new(0),
            detached: AtomicU32::new(0),
        })
    }

    /// The page table that it was attached to last; 0 for none.
    pub(crate) fn attached(&self) -> u32 {
        self.attached.load(Ordering::Relaxed)
    }

    /// How often its page table was taken away.
    pub(crate) fn detached(&self) -> u32 {
        self.detached.load(Ordering::Relaxed)
    }

    fn go_to(&self, table: u32) -> Result<(), Errno> {
        let attach = || self.host.attach(self.device, table);
        self.kernel.call(attach).map_err(|error| {
            let number = error.raw_os_error();
            number.map_or(Errno::IO, Errno::from_raw_os_error)
        })
    }
}

impl AttachDevice for Port {
    fn attach(&self, page_table: u32) -> Result<(), Errno> {
        self.go_to(page_table)?;
        self.attached.store(page_table, Ordering::Relaxed);
        Ok(())
    }

    fn detach(&self) -> Result<(), Errno> {
        self.go_to(self.empty)?;
        self.attached.store(0, Ordering::Relaxed);
        self.detached.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
