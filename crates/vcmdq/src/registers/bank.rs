//! The control registers: what the guest has written, and which handshakes are under way.

use super::gate::{Route, Routes};
use smmu_core::spec::register::{
    Cr0, Cr1, Cr2, Gbpa, IrqCfg0, IrqCfg2, IrqCtrl, QueueBase, StrtabBase, StrtabBaseCfg,
};
use vcmdq_sync::snapshot::Leaving;

/// One set of *_IRQ_CFG0, CFG1 and CFG2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IrqCfg {
    pub(super) address: IrqCfg0,
    pub(super) data: u32,
    pub(super) attributes: IrqCfg2,
}

/// Registers that hold what the guest has written, and nothing else. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) cr0: Cr0,
    pub(super) cr1: Cr1,
    pub(super) cr2: Cr2,
    /// Without Update.
    pub(super) gbpa: Gbpa,
    pub(super) irq_ctrl: IrqCtrl,
    pub(super) gerror_irq: IrqCfg,
    pub(super) eventq_irq: IrqCfg,
    pub(super) priq_irq: IrqCfg,
    pub(super) strtab_base: StrtabBase,
    pub(super) strtab_base_cfg: StrtabBaseCfg,
    pub(super) cmdq_base: QueueBase,
    pub(super) eventq_base: QueueBase,
    pub(super) priq_base: QueueBase,
}

impl Default for Written {
    /// Out of reset.
    fn default() -> Self {
        Self {
            cr0: Cr0::new(),
            cr1: Cr1::new(),
            cr2: Cr2::new(),
            gbpa: Gbpa::RESET,
            irq_ctrl: IrqCtrl::new(),
            gerror_irq: IrqCfg::default(),
            eventq_irq: IrqCfg::default(),
            priq_irq: IrqCfg::default(),
            strtab_base: StrtabBase::new(),
            strtab_base_cfg: StrtabBaseCfg::new(),
            cmdq_base: QueueBase::new(),
            eventq_base: QueueBase::new(),
            priq_base: QueueBase::new(),
        }
    }
}

/// The registers, and the handshakes that are under way.
#[derive(Debug, Default)]
pub(super) struct Bank {
    pub(super) written: Written,
    /// CR0ACK.SMMUEN.
    pub(super) smmuen_ack: bool,
    /// CR0ACK.ATSCHK.
    pub(super) atschk_ack: bool,
    /// An access may still go on by what SMMUEN or GBPA said before.
    pub(super) traffic_busy: bool,
    /// GBPA.Update.
    pub(super) gbpa_update: bool,
    /// Routes by which an interrupt may still leave.
    pub(super) leaving: Vec<Leaving<Routes>>,
    /// The event queue is to be reset as soon as the records under way are written.
    pub(super) eventq_reset: bool,
    /// The PRI queue likewise.
    pub(super) priq_reset: bool,
}

impl Written {
    /// How interrupts leave, by IRQ_CTRL and the *_IRQ_CFG registers.
    pub(super) fn routes(&self) -> Routes {
        let of = |enabled, cfg: &IrqCfg| Route::of(enabled, cfg.address.addr_word() << 2, cfg.data);
        Routes {
            gerror: of(self.irq_ctrl.gerror_irqen(), &self.gerror_irq),
            events: of(self.irq_ctrl.eventq_irqen(), &self.eventq_irq),
            pages: of(self.irq_ctrl.priq_irqen(), &self.priq_irq),
        }
    }
}

impl Bank {
    /// IRQ_CTRLACK: a bit stays until no interrupt can leave by what it allowed.
    pub(super) fn irq_ctrlack(&self) -> IrqCtrl {
        let mut ack = self.written.irq_ctrl;
        for old in &self.leaving {
            let routes = old.value();
            let on = |route| route != Route::Off;
            ack.set_gerror_irqen(ack.gerror_irqen() || on(routes.gerror));
            ack.set_eventq_irqen(ack.eventq_irqen() || on(routes.events));
            ack.set_priq_irqen(ack.priq_irqen() || on(routes.pages));
        }
        ack
    }
}
