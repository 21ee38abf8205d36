//! The host kernel's vhost: `struct vhost_msg` through the device's file.
//!
//! An invalidation is answered when its `write` returns: the kernel takes the mutexes of the device and of
//! its queues, which its accesses hold, and drops the translation under them. That does not cover pages
//! that a device holds on to by itself: vhost-net with `experimental_zcopytx` (off by default) and
//! vhost-scsi keep those of requests in flight pinned. Do not lend to these.

use crate::iotlb::{self, BYTES};
use crate::link::{Link, LinkError, Miss};
use dispatch::backend::software::{IovaRange, Loan};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use vhost::{VhostIotlbBackend, VhostIotlbMsg};

/// `type`, in version 2 an ASID, and the union of messages.
const MESSAGE: usize = 72;
/// Where the union begins.
const UNION: usize = 8;
/// VHOST_IOTLB_MSG and VHOST_IOTLB_MSG_V2.
const TYPES: [u32; 2] = [1, 2];

/// A vhost device of the kernel: a `vhost::vhost_kern::net::Net` or what else implements
/// `VhostKernBackend`, with VIRTIO_F_ACCESS_PLATFORM negotiated.
pub struct KernelVhost<V> {
    device: V,
    file: File,
}

impl<V: VhostIotlbBackend + Send> KernelVhost<V> {
    /// `file` is a duplicate of the device's descriptor: misses are read from it. The version of messages
    /// is what the device's acknowledged back-end features say.
    pub fn new(device: V, file: File) -> Self {
        Self { device, file }
    }

    fn send(&self, message: &VhostIotlbMsg) -> Result<(), LinkError> {
        self.device
            .send_iotlb_msg(message)
            .map_err(|error| LinkError::Io(std::io::Error::other(error)))
    }

    fn is_readable(&self) -> Result<bool, LinkError> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut file = [PollFd::new(&self.file, PollFlags::IN)];
        let count = poll(&mut file, Some(&now)).map_err(std::io::Error::from)?;
        Ok(count != 0)
    }
}

impl<V: VhostIotlbBackend + Send> Link for KernelVhost<V> {
    fn lend(&mut self, loan: &Loan) -> Result<(), LinkError> {
        self.send(&iotlb::update(loan))
    }

    fn revoke(&mut self, ranges: &[IovaRange]) -> Result<(), LinkError> {
        ranges
            .iter()
            .try_for_each(|range| self.send(&iotlb::invalidate(range)))
    }

    fn next_miss(&mut self) -> Result<Option<Miss>, LinkError> {
        if !self.is_readable()? {
            return Ok(None);
        }
        let mut bytes = [0; MESSAGE];
        let count = match self.file.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            read => read?,
        };
        if count == 0 {
            return Err(LinkError::Closed);
        }
        let kind = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if count != MESSAGE || !TYPES.contains(&kind) {
            return Err(LinkError::Protocol("what is no IOTLB message"));
        }
        let mut message = [0; BYTES];
        message.copy_from_slice(&bytes[UNION..UNION + BYTES]);
        iotlb::miss(&message)
    }

    fn misses(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

impl<V> fmt::Debug for KernelVhost<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelVhost")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
