//! What a guest's SMMU driver does with the registers: a small part of Linux's `arm-smmu-v3`.

use crate::guest::tables::{LOG2_STREAMS, Ram, STREAM_TABLE};
use smmu_core::command::{Cfgi, Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::{Cr0, offset};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::registers::RegisterFrame;
use vm_memory::{Bytes, GuestAddress};

const COMMANDS: u64 = 0x2_0000;
const EVENTS: u64 = 0x3_0000;
/// log2 of the entries of either queue.
const LOG2: u64 = 6;

/// The driver and its two queues.
pub(crate) struct Driver {
    ram: Ram,
    registers: Arc<RegisterFrame>,
    /// Index and wrap bit.
    prod: u32,
}

impl Driver {
    /// From reset to translation, with the stream table of [`tables`](crate::guest::tables).
    pub(crate) fn boot(ram: &Ram, registers: &Arc<RegisterFrame>) -> Result<Self, Box<dyn Error>> {
        let mut driver = Self {
            ram: ram.clone(),
            registers: registers.clone(),
            prod: 0,
        };
        registers.write(offset::STRTAB_BASE, 8, STREAM_TABLE);
        registers.write(offset::STRTAB_BASE_CFG, 4, LOG2_STREAMS.into());
        registers.write(offset::CMDQ_BASE, 8, COMMANDS | LOG2);
        registers.write(offset::EVENTQ_BASE, 8, EVENTS | LOG2);
        let queues = Cr0::new().with_cmdqen(true).with_eventqen(true);
        driver.control(queues);
        driver.publish(&[Command::Cfgi(Cfgi::All), Command::Tlbi(Tlbi::NsnhAll)])?;
        driver.wait();
        driver.control(queues.with_smmuen(true));
        Ok(driver)
    }

    fn control(&self, value: Cr0) {
        let bits = value.into_bits().into();
        self.registers.write(offset::CR0, 4, bits);
        while self.registers.read(offset::CR0ACK, 4) != bits {
            std::thread::yield_now();
        }
    }

    /// Puts commands and a SYNC into the queue and rings the doorbell.
    pub(crate) fn publish(&mut self, commands: &[Command]) -> Result<(), Box<dyn Error>> {
        for command in commands.iter().chain([&Command::Sync(Signal::None)]) {
            let raw = encode(command);
            let slot = COMMANDS + 16 * u64::from(self.prod % (1 << LOG2));
            for (at, word) in [(slot, raw.dw0), (slot + 8, raw.dw1)] {
                let at = GuestAddress(at);
                self.ram.store(word.to_le(), at, Ordering::Relaxed)?;
            }
            self.prod = (self.prod + 1) % (2 << LOG2);
        }
        // The VMM's exit handler: publishes PROD, wakes a worker if it sleeps, and returns.
        self.registers.write(offset::CMDQ_PROD, 4, self.prod.into());
        Ok(())
    }

    /// Whether everything that was published is done.
    pub(crate) fn is_done(&self) -> bool {
        self.registers.read(offset::CMDQ_CONS, 4) == u64::from(self.prod)
    }

    /// Waits until it is.
    pub(crate) fn wait(&self) {
        while !self.is_done() {
            std::thread::yield_now();
        }
    }

    /// Takes the oldest event out of the queue.
    pub(crate) fn next_event(&self) -> Result<Option<EventRecord>, Box<dyn Error>> {
        // Bit 31 of PROD says that events were lost, until CONS says the same.
        let prod = self.registers.read(offset::EVENTQ_PROD, 4);
        let cons = self.registers.read(offset::EVENTQ_CONS, 4) % (2 << LOG2);
        if prod % (2 << LOG2) == cons {
            return Ok(None);
        }
        let mut record = [0; EventRecord::BYTES as usize];
        let at = EVENTS + EventRecord::BYTES * (cons % (1 << LOG2));
        self.ram.read_slice(&mut record, GuestAddress(at))?;
        let next = (cons + 1) % (2 << LOG2);
        let lost = prod & 1 << 31;
        self.registers.write(offset::EVENTQ_CONS, 4, next | lost);
        Ok(Some(EventRecord::from_le_bytes(record)))
    }
}
