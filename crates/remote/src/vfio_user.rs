//! A vfio-user server: DMA windows, by VFIO_USER_DMA_MAP and VFIO_USER_DMA_UNMAP.
//!
//! Such a device does not miss: the VMM lends windows ([`Service::lend`](crate::Service::lend)), and
//! what is not in one the server asks for with DMA_READ and DMA_WRITE, which the VMM serves as
//! accesses of the stream. That needs a connection of its own here: what is no reply is an error.
//!
//! The `vfio_user` crate's `Client` is not used for it: it takes whatever comes for an answer, without a
//! look at the error flag, and shows nobody its socket. So the two messages are put together here, from
//! the numbers that the crate has.

use crate::link::{Link, LinkError, Miss};
use dispatch::backend::software::{IovaRange, Loan, Wanted};
use smmu_core::Gpa;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use vfio_user::{Command, DmaMapFlags};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

const HEADER: usize = 16;
const TYPE_MASK: u32 = 0xF;
const REPLY: u32 = 1;
const ERROR: u32 = 1 << 5;
/// More than any reply to these requests has.
const MOST: usize = 4096;

/// Guest memory as files, which a server maps.
pub trait Files: Send {
    /// The file that holds all of `bytes` from a guest-physical address on, and where in it.
    fn place(&self, at: Gpa, bytes: u64) -> Option<FilePlace>;
}

/// A place in a file.
#[derive(Clone, Debug)]
pub struct FilePlace {
    /// The file.
    pub file: Arc<File>,
    /// From its beginning.
    pub offset: u64,
}

/// A connection to a vfio-user server.
pub struct VfioUser<F> {
    socket: UnixStream,
    turn: Arc<Mutex<()>>,
    files: F,
    id: u16,
    /// First address and bytes of what is mapped.
    windows: BTreeMap<u64, u64>,
}

impl<F: Files> VfioUser<F> {
    /// `socket` is a duplicate of one on which the version has been negotiated; whoever sends commands on
    /// another one holds `turn` until it has read the reply. Blocking.
    pub fn new(socket: UnixStream, turn: Arc<Mutex<()>>, files: F) -> Self {
        Self {
            socket,
            turn,
            files,
            id: 0,
            windows: BTreeMap::new(),
        }
    }

    /// Sends a command, with a file or without, and reads the reply.
    fn command(
        &mut self,
        command: Command,
        payload: &[u64],
        file: Option<&File>,
    ) -> Result<(), LinkError> {
        self.id = self.id.wrapping_add(1);
        let number = command as u16;
        let bytes = message(self.id, number, payload);
        let turn = self.turn.clone();
        let _turn = turn.lock().unwrap_or_else(|dead| dead.into_inner());
        match file {
            Some(file) => self.send_with(&bytes, file)?,
            None => self.socket.write_all(&bytes)?,
        }
        self.read_reply(number)
    }

    fn send_with(&mut self, bytes: &[u8], file: &File) -> Result<(), LinkError> {
        let sent = self
            .socket
            .send_with_fd(bytes, file.as_raw_fd())
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(self
            .socket
            .write_all(bytes.get(sent..).unwrap_or_default())?)
    }

    fn read_reply(&mut self, command: u16) -> Result<(), LinkError> {
        let mut header = [0; HEADER];
        self.exactly(&mut header)?;
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, error @ ..] = header;
        let of_ours =
            u16::from_ne_bytes([i0, i1]) == self.id && u16::from_ne_bytes([c0, c1]) == command;
        let size = u32::from_ne_bytes([s0, s1, s2, s3]) as usize;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        if !of_ours || flags & TYPE_MASK != REPLY || !(HEADER..=MOST).contains(&size) {
            return Err(LinkError::Protocol("what is no reply to a DMA command"));
        }
        let mut rest = vec![0; size - HEADER];
        self.exactly(&mut rest)?;
        if flags & ERROR != 0 {
            return Err(LinkError::Refused(u32::from_ne_bytes(error).into()));
        }
        Ok(())
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), LinkError> {
        let read = self.socket.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LinkError::Closed,
            _ => LinkError::Io(error),
        })
    }

    fn map(&mut self, loan: &Loan) -> Result<(), LinkError> {
        let place = self.files.place(loan.address, loan.bytes);
        let place = place.ok_or(LinkError::NoFile(loan.address.0))?;
        let flags = match loan.wanted {
            Wanted::Read => DmaMapFlags::READ,
            Wanted::Write => DmaMapFlags::WRITE,
            Wanted::ReadWrite => DmaMapFlags::READ_WRITE,
        };
        // Sizes and flags are two 32-bit numbers.
        let payload = [two(32, flags.bits()), place.offset, loan.iova, loan.bytes];
        self.command(Command::DmaMap, &payload, Some(&place.file))?;
        self.windows.insert(loan.iova, loan.bytes);
        Ok(())
    }

    /// Servers unmap exactly what was mapped, so every window that overlaps goes whole.
    fn unmap(&mut self, range: &IovaRange) -> Result<(), LinkError> {
        let last = range.iova.saturating_add(range.bytes - 1);
        let overlaps = |(&first, &bytes): (&u64, &u64)| {
            (first.saturating_add(bytes - 1) >= range.iova).then_some((first, bytes))
        };
        let windows = self.windows.range(..=last).filter_map(overlaps);
        for (first, bytes) in windows.collect::<Vec<_>>() {
            self.command(Command::DmaUnmap, &[two(24, 0), first, bytes], None)?;
            self.windows.remove(&first);
        }
        Ok(())
    }
}

/// Two 32-bit numbers as one of 64 bits that lies in memory as they do.
fn two(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn message(id: u16, command: u16, payload: &[u64]) -> Vec<u8> {
    let size = (HEADER + 8 * payload.len()) as u32;
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&command.to_ne_bytes());
    bytes.extend_from_slice(&size.to_ne_bytes());
    // A command, no error.
    bytes.extend_from_slice(&[0; 8]);
    for word in payload {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

impl<F: Files> Link for VfioUser<F> {
    fn lend(&mut self, loan: &Loan) -> Result<(), LinkError> {
        // A server refuses windows that overlap.
        let (iova, bytes) = (loan.iova, loan.bytes);
        self.unmap(&IovaRange { iova, bytes })?;
        self.map(loan)
    }

    fn revoke(&mut self, ranges: &[IovaRange]) -> Result<(), LinkError> {
        ranges.iter().try_for_each(|range| self.unmap(range))
    }

    fn next_miss(&mut self) -> Result<Option<Miss>, LinkError> {
        Ok(None)
    }

    fn misses(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl<F> fmt::Debug for VfioUser<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VfioUser")
            .field("socket", &self.socket)
            .field("windows", &self.windows)
            .finish_non_exhaustive()
    }
}
