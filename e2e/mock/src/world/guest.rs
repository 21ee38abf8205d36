//! A driver for the frame's registers.

use anyhow::{Result, ensure};
use smmu_core::command::{Cfgi, Command};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::offset;
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use vcmdq::registers::RegisterFrame;
use vcmdq::testing::{GuestQueue, HeapMemory, QueueSettings};

const TABLE: u64 = 0x1_0000;
const LOG2STREAMS: u64 = 6;
const EVENTS: u64 = 0x2_0000;
const LOG2EVENTS: u64 = 7;
const RING: u64 = 0x10_0000;
const LOG2RING: u8 = 8;

const SMMUEN: u64 = 1;
const EVENTQEN: u64 = 4;
const CMDQEN: u64 = 8;
/// EVENTQ_PROD.OVFLG.
const OVFLG: u64 = 1 << 31;

/// Under emulation, with the machine's processors busy elsewhere, everything takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something.
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !there() {
        ensure!(begin.elapsed() < PATIENCE, "in vain for {what}");
        thread::yield_now();
    }
    Ok(())
}

/// The guest: its memory, its SMMU.
pub(crate) struct Guest {
    memory: Arc<HeapMemory>,
    registers: RegisterFrame,
    queue: GuestQueue,
}

impl Guest {
    /// Its SMMU is off.
    pub(crate) fn new(memory: Arc<HeapMemory>, registers: RegisterFrame) -> Result<Self> {
        let mut settings = QueueSettings::new(Gpa(RING), LOG2RING);
        settings.patience = PATIENCE;
        let queue = GuestQueue::new(settings, memory.clone(), registers.ring().clone())?;
        Ok(Self {
            memory,
            registers,
            queue,
        })
    }

    /// Switches it on.
    pub(crate) fn start(&self) -> Result<()> {
        let write = |at, value| self.registers.write(at, 8, value);
        write(offset::STRTAB_BASE, 1 << 62 | TABLE);
        self.registers
            .write(offset::STRTAB_BASE_CFG, 4, LOG2STREAMS);
        write(offset::CMDQ_BASE, 1 << 62 | RING | u64::from(LOG2RING));
        write(offset::EVENTQ_BASE, 1 << 62 | EVENTS | LOG2EVENTS);
        self.cr0(CMDQEN)?;
        self.cr0(CMDQEN | EVENTQEN)?;
        self.cr0(CMDQEN | EVENTQEN | SMMUEN)
    }

    fn cr0(&self, value: u64) -> Result<()> {
        self.registers.write(offset::CR0, 4, value);
        until("CR0ACK", || self.registers.read(offset::CR0ACK, 4) == value)
    }

    /// Writes the first words of an STE, says so, and waits until that is done.
    pub(crate) fn configure(&self, stream: u32, words: [u64; 2]) -> Result<()> {
        for (at, word) in (TABLE + u64::from(stream) * 64..).step_by(8).zip(words) {
            store_u64(&*self.memory, Gpa(at), word, Ordering::Relaxed)?;
        }
        let stream = StreamId(stream);
        self.submit(&[encode(&Command::Cfgi(Cfgi::Ste { stream, leaf: true }))])
    }

    /// Sends commands and waits for a SYNC behind them. No error has been told of.
    pub(crate) fn submit(&self, commands: &[RawCommand]) -> Result<()> {
        self.queue.submit(commands)?;
        let gerror = self.registers.read(offset::GERROR, 4);
        ensure!(gerror == 0, "GERROR {gerror:#x}");
        Ok(())
    }

    /// Events of streams so far, and whether some were lost.
    pub(crate) fn events(&self) -> Result<(Vec<EventRecord>, bool)> {
        let prod = self.registers.read(offset::EVENTQ_PROD, 4);
        let word = |at: u64| load_u64(&*self.memory, Gpa(at), Ordering::Relaxed);
        let mut all = Vec::new();
        for nth in 0..prod & 0xFF {
            let at = EVENTS + nth % (1 << LOG2EVENTS) * EventRecord::BYTES;
            all.push(EventRecord([
                word(at)?,
                word(at + 8)?,
                word(at + 16)?,
                word(at + 24)?,
            ]));
        }
        Ok((all, prod & OVFLG != 0))
    }
}
