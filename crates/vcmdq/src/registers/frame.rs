//! The register frame, and which register an offset is.

use super::access::Access;
use super::bank::Bank;
use super::identification;
use super::metrics::{Counters, Ignored, RegisterMetrics};
use crate::error::RingError;
use crate::frame::{Frame, FrameShared};
use crate::ring::{DoorbellMode, Ring};
use smmu_core::Capabilities;
use smmu_core::caps::CapabilitiesError;
use smmu_core::spec::register::offset;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A register frame could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterFrameError {
    /// Of what the frame advertises.
    #[error("the frame cannot advertise this: {0}")]
    Capabilities(#[from] CapabilitiesError),
    /// A doorbell that an SMMU's own page cannot have.
    #[error("an SMMU's own command queue is trapped or coalesced: its page 0 holds CR0 and more")]
    Doorbell,
    /// The command queue could not be added.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The registers of one guest-visible SMMU; see the [module](super).
///
/// It owns the SMMU's own command queue (a trapped [`Ring`]) and the frame's event queue. From its
/// making on, SMMUEN and GBPA decide about the traffic of every instance of the frame, and IRQ_CTRL
/// about its interrupts: a VMM no longer calls `Software::set_up`, nor the queues' own methods.
pub struct RegisterFrame {
    pub(super) frame: Arc<Frame>,
    pub(super) shared: Arc<FrameShared>,
    pub(super) ring: Arc<Ring>,
    pub(super) caps: Capabilities,
    bank: Mutex<Bank>,
    counters: Counters,
}

impl fmt::Debug for RegisterFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterFrame")
            .field("bank", &*self.bank())
            .field("ring", &self.ring)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

impl RegisterFrame {
    /// Bytes of the MMIO region: pages 0 and 1.
    pub const BYTES: u64 = offset::FRAME_BYTES;

    /// The registers of a frame, out of reset. Adds the frame's own command queue, so it fails if
    /// the engine has no more room for rings; and if the frame's capabilities are such as no SMMU
    /// has. A frame has one. Control path.
    pub fn new(frame: Arc<Frame>) -> Result<Self, RegisterFrameError> {
        Self::with_doorbell(frame, DoorbellMode::Trap)
    }

    /// The same; CMDQ_PROD reaches the engine as [`Coalesced`](DoorbellMode::Coalesced) has it, or
    /// by a trap. Other modes are refused: page 0 of an SMMU always traps, as it holds more than
    /// the queue.
    pub fn with_doorbell(
        frame: Arc<Frame>,
        mode: DoorbellMode,
    ) -> Result<Self, RegisterFrameError> {
        if !matches!(mode, DoorbellMode::Trap | DoorbellMode::Coalesced(_)) {
            return Err(RegisterFrameError::Doorbell);
        }
        frame.shared().settings.caps.check()?;
        let ring = frame.add_ring(mode)?;
        ring.with_consumer(|consumer| consumer.tells_traffic = true);
        let shared = frame.shared().clone();
        let registers = Self {
            caps: shared.settings.caps,
            bank: Mutex::default(),
            counters: Counters::default(),
            frame,
            shared,
            ring,
        };
        registers.reset();
        Ok(registers)
    }

    /// The frame behind the registers.
    #[must_use]
    pub fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// The SMMU's own command queue.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Accesses that had no effect.
    #[must_use]
    pub fn metrics(&self) -> RegisterMetrics {
        self.counters.read()
    }

    pub(super) fn bank(&self) -> MutexGuard<'_, Bank> {
        self.bank.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest reads `width` bytes at `at`, counted from the beginning of page 0. Whatever is
    /// no register, or no legal access, reads as zero. From any thread, never waits for a worker.
    #[must_use]
    pub fn read(&self, at: u64, width: u8) -> u64 {
        self.shared.zones.drain();
        let Some(access) = Access::new(at, width) else {
            self.counters.count(Ignored::Shape);
            return 0;
        };
        access.part(self.read_register(access.register))
    }

    /// The guest writes the low `width` bytes of `value` at `at`, counted from the beginning of page
    /// 0. Whatever is no writable register, or no legal access, is ignored. From any thread, never
    /// waits for a worker; wakes one if there is something to do.
    pub fn write(&self, at: u64, width: u8, value: u64) {
        self.shared.zones.drain();
        let written = match Access::new(at, width) {
            Some(access) => self.write_register(access, value),
            None => Err(Ignored::Shape),
        };
        if let Err(why) = written {
            tracing::trace!(at, width, value, ?why, "register write without effect");
            self.counters.count(why);
        }
    }

    fn read_register(&self, register: u64) -> u64 {
        let lock_free = match register {
            offset::CMDQ_PROD => self.ring.prod(),
            offset::CMDQ_CONS => self.ring.cons(),
            offset::EVENTQ_PROD => self.shared.events.queue().prod(),
            offset::EVENTQ_CONS => self.shared.events.queue().cons(),
            offset::PRIQ_PROD => self.shared.pages.as_ref().map_or(0, |p| p.queue().prod()),
            offset::PRIQ_CONS => self.shared.pages.as_ref().map_or(0, |p| p.queue().cons()),
            offset::GERROR => self.gerror(),
            offset::GERRORN => self.gerrorn(),
            _ => match identification::read(register, &self.caps) {
                Some(value) => value,
                None => return self.read_bank(register),
            },
        };
        lock_free.into()
    }

    /// Bits that are RES0 are never stored, so they need no mask here.
    fn read_bank(&self, register: u64) -> u64 {
        let mut bank = self.bank();
        self.advance(&mut bank);
        let written = &bank.written;
        match register {
            offset::CR0 => written.cr0.into_bits().into(),
            offset::CR0ACK => self.cr0ack(&bank).into_bits().into(),
            offset::CR1 => written.cr1.into_bits().into(),
            offset::CR2 => written.cr2.into_bits().into(),
            offset::GBPA => written
                .gbpa
                .with_update(bank.gbpa_update)
                .into_bits()
                .into(),
            offset::IRQ_CTRL => written.irq_ctrl.into_bits().into(),
            offset::IRQ_CTRLACK => bank.irq_ctrlack().into_bits().into(),
            offset::STRTAB_BASE => written.strtab_base.into_bits(),
            offset::STRTAB_BASE_CFG => written.strtab_base_cfg.into_bits().into(),
            offset::CMDQ_BASE => written.cmdq_base.into_bits(),
            offset::EVENTQ_BASE => written.eventq_base.into_bits(),
            offset::PRIQ_BASE => written.priq_base.into_bits(),
            _ => Self::read_irq_cfg(&bank, register),
        }
    }

    fn write_register(&self, access: Access, value: u64) -> Result<(), Ignored> {
        match access.register {
            offset::CMDQ_PROD => self.write_cmdq_prod(value as u32),
            offset::EVENTQ_CONS => self.write_eventq_cons(value as u32),
            offset::PRIQ_CONS => return self.write_priq_cons(value as u32),
            offset::GERRORN => self.acknowledge(value as u32),
            _ => return self.write_bank(access, value),
        }
        Ok(())
    }

    fn write_bank(&self, access: Access, value: u64) -> Result<(), Ignored> {
        let mut guard = self.bank();
        let bank = &mut *guard;
        self.advance(bank);
        match access.register {
            offset::CR0 => self.write_cr0(bank, value as u32),
            offset::CR1 => self.write_cr1(bank, value as u32),
            offset::CR2 => self.write_cr2(bank, value as u32),
            offset::GBPA => self.write_gbpa(bank, value as u32),
            offset::IRQ_CTRL => self.write_irq_ctrl(bank, value as u32),
            offset::STRTAB_BASE => self.write_strtab_base(bank, access, value),
            offset::STRTAB_BASE_CFG => self.write_strtab_base_cfg(bank, value as u32),
            offset::CMDQ_BASE => self.write_cmdq_base(bank, access, value),
            offset::CMDQ_CONS => self.write_cmdq_cons(bank, value as u32),
            offset::EVENTQ_BASE => self.write_eventq_base(bank, access, value),
            offset::EVENTQ_PROD => self.write_eventq_prod(bank, value as u32),
            offset::PRIQ_BASE | offset::PRIQ_PROD => self.write_priq(bank, access, value),
            _ => self.write_irq_cfg(bank, access, value),
        }
    }
}
