//! The CMDQV's own page: CONFIG, PARAM, STATUS, error maps, the allocation map, and VINTF 0.

use super::registers::{SIDS, SIDS_LOG2, Shared};
use smmu_core::spec::vcmdq::{
    CmdqAlloc, Config, Param, SidMatch, SidReplace, Status, VintfConfig, VintfStatus, offset,
};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::{Site, full_fence};

/// A place in a run of 32-bit registers.
fn index(register: u64, first: u64, count: usize) -> Option<usize> {
    let index = (register.checked_sub(first)? / 4) as usize;
    (register % 4 == 0 && index < count).then_some(index)
}

/// Bit 0 of VINTF_INT_MASK and of VINTF_ERR_MAP is VINTF 0.
const VINTF_0: u32 = 1;

impl Shared {
    /// Bit `l` of what LVCMDQ_ERR_MAP reads as: logical queue `l` has an error that the guest has
    /// not acknowledged. At most 16 queues exist, so the upper word is zero.
    pub(super) fn error_map(&self) -> u32 {
        let bits = self.rings.iter().enumerate();
        bits.map(|(queue, ring)| u32::from(ring.has_error()) << queue)
            .sum()
    }

    /// The same by global numbers.
    fn global_error_map(&self) -> u32 {
        let errors = self.error_map();
        let registers = self.control();
        let queues = self.queues();
        let bit = |queue| {
            let logical = registers.logical(queue, queues)?;
            Some((errors >> logical & 1) << queue)
        };
        (0..queues).filter_map(bit).sum()
    }

    pub(super) fn read_config(&self, register: u64) -> u32 {
        if let Some(inside) = register.checked_sub(offset::VINTF) {
            return self.read_vintf(inside);
        }
        if let Some(word) = index(register, offset::VINTF_ERR_MAP, 2) {
            return u32::from(word == 0 && self.error_map() != 0);
        }
        if let Some(word) = index(register, offset::VINTF_INT_MASK, 2) {
            return self.control().int_mask[word];
        }
        if let Some(word) = index(register, offset::CMDQ_ERR_MAP, 4) {
            return if word == 0 {
                self.global_error_map()
            } else {
                0
            };
        }
        if let Some(queue) = index(register, offset::CMDQ_ALLOC, self.queues()) {
            return self.control().alloc[queue].into_bits();
        }
        match register {
            offset::CONFIG => self.control().config.into_bits(),
            offset::PARAM => Param::new()
                .with_ver(1)
                .with_num_vcmdq_log2(self.queues().trailing_zeros() as u8)
                .with_num_sid_per_vm_log2(SIDS_LOG2)
                .into_bits(),
            offset::STATUS => {
                let enabled = self.control().config.en() || self.any_runs();
                Status::new().with_enabled(enabled).into_bits()
            }
            _ => 0,
        }
    }

    fn read_vintf(&self, inside: u64) -> u32 {
        if let Some(sid) = index(inside, offset::VINTF_SID_MATCH, SIDS) {
            return self.control().sid_match[sid];
        }
        if let Some(sid) = index(inside, offset::VINTF_SID_REPLACE, SIDS) {
            return self.control().sid_replace[sid];
        }
        match inside {
            offset::VINTF_CONFIG => self.control().vintf.into_bits(),
            offset::VINTF_STATUS => VintfStatus::new()
                .with_en_ok(self.control().vintf.en() || self.any_runs())
                .with_status(u8::from(self.error_map() != 0))
                .with_num_lvcmdq(self.queues() as u8)
                .into_bits(),
            // Bit l of the 64-bit word is queue l, whatever the byte order of who reads it.
            offset::VINTF_LVCMDQ_ERR_MAP => self.error_map(),
            _ => 0,
        }
    }

    pub(super) fn write_config(&self, register: u64, value: u32) {
        if let Some(inside) = register.checked_sub(offset::VINTF) {
            return self.write_vintf(inside, value);
        }
        if let Some(word) = index(register, offset::VINTF_INT_MASK, 2) {
            return self.write_int_mask(word, value);
        }
        let mut registers = self.control();
        if let Some(queue) = index(register, offset::CMDQ_ALLOC, self.queues()) {
            let alloc = CmdqAlloc::from_bits(value);
            registers.alloc[queue] = CmdqAlloc::new()
                .with_alloc(alloc.alloc())
                .with_lvcmdq(alloc.lvcmdq())
                .with_vintf(alloc.vintf());
            self.regate(&registers);
        } else if register == offset::CONFIG {
            registers.config = accepted_config(value);
            self.regate(&registers);
        }
    }

    fn write_vintf(&self, inside: u64, value: u32) {
        let mut registers = self.control();
        if let Some(sid) = index(inside, offset::VINTF_SID_MATCH, SIDS) {
            let word = SidMatch::from_bits(value);
            let kept = SidMatch::new()
                .with_en(word.en())
                .with_virt_sid(word.virt_sid());
            registers.sid_match[sid] = kept.into_bits();
        } else if let Some(sid) = index(inside, offset::VINTF_SID_REPLACE, SIDS) {
            let sid_bits = SidReplace::from_bits(value).phys_sid();
            registers.sid_replace[sid] = SidReplace::new().with_phys_sid(sid_bits).into_bits();
        } else if inside == offset::VINTF_CONFIG {
            registers.vintf = accepted_vintf(value);
            self.regate(&registers);
        }
    }

    /// An error that became active while it was masked is told when the mask goes: the guest gets
    /// an edge for it, too.
    fn write_int_mask(&self, word: usize, value: u32) {
        let mut registers = self.control();
        registers.int_mask[word] = value;
        let masked = registers.int_mask[0] & VINTF_0 != 0;
        let was = self.group.masked.swap(masked, Ordering::AcqRel);
        drop(registers);
        // Pairs with the fence in `Group::pulse`.
        full_fence(Site::MaskFence);
        if was && !masked && self.error_map() != 0 {
            self.group.pulse(&*self.interrupts);
        }
    }
}

/// What CONFIG keeps of a value: no copy of CONS is offered, and reserved bits read as zero.
pub(super) fn accepted_config(value: u32) -> Config {
    let config = Config::from_bits(value);
    Config::new()
        .with_en(config.en())
        .with_per_cmd_offset(config.per_cmd_offset())
        .with_max_clk_batch(config.max_clk_batch())
        .with_max_cmd_batch(config.max_cmd_batch())
}

/// What VINTF_CONFIG keeps: a guest's VINTF is not the hypervisor's own.
pub(super) fn accepted_vintf(value: u32) -> VintfConfig {
    let config = VintfConfig::from_bits(value);
    VintfConfig::new()
        .with_en(config.en())
        .with_vmid(config.vmid())
}
