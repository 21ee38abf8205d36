//! The registers as plain data (law 10).
//!
//! Beside [`FrameState`](crate::snapshot::FrameState), which has the rings, their errors and the
//! events. Handshakes that were under way are no state: after a restore they begin again, and
//! end as they would have.

use super::bank::{Bank, IrqCfg, Written};
use super::control::{held_cr1, held_cr2};
use super::frame::RegisterFrame;
use super::interrupts::{Source, held_irq_ctrl};
use super::queues::{POINTER, held_base};
use super::tables::{held_gbpa, held_strtab_base, held_strtab_base_cfg};
use crate::gerror::gerror_bits;
use crate::settings::RingSettings;
use smmu_core::Gpa;
use smmu_core::spec::register::{
    Cr0, Cr1, Cr2, Gbpa, IrqCfg0, IrqCfg2, IrqCtrl, QueueBase, StrtabBase, StrtabBaseCfg,
};

/// The registers that hold what the guest has written. With the feature `serde`, in any of its
/// formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(missing_docs, reason = "the architecture's own names")]
pub struct RegisterState {
    pub cr0: u32,
    pub cr1: u32,
    pub cr2: u32,
    pub gbpa: u32,
    pub irq_ctrl: u32,
    /// GERROR, EVENTQ and PRIQ: CFG0, CFG1, CFG2.
    pub irq_cfg: [(u64, u32, u32); 3],
    pub strtab_base: u64,
    pub strtab_base_cfg: u32,
    pub cmdq_base: u64,
    /// Differs from the ring's own only while CMDQEN is 0.
    pub cmdq_cons: u32,
    pub eventq_base: u64,
    pub priq_base: u64,
    /// GERROR, the bits of messages that went nowhere.
    pub gerror: u32,
    /// GERRORN likewise.
    pub gerrorn: u32,
}

/// Saved registers could not be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterRestoreError {
    /// The frame runs.
    #[error("the frame is not paused: restore its FrameState first, then these, then resume")]
    Running,
    /// The registers and the frame were not saved together.
    #[error("{0} says otherwise in the frame's own state: restore that first, of the same moment")]
    Mismatch(&'static str),
    /// A field that no register can hold.
    #[error("{0} is not a value that the register can have under these capabilities")]
    Malformed(&'static str),
}

const MESSAGES: u32 = gerror_bits::MSI_EVENTQ_ABT_ERR
    | gerror_bits::MSI_PRIQ_ABT_ERR
    | gerror_bits::MSI_GERROR_ABT_ERR;

impl RegisterState {
    fn of(written: &Written) -> Self {
        let cfg = |cfg: &IrqCfg| {
            let (address, attributes) = (cfg.address, cfg.attributes);
            (address.into_bits(), cfg.data, attributes.into_bits())
        };
        Self {
            cr0: written.cr0.into_bits(),
            cr1: written.cr1.into_bits(),
            cr2: written.cr2.into_bits(),
            gbpa: written.gbpa.into_bits(),
            irq_ctrl: written.irq_ctrl.into_bits(),
            irq_cfg: [
                cfg(&written.gerror_irq),
                cfg(&written.eventq_irq),
                cfg(&written.priq_irq),
            ],
            strtab_base: written.strtab_base.into_bits(),
            strtab_base_cfg: written.strtab_base_cfg.into_bits(),
            cmdq_base: written.cmdq_base.into_bits(),
            cmdq_cons: 0,
            eventq_base: written.eventq_base.into_bits(),
            priq_base: written.priq_base.into_bits(),
            gerror: 0,
            gerrorn: 0,
        }
    }

    fn written(&self) -> Written {
        let cfg = |(address, data, attributes)| IrqCfg {
            address: IrqCfg0::from_bits(address),
            data,
            attributes: IrqCfg2::from_bits(attributes),
        };
        let [gerror_irq, eventq_irq, priq_irq] = self.irq_cfg.map(cfg);
        Written {
            cr0: Cr0::from_bits(self.cr0),
            cr1: Cr1::from_bits(self.cr1),
            cr2: Cr2::from_bits(self.cr2),
            gbpa: Gbpa::from_bits(self.gbpa),
            irq_ctrl: IrqCtrl::from_bits(self.irq_ctrl),
            gerror_irq,
            eventq_irq,
            priq_irq,
            strtab_base: StrtabBase::from_bits(self.strtab_base),
            strtab_base_cfg: StrtabBaseCfg::from_bits(self.strtab_base_cfg),
            cmdq_base: QueueBase::from_bits(self.cmdq_base),
            eventq_base: QueueBase::from_bits(self.eventq_base),
            priq_base: QueueBase::from_bits(self.priq_base),
        }
    }
}

impl RegisterFrame {
    /// The registers as plain data. To be called when the frame has been
    /// [paused](crate::Frame::pause) and the vCPUs have stopped, beside
    /// [`Frame::save`](crate::Frame::save).
    #[must_use]
    pub fn save(&self) -> RegisterState {
        let mut bank = self.bank();
        self.advance(&mut bank);
        RegisterState {
            cmdq_cons: self.ring.cons() & 0xF_FFFF,
            gerror: self.shared.gate.latch.gerror(),
            gerrorn: self.shared.gate.latch.gerrorn(),
            ..RegisterState::of(&bank.written)
        }
    }

    /// Puts saved registers back into a paused frame whose [`FrameState`] of the same moment has
    /// been restored. Nothing is changed if it is refused. Control path.
    ///
    /// [`FrameState`]: crate::snapshot::FrameState
    pub fn restore(&self, state: &RegisterState) -> Result<(), RegisterRestoreError> {
        self.check(state)?;
        let mut guard = self.bank();
        let bank = &mut *guard;
        *bank = Bank {
            written: state.written(),
            leaving: std::mem::take(&mut bank.leaving),
            ..Bank::default()
        };
        self.shared.gate.latch.restore(state.gerror, state.gerrorn);
        if !bank.written.cr0.cmdqen() {
            let base = bank.written.cmdq_base;
            self.ring.stage_place(RingSettings {
                base: Gpa(base.addr_bits() << 5),
                log2size: base.log2size(),
            });
            self.ring.stage_cons(state.cmdq_cons, base.log2size());
        }
        self.change_routes(bank);
        // law10c: backends and VMM go by the registers of a new frame.
        if !vcmdq_sync::broken!(break_law10c) {
            self.change_traffic(bank);
        }
        self.switch_priq(bank);
        Ok(())
    }

    /// The first register that would hold something else after a write of its value.
    fn first_not_held(&self, state: &RegisterState, written: &Written) -> Option<&'static str> {
        let idr0 = &self.caps.idr0;
        let held = self.held(written);
        let cfg = |source: Source, cfg: &IrqCfg| source.held(*cfg, idr0) == *cfg;
        let registers = [
            (held.cr0 == written.cr0, "CR0"),
            (held.cr1 == written.cr1, "CR1"),
            (held.cr2 == written.cr2, "CR2"),
            (held.gbpa == written.gbpa, "GBPA"),
            (held.irq_ctrl == written.irq_ctrl, "IRQ_CTRL"),
            (cfg(Source::Gerror, &written.gerror_irq), "GERROR_IRQ_CFG"),
            (cfg(Source::Events, &written.eventq_irq), "EVENTQ_IRQ_CFG"),
            (cfg(Source::Pages, &written.priq_irq), "PRIQ_IRQ_CFG"),
            (held.strtab_base == written.strtab_base, "STRTAB_BASE"),
            (
                held.strtab_base_cfg == written.strtab_base_cfg,
                "STRTAB_BASE_CFG",
            ),
            (held.cmdq_base == written.cmdq_base, "CMDQ_BASE"),
            (state.cmdq_cons & !POINTER == 0, "CMDQ_CONS"),
            (held.eventq_base == written.eventq_base, "EVENTQ_BASE"),
            (held.priq_base == written.priq_base, "PRIQ_BASE"),
            ((state.gerror | state.gerrorn) & !MESSAGES == 0, "GERROR"),
        ];
        let wrong = registers.into_iter().find(|(held, _)| !held);
        wrong.map(|(_, name)| name)
    }

    /// What the registers hold when these values have been written, but for the *_IRQ_CFG ones.
    fn held(&self, new: &Written) -> Written {
        let idr0 = &self.caps.idr0;
        let mut held = Written {
            cr0: Cr0::from_bits(new.cr0.into_bits() & self.cr0_mask().into_bits()),
            cr1: held_cr1(new.cr1.into_bits()),
            cr2: held_cr2(new.cr2.into_bits(), idr0),
            gbpa: held_gbpa(new.gbpa.into_bits()),
            irq_ctrl: held_irq_ctrl(new.irq_ctrl.into_bits(), idr0),
            strtab_base: held_strtab_base(new.strtab_base.into_bits()),
            strtab_base_cfg: held_strtab_base_cfg(new.strtab_base_cfg.into_bits(), idr0),
            cmdq_base: held_base(new.cmdq_base.into_bits()),
            eventq_base: held_base(new.eventq_base.into_bits()),
            ..Written::default()
        };
        if idr0.pri() {
            held.priq_base = held_base(new.priq_base.into_bits());
        }
        held
    }

    /// What a register would not hold after a write of it is malformed.
    fn check(&self, state: &RegisterState) -> Result<(), RegisterRestoreError> {
        if !self.ring.is_paused() {
            return Err(RegisterRestoreError::Running);
        }
        let written = state.written();
        if let Some(name) = self.first_not_held(state, &written) {
            return Err(RegisterRestoreError::Malformed(name));
        }
        if written.cr0.cmdqen() != self.ring.is_wanted() {
            return Err(RegisterRestoreError::Mismatch("CR0.CMDQEN"));
        }
        if written.cr0.eventqen() != self.shared.events.queue().is_enabled() {
            return Err(RegisterRestoreError::Mismatch("CR0.EVENTQEN"));
        }
        let works = written.cr0.priqen() && written.cr0.smmuen();
        let pages = self.shared.pages.as_ref();
        if pages.is_some_and(|pages| pages.queue().is_enabled() != works) {
            return Err(RegisterRestoreError::Mismatch("CR0.PRIQEN"));
        }
        Ok(())
    }
}
