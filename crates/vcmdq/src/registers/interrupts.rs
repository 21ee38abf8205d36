//! IRQ_CTRL, the *_IRQ_CFG registers, GERROR and GERRORN (IHI 0070, 6.3.17 to 6.3.22, 7.5).

use super::access::Access;
use super::bank::{Bank, IrqCfg};
use super::control::unless;
use super::frame::RegisterFrame;
use super::metrics::Ignored;
use smmu_core::spec::register::{Idr0, IrqCfg0, IrqCfg2, IrqCtrl, offset};

/// The register of a set: CFG0, CFG1 or CFG2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Address,
    Data,
    Attributes,
}

/// The source that a set of registers belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Gerror,
    Events,
    Pages,
}

fn locate(register: u64) -> Option<(Source, Part)> {
    Some(match register {
        offset::GERROR_IRQ_CFG0 => (Source::Gerror, Part::Address),
        offset::GERROR_IRQ_CFG1 => (Source::Gerror, Part::Data),
        offset::GERROR_IRQ_CFG2 => (Source::Gerror, Part::Attributes),
        offset::EVENTQ_IRQ_CFG0 => (Source::Events, Part::Address),
        offset::EVENTQ_IRQ_CFG1 => (Source::Events, Part::Data),
        offset::EVENTQ_IRQ_CFG2 => (Source::Events, Part::Attributes),
        offset::PRIQ_IRQ_CFG0 => (Source::Pages, Part::Address),
        offset::PRIQ_IRQ_CFG1 => (Source::Pages, Part::Data),
        offset::PRIQ_IRQ_CFG2 => (Source::Pages, Part::Attributes),
        _ => return None,
    })
}

impl Source {
    fn of(self, bank: &mut Bank) -> &mut IrqCfg {
        match self {
            Self::Gerror => &mut bank.written.gerror_irq,
            Self::Events => &mut bank.written.eventq_irq,
            Self::Pages => &mut bank.written.priq_irq,
        }
    }

    /// What the registers of the source keep of values.
    pub(super) fn held(self, new: IrqCfg, idr0: &Idr0) -> IrqCfg {
        if self == Self::Pages && !idr0.pri() {
            return IrqCfg::default();
        }
        let lo = new.attributes.lo() && self == Self::Pages;
        let mut held = IrqCfg {
            attributes: IrqCfg2::new().with_lo(lo),
            ..IrqCfg::default()
        };
        if idr0.msi() {
            held.address.set_addr_word(new.address.addr_word());
            held.data = new.data;
            held.attributes.set_mem_attr(new.attributes.mem_attr());
            held.attributes.set_sh(new.attributes.sh());
        }
        held
    }

    fn enabled(self, ctrl: IrqCtrl) -> bool {
        match self {
            Self::Gerror => ctrl.gerror_irqen(),
            Self::Events => ctrl.eventq_irqen(),
            Self::Pages => ctrl.priq_irqen(),
        }
    }
}

/// What IRQ_CTRL keeps of a value.
pub(super) fn held_irq_ctrl(value: u32, idr0: &Idr0) -> IrqCtrl {
    let new = IrqCtrl::from_bits(value);
    IrqCtrl::new()
        .with_gerror_irqen(new.gerror_irqen())
        .with_priq_irqen(new.priq_irqen() && idr0.pri())
        .with_eventq_irqen(new.eventq_irqen())
}

impl RegisterFrame {
    pub(super) fn write_irq_ctrl(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        bank.written.irq_ctrl = held_irq_ctrl(value, &self.caps.idr0);
        self.change_routes(bank);
        Ok(())
    }

    pub(super) fn change_routes(&self, bank: &mut Bank) {
        if let Some(pages) = &self.shared.pages {
            pages.interrupt_on_last(bank.written.priq_irq.attributes.lo());
        }
        let old = self.shared.gate.set(bank.written.routes());
        // Only those that are just being used are kept: one for each thread that is.
        if !old.is_gone() {
            bank.leaving.push(old);
        }
    }

    pub(super) fn read_irq_cfg(bank: &Bank, register: u64) -> u64 {
        let Some((source, part)) = locate(register) else {
            return 0;
        };
        let cfg = match source {
            Source::Gerror => &bank.written.gerror_irq,
            Source::Events => &bank.written.eventq_irq,
            Source::Pages => &bank.written.priq_irq,
        };
        match part {
            Part::Address => cfg.address.into_bits(),
            Part::Data => cfg.data.into(),
            Part::Attributes => cfg.attributes.into_bits().into(),
        }
    }

    /// A set may be written while its interrupt is disabled; without IDR0.MSI there is none.
    pub(super) fn write_irq_cfg(
        &self,
        bank: &mut Bank,
        access: Access,
        value: u64,
    ) -> Result<(), Ignored> {
        let (source, part) = locate(access.register).ok_or(Ignored::Nowhere)?;
        let idr0 = &self.caps.idr0;
        if source == Source::Pages && !idr0.pri() {
            return Err(Ignored::Nowhere);
        }
        let ack = bank.irq_ctrlack();
        unless(source.enabled(bank.written.irq_ctrl) || source.enabled(ack))?;
        if part != Part::Attributes && !idr0.msi() {
            return Err(Ignored::Nowhere);
        }
        let cfg = source.of(bank);
        match part {
            Part::Attributes => cfg.attributes = IrqCfg2::from_bits(value as u32),
            Part::Address => {
                cfg.address = IrqCfg0::from_bits(access.merge(cfg.address.into_bits(), value));
            }
            Part::Data => cfg.data = value as u32,
        }
        *cfg = source.held(*cfg, idr0);
        Ok(())
    }

    /// GERROR: each bit has one home. Takes no lock.
    pub(super) fn gerror(&self) -> u32 {
        let events = self.shared.events.queue().gerror();
        let pages = self.shared.pages.as_ref().map_or(0, |p| p.queue().gerror());
        self.ring.gerror() | events | pages | self.shared.gate.latch.gerror()
    }

    /// GERRORN likewise.
    pub(super) fn gerrorn(&self) -> u32 {
        let events = self.shared.events.queue().gerrorn();
        let pages = self
            .shared
            .pages
            .as_ref()
            .map_or(0, |p| p.queue().gerrorn());
        self.ring.gerrorn() | events | pages | self.shared.gate.latch.gerrorn()
    }

    /// The guest writes GERRORN. Takes no lock.
    pub(super) fn acknowledge(&self, value: u32) {
        self.shared.gate.latch.acknowledge(value);
        self.shared.events.acknowledge(value);
        if let Some(pages) = &self.shared.pages {
            pages.queue().acknowledge(value);
        }
        self.ring.acknowledge(value);
    }
}
