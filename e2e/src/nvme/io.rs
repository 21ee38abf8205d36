//! Reads, writes and flushes (NVM Command Set Specification, 3.2).

use super::command::{Command, Outcome, Status};
use super::dma::{Dma, Hold};
use super::prp;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use vcmdq::dma::Segment;

/// Bytes of a logical block.
pub const BLOCK: u64 = 512;
/// MDTS: the most bytes of one command are 2^5 pages.
pub(super) const MDTS: u8 = 5;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

/// How many addresses are remembered for [`Disk::recent`].
const REMEMBERED: usize = 16;

/// The namespace: a file, and the addresses that its data came from and went to last.
#[derive(Debug)]
pub struct Disk {
    file: File,
    blocks: u64,
    recent: Mutex<VecDeque<u64>>,
}

impl Disk {
    /// A namespace over a file.
    ///
    /// # Errors
    ///
    /// The file's size cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        let blocks = file.metadata()?.len() / BLOCK;
        Ok(Self {
            file,
            blocks,
            recent: Mutex::default(),
        })
    }

    /// Its size.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// What lies in the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn contents(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut all = vec![0; bytes];
        self.file.read_exact_at(&mut all, offset)?;
        Ok(all)
    }

    /// Pages that commands used last and that are complete: their driver has taken them back.
    #[must_use]
    pub fn recent(&self) -> Vec<u64> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().copied().collect()
    }

    fn remember(&self, segments: &[Segment]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in segments {
            let page = segment.iova & !0xFFF;
            recent.retain(|&known| known != page);
            recent.push_back(page);
        }
        let surplus = recent.len().saturating_sub(REMEMBERED);
        recent.drain(..surplus);
    }

    /// Executes a command of an I/O queue.
    pub(super) fn execute(&self, command: &Command, dma: &mut dyn Dma) -> Outcome {
        if command.namespace() != 1 {
            return Status::InvalidNamespace.into();
        }
        let status = match command.opcode() {
            FLUSH => match self.file.sync_data() {
                Ok(()) => Status::Success,
                Err(_) => Status::InternalError,
            },
            opcode @ (READ | WRITE) => match self.transfer(command, dma, opcode == READ) {
                Ok(()) => Status::Success,
                Err(status) => status,
            },
            _ => Status::InvalidOpcode,
        };
        status.into()
    }

    /// Moves data. All of its memory is in use from before the first byte until the last, as with a
    /// device that has its transfers under way at the same time.
    fn transfer(&self, command: &Command, dma: &mut dyn Dma, read: bool) -> Result<(), Status> {
        let (lba, blocks) = (command.lba(), u64::from(command.blocks()));
        if lba.checked_add(blocks).is_none_or(|end| end > self.blocks) {
            return Err(Status::BeyondCapacity);
        }
        if command.has_sgl() {
            return Err(Status::InvalidField);
        }
        let bytes = (blocks * BLOCK) as usize;
        if bytes > 4096 << MDTS {
            return Err(Status::InvalidField);
        }
        let segments = prp::segments(dma, (command.prp1(), command.prp2()), bytes)?;
        let held = hold_all(dma, &segments, read)?;
        let mut data = vec![0; bytes];
        let offset = lba * BLOCK;
        let failed = |_: io::Error| Status::InternalError;
        if read {
            self.file.read_exact_at(&mut data, offset).map_err(failed)?;
            each(&held, &mut data, |part, bytes| part.write(bytes))?;
        } else {
            each(&held, &mut data, |part, bytes| part.read(bytes))?;
            self.file.write_all_at(&data, offset).map_err(failed)?;
        }
        drop(held);
        self.remember(&segments);
        Ok(())
    }
}

fn hold_all(
    dma: &mut dyn Dma,
    segments: &[Segment],
    write: bool,
) -> Result<Vec<Box<dyn Hold>>, Status> {
    let mut held = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut done = 0;
        while done < segment.len {
            let at = segment.iova.wrapping_add(done as u64);
            let part = dma.hold(at, segment.len - done, write);
            let part = part.map_err(|_| Status::DataTransferError)?;
            if part.is_empty() {
                return Err(Status::DataTransferError);
            }
            done += part.len().min(segment.len - done);
            held.push(part);
        }
    }
    Ok(held)
}

/// Has `work` done for each part with the bytes that are its.
fn each(
    held: &[Box<dyn Hold>],
    mut data: &mut [u8],
    mut work: impl FnMut(&dyn Hold, &mut [u8]) -> Result<(), super::dma::Fault>,
) -> Result<(), Status> {
    for part in held {
        let len = part.len().min(data.len());
        let (now, rest) = std::mem::take(&mut data).split_at_mut(len);
        work(&**part, now).map_err(|_| Status::DataTransferError)?;
        data = rest;
    }
    Ok(())
}
