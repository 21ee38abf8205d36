//! A guest's driver of its SMMU, as far as the checks need one: what Linux's does with registers, queues and the
//! stream table.

use crate::memory::{Memory, PAGE};
use anyhow::{Result, ensure};
use smmu_core::StreamId;
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::{Cr0, offset};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vcmdq::registers::RegisterFrame;

/// Pages of memory: the stream table, commands, events.
pub(crate) const PAGES: usize = 3;
/// log2 of what fits a page: streams, commands, events.
const STREAMS: u32 = 6;
const COMMANDS: u32 = 8;
const EVENTS: u32 = 7;
/// In the indices of the event queue: records had no room, and that this has been seen.
const OVERFLOW: u32 = 1 << 31;
/// How long Linux waits for a SYNC.
const PATIENCE: Duration = Duration::from_secs(20);
/// A VMID that the guest has no business to name: reserved where the SMMU has no stage 2, and ignored.
pub(crate) const PRETENDED: u16 = 0x77;

/// The driver and its memory.
pub(crate) struct Driver<'a> {
    memory: &'a Memory,
    registers: Arc<RegisterFrame>,
    /// Of the first of its pages.
    at: usize,
    prod: u32,
    cons: u32,
}

impl<'a> Driver<'a> {
    /// Brings the SMMU up, from reset to translation, with an empty stream table. The page `page` of memory and
    /// those behind it are the driver's; the SMMU sees memory at `seen`.
    pub(crate) fn boot(
        memory: &'a Memory,
        page: usize,
        seen: u64,
        registers: &Arc<RegisterFrame>,
    ) -> Result<Self> {
        let at = page * PAGE;
        memory.write(at, &vec![0; PAGES * PAGE])?;
        let mut driver = Self {
            memory,
            registers: registers.clone(),
            at,
            prod: 0,
            cons: 0,
        };
        let page = |number: usize| seen + (at + number * PAGE) as u64;
        registers.write(offset::STRTAB_BASE, 8, page(0));
        registers.write(offset::STRTAB_BASE_CFG, 4, STREAMS.into());
        registers.write(offset::CMDQ_BASE, 8, page(1) | u64::from(COMMANDS));
        registers.write(offset::EVENTQ_BASE, 8, page(2) | u64::from(EVENTS));
        let queues = Cr0::new().with_cmdqen(true).with_eventqen(true);
        driver.control(queues)?;
        driver.issue(&[Command::Cfgi(Cfgi::All), Command::Tlbi(Tlbi::NsnhAll)])?;
        driver.control(queues.with_smmuen(true))?;
        Ok(driver)
    }

    fn control(&self, value: Cr0) -> Result<()> {
        let bits = value.into_bits().into();
        self.registers.write(offset::CR0, 4, bits);
        self.until("CR0ACK", || self.registers.read(offset::CR0ACK, 4) == bits)
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !holds() {
            ensure!(begin.elapsed() < PATIENCE, "{what} does not follow");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Commands and a SYNC, to their end.
    pub(crate) fn issue(&mut self, commands: &[Command]) -> Result<()> {
        for command in commands.iter().chain([&Command::Sync(Signal::None)]) {
            self.insert(encode(command))?;
        }
        let prod = u64::from(self.prod);
        self.registers.write(offset::CMDQ_PROD, 4, prod);
        self.until("CMDQ_CONS", || {
            self.registers.read(offset::CMDQ_CONS, 4) == prod
        })?;
        let errors = self.registers.read(offset::GERROR, 4);
        ensure!(errors == 0, "GERROR {errors:#x}");
        Ok(())
    }

    /// Every TLBI pretends to a VMID.
    fn insert(&mut self, command: RawCommand) -> Result<()> {
        let tlbi = matches!(command.dw0 as u8, 0x10..=0x3F);
        let vmid = if tlbi { u64::from(PRETENDED) << 32 } else { 0 };
        let slot = self.at + PAGE + 16 * (self.prod as usize % (1 << COMMANDS));
        for (at, word) in [(slot, command.dw0 | vmid), (slot + 8, command.dw1)] {
            self.memory.word(at)?.store(word.to_le(), Ordering::Relaxed);
        }
        self.prod = (self.prod + 1) % (2 << COMMANDS);
        Ok(())
    }

    /// Has a stream be what the entry says; both say the same but for their first word, or the SMMU must not see
    /// a mixture.
    pub(crate) fn configure(&mut self, stream: StreamId, entry: [u64; 2]) -> Result<()> {
        let at = self.at + 64 * stream.0 as usize;
        let change = Command::Cfgi(Cfgi::Ste { stream, leaf: true });
        let (first, second) = (self.memory.word(at)?, self.memory.word(at + 8)?);
        if second.load(Ordering::Relaxed) != entry[1].to_le() {
            first.store(0, Ordering::Relaxed);
            self.issue(&[change])?;
            second.store(entry[1].to_le(), Ordering::Relaxed);
        }
        first.store(entry[0].to_le(), Ordering::Release);
        self.issue(&[change])
    }

    /// Takes the oldest event out of the queue.
    pub(crate) fn event(&mut self) -> Result<Option<EventRecord>> {
        let prod = self.registers.read(offset::EVENTQ_PROD, 4) as u32;
        if prod & !OVERFLOW == self.cons {
            return Ok(None);
        }
        let slot = self.at + 2 * PAGE + 32 * (self.cons as usize % (1 << EVENTS));
        let mut record = EventRecord([0; 4]);
        for (index, word) in record.0.iter_mut().enumerate() {
            let at = self.memory.word(slot + 8 * index)?;
            *word = u64::from_le(at.load(Ordering::Relaxed));
        }
        self.cons = (self.cons + 1) % (2 << EVENTS);
        // An overflow is acknowledged: what is lost is lost.
        let cons = self.cons | prod & OVERFLOW;
        self.registers.write(offset::EVENTQ_CONS, 4, cons.into());
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcmdq::{Engine, FrameSettings, Seams, Settings, StdThreads, VmMemory};

    const SEEN: u64 = 0x4000_0000;

    #[test]
    fn what_a_full_queue_has_is_told_and_nothing_else() {
        let memory = Memory::new(PAGES).expect("memory");
        let map = memory.of_guest(SEEN).expect("an address");
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).expect("a thread");
        let seams = Seams::new(Arc::new(VmMemory::new(map)));
        let frame = Arc::new(engine.add_frame(FrameSettings::default(), seams));
        let registers = Arc::new(RegisterFrame::new(frame.clone()).expect("room"));
        let mut driver = Driver::boot(&memory, 0, SEEN, &registers).expect("it boots");
        let mut told = Vec::new();
        for (from, to) in [(0, 200), (200, 203)] {
            for number in from..to {
                let record = EventRecord([0x10, 0, number, 0]);
                let _lost_if_full = frame.events().record(&record);
            }
            while let Some(record) = driver.event().expect("a record") {
                told.push(record.input_addr());
                assert!(told.len() < 200, "{told:?}");
            }
        }
        assert_eq!(told, (0..128).chain(200..203).collect::<Vec<_>>());
        engine.stop();
    }
}
