//! What QEMU makes of a world.

use crate::layout::{
    COMMANDS, COMMANDS_LOG2, EVENTS, EVENTS_LOG2, PAGES, RAM, READER, SMMU, WRITER, is_ram,
};
use crate::machine::{Machine, disabled, enabled};
use crate::ours;
use crate::qtest::Script;
use crate::slate::Slate;
use crate::world::Request;
use anyhow::{Context, Result, ensure};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::offset;
use vcmdq_e2e::vehicle::Ram;

/// Where an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// Where it was expected.
    There,
    /// It was done, but not there.
    Elsewhere,
    /// Nowhere.
    Failed,
    /// Nobody can tell: a read that was not expected to reach RAM.
    Unknown,
}

/// What became of an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went.
    pub landed: Landed,
    /// What was recorded.
    pub records: Vec<EventRecord>,
}

/// Registers of `iommu-testdev`, which writes four bytes and compares what lies at another address.
mod writer {
    pub(super) const TRIGGER: u64 = 0x00;
    pub(super) const ADDRESS: u64 = 0x04;
    pub(super) const BYTES: u64 = 0x0C;
    pub(super) const RESULT: u64 = 0x10;
    pub(super) const ARM: u64 = 0x14;
    pub(super) const COMPARED: u64 = 0x1C;
    pub(super) const NOT_WRITTEN: u64 = 0xDEAD_0002;
}

/// Registers of `edu`, which copies between memory and a buffer of its own.
mod reader {
    use std::time::Duration;

    pub(super) const SOURCE: u64 = 0x80;
    pub(super) const TARGET: u64 = 0x88;
    pub(super) const BYTES: u64 = 0x90;
    pub(super) const COMMAND: u64 = 0x98;
    pub(super) const BUFFER: u64 = 0x4_0000;
    pub(super) const INTO_BUFFER: u32 = 1;
    pub(super) const FROM_BUFFER: u32 = 3;
    /// A copy takes a tenth of a second of its clock.
    pub(super) const TAKES: Duration = Duration::from_millis(101);
}

/// What reads fetch is put here, four bytes each.
const FETCHED: u64 = RAM + 0x30_0000;

/// Index and wrap bit of a queue.
fn index_mask(log2: u64) -> u64 {
    (2 << log2) - 1
}

/// Drives a machine.
#[derive(Debug)]
pub struct Driver {
    machine: Machine,
    command: u64,
    event: u64,
    slate: Slate,
}

impl Driver {
    /// Of a machine that has just been started with this RAM.
    ///
    /// # Errors
    ///
    /// Its RAM cannot be written.
    pub fn new(machine: Machine, ram: Ram) -> Result<Self> {
        let mut driver = Self {
            machine,
            command: 0,
            event: 0,
            slate: Slate::new(ram),
        };
        // Whatever the index, two commands from an even one on forget everything.
        let forget = [Command::Cfgi(Cfgi::All), Command::Tlbi(Tlbi::NsnhAll)];
        for slot in 0..1 << COMMANDS_LOG2 {
            let raw = encode(&forget[slot as usize % 2]);
            for (n, word) in (0..).zip([raw.dw0, raw.dw1]) {
                driver.slate.write(COMMANDS + 16 * slot + 8 * n, word)?;
            }
        }
        let mut script = Script::default();
        script.store(WRITER + writer::BYTES, 4);
        driver.machine.qtest.perform(&script)?;
        Ok(driver)
    }

    /// Its memory.
    pub fn slate(&mut self) -> &mut Slate {
        &mut self.slate
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes accesses one after the other; what the engine says about each is where one looks for it.
    ///
    /// # Errors
    ///
    /// QEMU has ended.
    pub fn perform(
        &mut self,
        accesses: &[(Request, ours::Outcome)],
        warm: bool,
    ) -> Result<Vec<Outcome>> {
        let mut script = Script::default();
        for (n, (request, expected)) in accesses.iter().enumerate() {
            if n == 0 || !warm {
                self.forget(&mut script);
            }
            let goal = expected.reached.filter(|&at| is_ram(at));
            if request.read {
                read(&mut script, request.address, goal, n);
            } else {
                write(&mut script, request.address, goal);
            }
            script.load(SMMU + offset::EVENTQ_PROD);
        }
        let values = self.machine.qtest.perform(&script)?;
        let outcomes = self.outcomes(accesses, &values)?;
        self.clean(accesses)?;
        let mut script = Script::default();
        script.store(SMMU + offset::EVENTQ_CONS, self.event as u32);
        self.machine.qtest.perform(&script)?;
        Ok(outcomes)
    }

    fn forget(&mut self, script: &mut Script) {
        self.command = (self.command + 2) & index_mask(COMMANDS_LOG2);
        script.store(SMMU + offset::CMDQ_PROD, self.command as u32);
    }

    fn outcomes(
        &mut self,
        accesses: &[(Request, ours::Outcome)],
        values: &[u64],
    ) -> Result<Vec<Outcome>> {
        let mut values = values.iter().copied();
        let mut all = Vec::with_capacity(accesses.len());
        for (n, (request, expected)) in accesses.iter().enumerate() {
            let goal = expected.reached.filter(|&at| is_ram(at));
            let landed = if request.read {
                match goal {
                    None => Landed::Unknown,
                    Some(_) if self.fetched(n)? == tag(n) => Landed::There,
                    Some(_) => Landed::Elsewhere,
                }
            } else {
                let _nothing = values.next();
                match values.next().context("no result")? {
                    0 if goal.is_some() => Landed::There,
                    writer::NOT_WRITTEN => Landed::Failed,
                    _ => Landed::Elsewhere,
                }
            };
            let end = values.next().context("no EVENTQ_PROD")? & index_mask(EVENTS_LOG2);
            let mut records = Vec::new();
            while self.event != end {
                records.push(self.record(self.event)?);
                self.event = (self.event + 1) & index_mask(EVENTS_LOG2);
                ensure!(records.len() < 64, "EVENTQ_PROD is {end:#x}");
            }
            all.push(Outcome { landed, records });
        }
        Ok(all)
    }

    fn record(&self, index: u64) -> Result<EventRecord> {
        let at = EVENTS + EventRecord::BYTES * (index & (index_mask(EVENTS_LOG2) >> 1));
        let word = |n: u64| self.slate.read(at + 8 * n);
        Ok(EventRecord([word(0)?, word(1)?, word(2)?, word(3)?]))
    }

    fn fetched(&self, n: usize) -> Result<u32> {
        Ok(self.slate.read(FETCHED + 8 * n as u64)? as u32)
    }

    /// Removes what accesses have left, which a wrong pointer of a later world could find.
    fn clean(&self, accesses: &[(Request, ours::Outcome)]) -> Result<()> {
        let goals = accesses.iter().filter_map(|(_, expected)| expected.reached);
        for goal in goals.filter(|&at| is_ram(at)) {
            self.slate.write(goal & !7, 0)?;
        }
        for n in 0..accesses.len() {
            self.slate.write(FETCHED + 8 * n as u64, 0)?;
        }
        Ok(())
    }
}

/// What lies where a read should fetch it.
fn tag(n: usize) -> u32 {
    0xA500_0000 | n as u32
}

fn write(script: &mut Script, address: u64, goal: Option<u64>) {
    if let Some(goal) = goal {
        script.store(goal, 0);
    }
    let compared = goal.unwrap_or(PAGES);
    script.store(WRITER + writer::ADDRESS, address as u32);
    script.store(WRITER + writer::ADDRESS + 4, (address >> 32) as u32);
    script.store(WRITER + writer::COMPARED, compared as u32);
    script.store(WRITER + writer::COMPARED + 4, (compared >> 32) as u32);
    script.store(WRITER + writer::ARM, 1);
    script.load(WRITER + writer::TRIGGER);
    script.load(WRITER + writer::RESULT);
}

/// Reads into the buffer; with the SMMU switched off for as long, copies the buffer out.
fn read(script: &mut Script, address: u64, goal: Option<u64>, n: usize) {
    if let Some(goal) = goal {
        script.store(goal, tag(n));
    }
    copy(script, address, reader::BUFFER, reader::INTO_BUFFER);
    if goal.is_some() {
        script.store(SMMU + offset::CR0, disabled());
        copy(
            script,
            reader::BUFFER,
            FETCHED + 8 * n as u64,
            reader::FROM_BUFFER,
        );
        script.store(SMMU + offset::CR0, enabled());
    }
}

fn copy(script: &mut Script, source: u64, target: u64, command: u32) {
    script.store_wide(READER + reader::SOURCE, source);
    script.store_wide(READER + reader::TARGET, target);
    script.store_wide(READER + reader::BYTES, 4);
    script.store(READER + reader::COMMAND, command);
    script.pass(reader::TAKES);
}
