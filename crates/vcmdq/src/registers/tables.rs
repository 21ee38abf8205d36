//! Where the streams' traffic goes: STRTAB_BASE, STRTAB_BASE_CFG, GBPA (IHI 0070, 6.3.14, 6.3.23,
//! 6.3.24).

use super::access::Access;
use super::bank::Bank;
use super::frame::RegisterFrame;
use super::metrics::Ignored;
use dispatch::Traffic;
use smmu_core::config::StreamTable;
use smmu_core::spec::register::{Gbpa, Idr0, StrtabBase, StrtabBaseCfg};
use smmu_core::translate::Setup;

impl RegisterFrame {
    /// What the registers say about traffic.
    fn traffic(&self, bank: &Bank) -> Traffic {
        let (written, caps) = (&bank.written, self.caps);
        if !written.cr0.smmuen() {
            return Traffic::Disabled(written.gbpa, caps);
        }
        Traffic::Enabled(Setup {
            streams: StreamTable::from_registers(
                written.strtab_base,
                written.strtab_base_cfg,
                &caps,
            ),
            caps,
            e2h: written.cr2.e2h(),
            record_bad_stream_id: written.cr2.recinvsid(),
        })
    }

    /// SMMUEN has changed, GBPA while it is 0, or ATSCHK while it is 1.
    pub(super) fn change_traffic(&self, bank: &mut Bank) {
        let checks = bank.written.cr0.atschk();
        self.shared.traffic.change(self.traffic(bank), checks);
        bank.traffic_busy = true;
        if !bank.written.cr0.smmuen() {
            self.shared.events.smmu_disabled();
        }
        // The worker of this ring tells the VMM.
        self.ring.rouse();
    }

    pub(super) fn write_strtab_base(
        &self,
        bank: &mut Bank,
        access: Access,
        value: u64,
    ) -> Result<(), Ignored> {
        self.smmu_is_off(bank)?;
        let merged = access.merge(bank.written.strtab_base.into_bits(), value);
        bank.written.strtab_base = held_strtab_base(merged);
        Ok(())
    }

    /// Reads back as written; what it means is [`StreamTable::from_registers`]'s.
    pub(super) fn write_strtab_base_cfg(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        self.smmu_is_off(bank)?;
        bank.written.strtab_base_cfg = held_strtab_base_cfg(value, &self.caps.idr0);
        Ok(())
    }

    /// A write without Update is ignored, and so is one while the last has not taken effect.
    pub(super) fn write_gbpa(&self, bank: &mut Bank, value: u32) -> Result<(), Ignored> {
        let new = Gbpa::from_bits(value);
        if !new.update() || bank.gbpa_update {
            return Err(Ignored::Guarded);
        }
        bank.written.gbpa = held_gbpa(value);
        // While SMMUEN is 1 it concerns nobody.
        if !bank.written.cr0.smmuen() {
            bank.gbpa_update = true;
            self.change_traffic(bank);
            self.advance(bank);
        }
        Ok(())
    }
}

/// What STRTAB_BASE keeps of a value.
pub(super) fn held_strtab_base(value: u64) -> StrtabBase {
    let new = StrtabBase::from_bits(value);
    StrtabBase::new()
        .with_addr_bits(new.addr_bits())
        .with_ra(new.ra())
}

/// What STRTAB_BASE_CFG keeps of a value.
pub(super) fn held_strtab_base_cfg(value: u32, idr0: &Idr0) -> StrtabBaseCfg {
    let new = StrtabBaseCfg::from_bits(value);
    let held = StrtabBaseCfg::new().with_log2size(new.log2size());
    if idr0.st_level() == 1 {
        held.with_split(new.split()).with_fmt(new.fmt())
    } else {
        held
    }
}

/// What GBPA keeps of a value: all but Update.
pub(super) fn held_gbpa(value: u32) -> Gbpa {
    let new = Gbpa::from_bits(value);
    Gbpa::new()
        .with_mem_attr(new.mem_attr())
        .with_mtcfg(new.mtcfg())
        .with_alloccfg(new.alloccfg())
        .with_shcfg(new.shcfg())
        .with_privcfg(new.privcfg())
        .with_instcfg(new.instcfg())
        .with_abort(new.abort())
}
