//! The registers of the queues (IHI 0070, 6.3.26 to 6.3.39).
//!
//! BASE reads back as written; a LOG2SIZE above the advertised one is capped, and the base aligned
//! down to the size, where it takes effect.

use super::access::Access;
use super::bank::Bank;
use super::control::unless;
use super::frame::RegisterFrame;
use super::metrics::Ignored;
use crate::settings::RingSettings;
use smmu_core::Gpa;
use smmu_core::spec::register::{QueueBase, offset};

/// WR and RD, with their wrap bits.
pub(super) const POINTER: u32 = 0xF_FFFF;
/// OVFLG and OVACKFLG.
pub(super) const FLAG: u32 = 1 << 31;

/// A BASE register that has been written.
fn base(old: QueueBase, access: Access, value: u64) -> QueueBase {
    held_base(access.merge(old.into_bits(), value))
}

/// What a BASE register keeps of a value.
pub(super) fn held_base(value: u64) -> QueueBase {
    let new = QueueBase::from_bits(value);
    QueueBase::new()
        .with_log2size(new.log2size())
        .with_addr_bits(new.addr_bits())
        .with_allocate(new.allocate())
}

impl RegisterFrame {
    /// Takes no lock.
    pub(super) fn write_cmdq_prod(&self, value: u32) {
        self.ring.doorbell(value & POINTER);
    }

    /// Neither CMDQEN nor its acknowledgement is set.
    fn cmdq_is_off(&self) -> Result<(), Ignored> {
        unless(!self.ring.is_disabled())
    }

    pub(super) fn write_cmdq_base(
        &self,
        bank: &mut Bank,
        access: Access,
        value: u64,
    ) -> Result<(), Ignored> {
        self.cmdq_is_off()?;
        let new = base(bank.written.cmdq_base, access, value);
        bank.written.cmdq_base = new;
        self.ring.stage_place(RingSettings {
            base: Gpa(new.addr_bits() << 5),
            log2size: new.log2size(),
        });
        Ok(())
    }

    /// ERR does not take what is written.
    pub(super) fn write_cmdq_cons(&self, bank: &Bank, value: u32) -> Result<(), Ignored> {
        self.cmdq_is_off()?;
        let log2size = bank.written.cmdq_base.log2size();
        self.ring.stage_cons(value & POINTER, log2size);
        Ok(())
    }

    /// Takes no lock; while the queue is enabled, too.
    pub(super) fn write_eventq_cons(&self, value: u32) {
        self.shared.events.write_cons(value & (POINTER | FLAG));
    }

    pub(super) fn write_eventq_base(
        &self,
        bank: &mut Bank,
        access: Access,
        value: u64,
    ) -> Result<(), Ignored> {
        unless(bank.written.cr0.eventqen() || bank.eventq_reset)?;
        let new = base(bank.written.eventq_base, access, value);
        let queue = self.shared.events.queue();
        queue
            .configure(Gpa(new.addr_bits() << 5), new.log2size())
            .map_err(|_| Ignored::Guarded)?;
        bank.written.eventq_base = new;
        Ok(())
    }

    pub(super) fn write_eventq_prod(&self, bank: &Bank, value: u32) -> Result<(), Ignored> {
        unless(bank.written.cr0.eventqen() || bank.eventq_reset)?;
        let queue = self.shared.events.queue();
        queue.write_prod(value).map_err(|_| Ignored::Guarded)
    }

    /// Enables or disables the event queue as CR0 says, unless a reset has to end first.
    pub(super) fn switch_eventq(&self, bank: &Bank) {
        if !bank.written.cr0.eventqen() {
            self.shared.events.disable();
        } else if !bank.eventq_reset {
            self.shared.events.enable();
        }
    }

    /// Enables or disables the PRI queue: it takes requests while PRIQEN and SMMUEN are 1.
    pub(super) fn switch_priq(&self, bank: &Bank) {
        let Some(pages) = &self.shared.pages else {
            return;
        };
        let cr0 = bank.written.cr0;
        if !(cr0.priqen() && cr0.smmuen()) {
            pages.queue().disable();
        } else if !bank.priq_reset {
            pages.queue().enable();
        }
    }

    /// Takes no lock; while the queue is enabled, too.
    pub(super) fn write_priq_cons(&self, value: u32) -> Result<(), Ignored> {
        let pages = self.shared.pages.as_ref().ok_or(Ignored::Nowhere)?;
        pages.queue().write_cons(value & (POINTER | FLAG));
        Ok(())
    }

    /// PRIQ_BASE and PRIQ_PROD. What counts is PRIQEN itself, whether the queue works or not.
    pub(super) fn write_priq(
        &self,
        bank: &mut Bank,
        access: Access,
        value: u64,
    ) -> Result<(), Ignored> {
        let pages = self.shared.pages.as_ref().ok_or(Ignored::Nowhere)?;
        unless(bank.written.cr0.priqen() || bank.priq_reset)?;
        if access.register == offset::PRIQ_PROD {
            let written = pages.queue().write_prod(value as u32);
            return written.map_err(|_| Ignored::Guarded);
        }
        let new = base(bank.written.priq_base, access, value);
        let queue = pages.queue();
        queue
            .configure(Gpa(new.addr_bits() << 5), new.log2size())
            .map_err(|_| Ignored::Guarded)?;
        bank.written.priq_base = new;
        Ok(())
    }
}
