//! A driver for an NVMe controller that knows nothing of how its addresses are translated: one admin
//! queue, one I/O queue, no interrupts (Base Specification 1.4).

use crate::memory::{Memory, PAGE};
use crate::vfio::Device;
use anyhow::{Context, Result, bail, ensure};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pages at the beginning of memory that the driver needs.
pub(crate) const PAGES: usize = 6 + ENTRIES as usize;
/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;
/// Bytes of the largest transfer.
pub(crate) const LARGEST: usize = 128 << 10;

/// Entries of each queue.
const ENTRIES: u32 = 16;
/// Pages: queues of the admin queue, of the I/O queue, what the controller says of itself; from the last
/// on a list of pages for each command.
const ADMIN: [usize; 2] = [0, 1];
const IO: [usize; 2] = [2, 3];
const IDENTITY: usize = 4;
const LISTS: usize = 6;

const INTERRUPT_MASK_SET: u64 = 0x0C;
const CONFIGURATION: u64 = 0x14;
const STATUS: u64 = 0x1C;
/// In the status: nothing works until the controller is reset.
const FATAL: u32 = 2;
const ADMIN_SIZES: u64 = 0x24;
const ADMIN_SUBMISSION: u64 = 0x28;
const ADMIN_COMPLETION: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
/// Entries of 64 and 16 bytes, and on.
const ENABLED: u32 = 6 << 16 | 4 << 20 | 1;

const CREATE_SUBMISSION: u32 = 0x01;
const CREATE_COMPLETION: u32 = 0x05;
const IDENTIFY: u32 = 0x06;

/// Status of a command that could not reach memory.
pub(crate) const DATA_TRANSFER_ERROR: u16 = 0x04;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the disk.
    Write = 0x01,
    /// From it.
    Read = 0x02,
}

/// A submission queue and its completion queue.
#[derive(Debug)]
struct Queue {
    number: u64,
    pages: [usize; 2],
    tail: u32,
    head: u32,
    phase: bool,
}

/// A controller that is running.
#[derive(Debug)]
pub(crate) struct Nvme<'a> {
    device: &'a Device,
    memory: &'a Memory,
    /// Where the device sees the beginning of memory.
    at: u64,
    admin: Queue,
    io: Queue,
    next: u16,
}

impl Queue {
    fn new(number: u64, pages: [usize; 2]) -> Self {
        Self {
            number,
            pages,
            tail: 0,
            head: 0,
            phase: true,
        }
    }

    fn submit(&mut self, device: &Device, memory: &Memory, command: &[u32; 16]) -> Result<()> {
        let bytes: Vec<u8> = command.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.write(self.pages[0] * PAGE + self.tail as usize * 64, &bytes)?;
        self.tail = (self.tail + 1) % ENTRIES;
        device.write(DOORBELLS + 8 * self.number, self.tail)
    }

    /// Waits for the next completion: its command and its status.
    fn wait(&mut self, device: &Device, memory: &Memory) -> Result<(u16, u16)> {
        let at = self.pages[1] * PAGE + self.head as usize * 16 + 12;
        let begin = Instant::now();
        let word = loop {
            let word = u32::from_le(memory.half(at)?.load(Ordering::Acquire));
            if (word & 1 << 16 != 0) == self.phase {
                break word;
            }
            ensure!(begin.elapsed() < PATIENCE, "a command is not completed");
            std::thread::yield_now();
        };
        self.head = (self.head + 1) % ENTRIES;
        self.phase ^= self.head == 0;
        device.write(DOORBELLS + 8 * self.number + 4, self.head)?;
        Ok((word as u16, (word >> 17) as u16))
    }
}

impl<'a> Nvme<'a> {
    /// Resets the controller and makes its queues in the first [`PAGES`] pages of `memory`, which the
    /// device sees at `at`.
    pub(crate) fn start(device: &'a Device, memory: &'a Memory, at: u64) -> Result<Self> {
        let mut nvme = Self {
            device,
            memory,
            at,
            admin: Queue::new(0, ADMIN),
            io: Queue::new(1, IO),
            next: 0,
        };
        device.write(CONFIGURATION, 0)?;
        nvme.wait_for_ready(0)?;
        // What an earlier user left would be taken for completions.
        memory.write(0, &vec![0; PAGES * PAGE])?;
        device.write(INTERRUPT_MASK_SET, u32::MAX)?;
        device.write(ADMIN_SIZES, (ENTRIES - 1) << 16 | (ENTRIES - 1))?;
        for (register, page) in [(ADMIN_SUBMISSION, ADMIN[0]), (ADMIN_COMPLETION, ADMIN[1])] {
            let address = nvme.page(page);
            device.write(register, address as u32)?;
            device.write(register + 4, (address >> 32) as u32)?;
        }
        device.write(CONFIGURATION, ENABLED)?;
        nvme.wait_for_ready(1)?;
        nvme.make_io_queue().context("an I/O queue")?;
        Ok(nvme)
    }

    fn wait_for_ready(&self, ready: u32) -> Result<()> {
        let begin = Instant::now();
        while self.device.read(STATUS)? & 1 != ready {
            ensure!(
                begin.elapsed() < PATIENCE,
                "CSTS.RDY does not become {ready}"
            );
        }
        Ok(())
    }

    /// Waits until the controller says that it has lost its way to memory.
    pub(crate) fn is_cut_off(&self) -> Result<()> {
        let begin = Instant::now();
        while self.device.read(STATUS)? & FATAL == 0 {
            ensure!(begin.elapsed() < PATIENCE, "CSTS.CFS is not set");
            std::thread::yield_now();
        }
        Ok(())
    }

    fn make_io_queue(&mut self) -> Result<()> {
        let size = (ENTRIES - 1) << 16 | 1;
        // Contiguous, without interrupts.
        self.execute(CREATE_COMPLETION, self.page(IO[1]), [size, 1])?;
        // Contiguous; its completions go to queue 1.
        self.execute(CREATE_SUBMISSION, self.page(IO[0]), [size, 1 << 16 | 1])
    }

    /// The controller's model.
    pub(crate) fn model(&mut self) -> Result<String> {
        self.execute(IDENTIFY, self.page(IDENTITY), [1, 0])?;
        let name = self.memory.read(IDENTITY * PAGE + 24, 40)?;
        Ok(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// Where the device sees a page of memory.
    fn page(&self, page: usize) -> u64 {
        self.at + (page * PAGE) as u64
    }

    /// An admin command, to its end.
    fn execute(&mut self, opcode: u32, prp: u64, words: [u32; 2]) -> Result<()> {
        let mut command = [0; 16];
        command[0] = opcode;
        command[6] = prp as u32;
        command[7] = (prp >> 32) as u32;
        command[10..12].copy_from_slice(&words);
        self.admin.submit(self.device, self.memory, &command)?;
        match self.admin.wait(self.device, self.memory)? {
            (_, 0) => Ok(()),
            (_, status) => bail!("command {opcode:#x} has failed: {status:#x}"),
        }
    }

    /// Begins a transfer between blocks from `block` on and `bytes` bytes of whole pages that the device
    /// sees at `at`.
    pub(crate) fn begin(&mut self, way: Way, block: u64, at: u64, bytes: usize) -> Result<()> {
        let pages = bytes.div_ceil(PAGE);
        let address = |page: usize| at + (page * PAGE) as u64;
        let id = self.next;
        self.next = (self.next + 1) % ENTRIES as u16;
        let second = match pages {
            0 | 1 => 0,
            2 => address(1),
            _ => {
                let list: Vec<u8> = (1..pages)
                    .flat_map(|page| address(page).to_le_bytes())
                    .collect();
                let page = LISTS + usize::from(id);
                self.memory.write(page * PAGE, &list)?;
                self.page(page)
            }
        };
        let mut command = [0; 16];
        command[0] = way as u32 | u32::from(id) << 16;
        command[1] = 1;
        for (index, value) in [(6, at), (8, second), (10, block)] {
            command[index] = value as u32;
            command[index + 1] = (value >> 32) as u32;
        }
        command[12] = (bytes / BLOCK) as u32 - 1;
        self.io.submit(self.device, self.memory, &command)
    }

    /// Waits for a transfer, of all that were begun: its status.
    pub(crate) fn end(&mut self) -> Result<u16> {
        let (_, status) = self.io.wait(self.device, self.memory)?;
        Ok(status)
    }

    /// One transfer, to its end.
    pub(crate) fn transfer(&mut self, way: Way, block: u64, at: u64, bytes: usize) -> Result<()> {
        self.begin(way, block, at, bytes)?;
        match self.end()? {
            0 => Ok(()),
            status => bail!("{way:?} at {at:#x} has failed: {status:#x}"),
        }
    }
}
