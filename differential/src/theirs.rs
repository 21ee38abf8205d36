//! What QEMU makes of a world.

use crate::layout::{
    COMMANDS, COMMANDS_LOG2, EVENTS, EVENTS_LOG2, PAGES, RAM, READER, SMMU, WRITER, is_ram,
};
use crate::machine::{Machine, disabled, enabled};
use crate::ours;
use crate::qtest::Script;
use crate::slate::Slate;
use crate::words::{list, words};
use crate::world::Request;
use anyhow::{Context, Result, ensure};
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
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

/// What lies in the command queue: whatever the index, as many commands from a multiple of their number on
/// forget everything.
const FORGET: [Command; 2] = [Command::Cfgi(Cfgi::All), Command::Tlbi(Tlbi::NsnhAll)];

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
        for index in 0..1 << COMMANDS_LOG2 {
            driver.put(index, &FORGET[index as usize % FORGET.len()])?;
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

    /// Has it execute commands.
    ///
    /// # Errors
    ///
    /// It finds one of them illegal, or has ended.
    pub fn execute(&mut self, commands: &[Command]) -> Result<()> {
        let sync = Command::Sync(Signal::None);
        let count = commands.len().next_multiple_of(FORGET.len());
        let padded = commands.iter().chain(std::iter::repeat(&sync)).take(count);
        let begin = self.command;
        for (index, command) in (begin..).zip(padded) {
            self.put(index, command)?;
        }
        self.command = (begin + count as u64) & index_mask(COMMANDS_LOG2);
        let mut script = Script::default();
        script.store(SMMU + offset::CMDQ_PROD, self.command as u32);
        script.load(SMMU + offset::CMDQ_CONS);
        let cons = self.machine.qtest.perform(&script)?;
        ensure!(
            cons == [self.command],
            "CMDQ_CONS is {}, not {:#x}, after {}",
            words(&cons),
            self.command,
            list(commands)
        );
        for index in begin..begin + count as u64 {
            self.put(index, &FORGET[index as usize % FORGET.len()])?;
        }
        Ok(())
    }

    /// Writes a command into the queue.
    fn put(&self, index: u64, command: &Command) -> Result<()> {
        let slot = index & (index_mask(COMMANDS_LOG2) >> 1);
        let raw = encode(command);
        for (n, word) in (0..).zip([raw.dw0, raw.dw1]) {
            self.slate.write(COMMANDS + 16 * slot + 8 * n, word)?;
        }
        Ok(())
    }

    /// Makes accesses one after the other; what the engine says about each is where one looks for it.
    /// Before the `nth` one everything is forgotten if `forgets` says so.
    ///
    /// # Errors
    ///
    /// QEMU has ended.
    pub fn perform(
        &mut self,
        accesses: &[(Request, ours::Outcome)],
        forgets: impl Fn(usize) -> bool,
    ) -> Result<Vec<Outcome>> {
        let mut script = Script::default();
        for (n, (request, expected)) in accesses.iter().enumerate() {
            if forgets(n) {
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
        self.command = (self.command + FORGET.len() as u64) & index_mask(COMMANDS_LOG2);
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
