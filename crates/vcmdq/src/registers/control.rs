//! CR0 and its acknowledgement, CR1, CR2 (IHI 0070, 6.3.9 to 6.3.12).

use super::bank::Bank;
use super::frame::RegisterFrame;
use super::metrics::Ignored;
use smmu_core::spec::register::{Cr0, Cr1, Cr2, Idr0};

impl RegisterFrame {
    /// The bits of CR0 that exist: those of absent features are RES0 and never acknowledged.
    pub(super) fn cr0_mask(&self) -> Cr0 {
        let idr0 = &self.caps.idr0;
        Cr0::new()
            .with_smmuen(true)
            .with_eventqen(true)
            .with_cmdqen(true)
            .with_priqen(idr0.pri())
            .with_atschk(idr0.ats())
            .with_vmw(if idr0.vmw() { 7 } else { 0 })
    }

    pub(super) fn write_cr0(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        let new = Cr0::from_bits(value & self.cr0_mask().into_bits());
        let old = std::mem::replace(&mut bank.written.cr0, new);
        if new.eventqen() != old.eventqen() {
            self.switch_eventq(bank);
        }
        let checks_change = new.smmuen() && new.atschk() != old.atschk();
        if new.smmuen() != old.smmuen() || checks_change {
            self.change_traffic(bank);
        }
        self.switch_priq(bank);
        match (old.cmdqen(), new.cmdqen()) {
            (false, true) => self.ring.enable(),
            (true, false) => self.ring.disable(),
            _ => {}
        }
        self.advance(bank);
        Ok(())
    }

    pub(super) fn cr0ack(&self, bank: &Bank) -> Cr0 {
        bank.written
            .cr0
            .with_smmuen(bank.smmuen_ack)
            .with_atschk(bank.atschk_ack)
            .with_eventqen(self.shared.events.queue().is_enabled())
            .with_priqen(bank.written.cr0.priqen() || self.priq_works())
            .with_cmdqen(self.ring.is_enabled())
    }

    /// The PRI queue takes requests, or is just being written.
    fn priq_works(&self) -> bool {
        let pages = self.shared.pages.as_ref();
        pages.is_some_and(|pages| pages.queue().is_enabled())
    }

    /// Acknowledges what has come about meanwhile.
    pub(super) fn advance(&self, bank: &mut Bank) {
        bank.leaving.retain(|old| !old.is_gone());
        if bank.traffic_busy && self.shared.traffic.is_settled() {
            bank.traffic_busy = false;
            bank.gbpa_update = false;
            bank.smmuen_ack = bank.written.cr0.smmuen();
            if !bank.smmuen_ack {
                // Once more: an access of before may have stalled after the first time.
                self.shared.events.smmu_disabled();
            }
        }
        if !bank.traffic_busy {
            bank.atschk_ack = bank.written.cr0.atschk();
        }
        if bank.eventq_reset && self.shared.events.queue().reset().is_ok() {
            bank.eventq_reset = false;
            self.switch_eventq(bank);
        }
        let pages = self.shared.pages.as_ref().filter(|_| bank.priq_reset);
        if pages.is_some_and(|pages| pages.queue().reset().is_ok()) {
            bank.priq_reset = false;
            self.switch_priq(bank);
        }
    }

    /// Neither SMMUEN nor its acknowledgement is set.
    pub(super) fn smmu_is_off(&self, bank: &Bank) -> Result<(), Ignored> {
        unless(bank.written.cr0.smmuen() || bank.smmuen_ack)
    }

    /// The fields for queues may be written while every queue is disabled, those for tables while
    /// SMMUEN is 0. The engine's accesses are coherent whatever they say.
    pub(super) fn write_cr1(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        let ack = self.cr0ack(bank);
        let any = |cr0: Cr0| cr0.cmdqen() || cr0.eventqen() || cr0.priqen();
        let queues = !any(bank.written.cr0) && !any(ack);
        let tables = self.smmu_is_off(bank).is_ok();
        let (new, old) = (held_cr1(value), bank.written.cr1);
        let mut next = Cr1::new();
        let from = if queues { new } else { old };
        next.set_queue_ic(from.queue_ic());
        next.set_queue_oc(from.queue_oc());
        next.set_queue_sh(from.queue_sh());
        let from = if tables { new } else { old };
        next.set_table_ic(from.table_ic());
        next.set_table_oc(from.table_oc());
        next.set_table_sh(from.table_sh());
        bank.written.cr1 = next;
        unless(!queues || !tables)
    }

    /// Takes effect with the next SMMUEN. E2H needs EL2 contexts, REC_CFG_ATS what it records.
    pub(super) fn write_cr2(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        self.smmu_is_off(bank)?;
        bank.written.cr2 = held_cr2(value, &self.caps.idr0);
        Ok(())
    }
}

/// What CR1 keeps of a value.
pub(super) fn held_cr1(value: u32) -> Cr1 {
    let new = Cr1::from_bits(value);
    Cr1::new()
        .with_queue_ic(new.queue_ic())
        .with_queue_oc(new.queue_oc())
        .with_queue_sh(new.queue_sh())
        .with_table_ic(new.table_ic())
        .with_table_oc(new.table_oc())
        .with_table_sh(new.table_sh())
}

/// What CR2 keeps of a value.
pub(super) fn held_cr2(value: u32, idr0: &Idr0) -> Cr2 {
    let new = Cr2::from_bits(value);
    Cr2::new()
        .with_e2h(new.e2h() && idr0.hyp())
        .with_recinvsid(new.recinvsid())
        .with_ptm(new.ptm())
        .with_rec_cfg_ats(new.rec_cfg_ats() && idr0.atsrecerr())
}

/// A write that a guard forbids.
pub(super) fn unless(guarded: bool) -> Result<(), Ignored> {
    if guarded {
        Err(Ignored::Guarded)
    } else {
        Ok(())
    }
}
