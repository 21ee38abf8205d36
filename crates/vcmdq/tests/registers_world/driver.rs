//! The guest's driver.

use super::Machine;
use smmu_core::Gpa;
use smmu_core::command::{Cfgi, Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::offset;
use std::time::{Duration, Instant};

/// Where the driver has put things.
pub(crate) const RING: u64 = 0x1_0000;
pub(crate) const EVENTS: u64 = 0x1_8000;
pub(crate) const GERROR_WORD: u64 = 0x1_C000;
pub(crate) const EVENT_WORD: u64 = 0x1_C004;
pub(crate) const CMDQ_LOG2: u8 = 7;
pub(crate) const EVENTQ_LOG2: u8 = 6;

pub(crate) const SMMUEN: u32 = 1;
pub(crate) const EVENTQEN: u32 = 1 << 2;
pub(crate) const CMDQEN: u32 = 1 << 3;
const GERROR_IRQEN: u32 = 1;
const EVENTQ_IRQEN: u32 = 1 << 2;
const GBPA_UPDATE: u32 = 1 << 31;
const GBPA_ABORT: u32 = 1 << 20;
/// How long a register is looked at until it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The guest has waited for too long, for what this says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) &'static str);

pub(crate) struct Driver<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) prod: u32,
    events: u32,
}

impl<'m> Driver<'m> {
    pub(crate) fn new(machine: &'m Machine) -> Self {
        Self {
            machine,
            prod: 0,
            events: 0,
        }
    }

    fn poll(
        &self,
        what: &'static str,
        mut done: impl FnMut(&Machine) -> bool,
    ) -> Result<(), Timeout> {
        let start = Instant::now();
        while !done(self.machine) {
            if start.elapsed() > PATIENCE {
                return Err(Timeout(what));
            }
            self.machine.pump();
        }
        Ok(())
    }

    /// Writes a control register and waits until its acknowledge register shows the same word.
    fn sync(&self, register: u64, ack: u64, value: u32) -> Result<(), Timeout> {
        self.machine.w32(register, value);
        self.poll("an acknowledge register", |m| m.r32(ack) == value)
    }

    pub(crate) fn cr0(&self, value: u32) -> Result<(), Timeout> {
        self.sync(offset::CR0, offset::CR0ACK, value)
    }

    pub(crate) fn gbpa(&self, value: u32) -> Result<(), Timeout> {
        let ready = |m: &Machine| m.r32(offset::GBPA) & GBPA_UPDATE == 0;
        self.poll("GBPA before", ready)?;
        self.machine.w32(offset::GBPA, value | GBPA_UPDATE);
        self.poll("GBPA", ready)
    }

    /// From whatever state to translation, with the stream table at zero.
    pub(crate) fn boot(&mut self) -> Result<(), Timeout> {
        let m = self.machine;
        if m.r32(offset::CR0) & SMMUEN != 0 {
            self.gbpa(GBPA_ABORT)?;
        }
        self.cr0(0)?;
        // Write-back, inner shareable, for tables and queues.
        m.w32(offset::CR1, 0xD75);
        m.w32(offset::CR2, 0x6);
        m.w64(offset::STRTAB_BASE, 1 << 62);
        m.w32(offset::STRTAB_BASE_CFG, 4);
        m.w64(offset::CMDQ_BASE, 1 << 62 | RING | u64::from(CMDQ_LOG2));
        m.w32(offset::CMDQ_PROD, 0);
        m.w32(offset::CMDQ_CONS, 0);
        self.prod = 0;
        self.cr0(CMDQEN)?;
        self.acknowledge_leftovers();
        self.send(&[encode(&Command::Cfgi(Cfgi::All))])?;
        self.send(&[encode(&Command::Tlbi(Tlbi::NsnhAll))])?;
        m.w64(
            offset::EVENTQ_BASE,
            1 << 62 | EVENTS | u64::from(EVENTQ_LOG2),
        );
        m.w32(offset::EVENTQ_PROD, 0);
        m.w32(offset::EVENTQ_CONS, 0);
        self.events = 0;
        self.cr0(CMDQEN | EVENTQEN)?;
        self.set_up_irqs()?;
        self.cr0(CMDQEN | EVENTQEN | SMMUEN)
    }

    /// Errors of before are no news.
    fn acknowledge_leftovers(&self) {
        let gerror = self.machine.r32(offset::GERROR);
        self.machine.w32(offset::GERRORN, gerror);
    }

    fn set_up_irqs(&self) -> Result<(), Timeout> {
        let m = self.machine;
        let irq_ctrl = |value| self.sync(offset::IRQ_CTRL, offset::IRQ_CTRLACK, value);
        irq_ctrl(0)?;
        for (register, word) in [
            (offset::GERROR_IRQ_CFG0, GERROR_WORD),
            (offset::EVENTQ_IRQ_CFG0, EVENT_WORD),
        ] {
            m.w64(register, 0);
            m.w64(register, word);
            m.w32(register + 8, word as u32);
            m.w32(register + 12, 0xF);
        }
        irq_ctrl(GERROR_IRQEN | EVENTQ_IRQEN)
    }

    fn slot(&self) -> u64 {
        RING + u64::from(self.prod % (1 << CMDQ_LOG2)) * 16
    }

    pub(crate) fn put(&mut self, raw: RawCommand) {
        self.machine.guest.set(self.slot(), raw.dw0);
        self.machine.guest.set(self.slot() + 8, raw.dw1);
        self.prod = (self.prod + 1) % (2 << CMDQ_LOG2);
    }

    /// Inserts commands and a SYNC that writes into its own slot, without waiting for it. Returns
    /// where.
    pub(crate) fn publish(&mut self, commands: &[RawCommand]) -> u64 {
        for raw in commands {
            self.put(*raw);
        }
        let word = self.slot();
        let msi = Some(Msi {
            addr: Gpa(word),
            data: 0,
        });
        self.put(encode(&Command::Sync(Signal::Irq { msi })));
        self.machine.w32(offset::CMDQ_PROD, self.prod);
        word
    }

    /// The same, and waits until the word is there.
    pub(crate) fn send(&mut self, commands: &[RawCommand]) -> Result<(), Timeout> {
        let word = self.publish(commands);
        self.poll("SYNC", |m| m.guest.get(word) as u32 == 0)
    }

    /// Reads the next event, if there is one, and gives its place back.
    pub(crate) fn take_event(&mut self) -> Option<EventRecord> {
        let m = self.machine;
        if m.r32(offset::EVENTQ_PROD) & 0xF_FFFF == self.events {
            return None;
        }
        let at = EVENTS + u64::from(self.events % (1 << EVENTQ_LOG2)) * EventRecord::BYTES;
        let record = EventRecord([0, 8, 16, 24].map(|n| m.guest.get(at + n)));
        self.events = (self.events + 1) % (2 << EVENTQ_LOG2);
        let ovflg = m.r32(offset::EVENTQ_PROD) & 1 << 31;
        m.w32(offset::EVENTQ_CONS, self.events | ovflg);
        Some(record)
    }
}
