//! Pages 0 and 1 of one VCMDQ, trapped.
//!
//! Where page 0 is shared memory, a trapped access to it (of the global view, or while the VMM does
//! not map the page) loads and stores the guest's own words, so that both ways lead to one place.

use super::registers::Shared;
use crate::ring::Ring;
use crate::ring_page::{CONFIG, GERRORN};
use smmu_core::spec::vcmdq::offset;

/// CONS: RD and ERR.
const CONS_BITS: u32 = 0x7F0F_FFFF;
const POINTER: u32 = 0xF_FFFF;
/// GERROR: CMDQ_ERR, CONS_DRAM_WR_ABT, INIT_ERR.
const ERRORS: u32 = 0b111;

impl Shared {
    /// The logical queue behind a global number: what the allocation map says, else the same.
    pub(super) fn alias(&self, queue: usize) -> usize {
        if queue >= self.queues() {
            return queue;
        }
        let logical = self.control().logical(queue, self.queues());
        logical.unwrap_or(queue)
    }

    pub(super) fn read_page0(&self, queue: usize, register: u64) -> u32 {
        let Some(ring) = self.rings.get(queue) else {
            return 0;
        };
        match register {
            offset::VCMDQ_CONS => ring.read_cons_register(),
            offset::VCMDQ_PROD => ring.prod(),
            offset::VCMDQ_CONFIG => ring
                .page()
                .map_or_else(|| u32::from(ring.is_wanted()), |page| page.load(CONFIG)),
            offset::VCMDQ_STATUS => u32::from(ring.is_enabled()),
            offset::VCMDQ_GERROR => ring.gerror(),
            offset::VCMDQ_GERRORN => ring
                .page()
                .map_or_else(|| ring.gerrorn(), |page| page.load(GERRORN)),
            _ => 0,
        }
    }

    pub(super) fn write_page0(&self, queue: usize, register: u64, value: u32) {
        let Some(ring) = self.rings.get(queue) else {
            return;
        };
        match (register, ring.page()) {
            (offset::VCMDQ_PROD, _) => ring.doorbell(value & POINTER),
            (offset::VCMDQ_CONS, _) if !(ring.is_wanted() || ring.is_enabled()) => {
                ring.write_shown_cons(value & CONS_BITS);
            }
            (offset::VCMDQ_CONFIG, Some(page)) => {
                page.store(CONFIG, value & 1);
                ring.look_again();
            }
            (offset::VCMDQ_CONFIG, None) if value & 1 != 0 => ring.enable(),
            (offset::VCMDQ_CONFIG, None) => ring.disable(),
            (offset::VCMDQ_GERRORN, Some(page)) => {
                page.store(GERRORN, value & ERRORS);
                ring.look_again();
            }
            (offset::VCMDQ_GERRORN, None) => ring.acknowledge(value & ERRORS),
            _ => {}
        }
    }

    pub(super) fn read_page1(&self, queue: usize, register: u64) -> u32 {
        let value = match register & !7 {
            offset::VCMDQ_BASE => self.group.lanes.get(queue).map(|lane| lane.base()),
            offset::VCMDQ_CONS_INDX_BASE if queue < self.queues() => {
                Some(self.control().cons_indx_base[queue])
            }
            _ => None,
        };
        (value.unwrap_or(0) >> (register % 8 * 8)) as u32
    }

    /// BASE counts from the queue's next enable on.
    pub(super) fn write_page1(&self, queue: usize, register: u64, value: u64) {
        if queue >= self.queues() {
            return;
        }
        let mut registers = self.control();
        match register {
            offset::VCMDQ_BASE => self.set_base(queue, value),
            offset::VCMDQ_CONS_INDX_BASE => registers.cons_indx_base[queue] = value,
            _ => {}
        }
    }

    /// A queue whose last BASE was unusable looks again.
    fn set_base(&self, queue: usize, base: u64) {
        self.group.lanes[queue].set_base(base);
        self.rings[queue].look_again();
    }

    /// One half, the other one stays.
    pub(super) fn write_page1_half(&self, queue: usize, register: u64, value: u32) {
        if queue >= self.queues() {
            return;
        }
        let mut registers = self.control();
        let shift = register % 8 * 8;
        let merged = |old: u64| old & !(0xFFFF_FFFF << shift) | u64::from(value) << shift;
        match register & !7 {
            offset::VCMDQ_BASE => {
                self.set_base(queue, merged(self.group.lanes[queue].base()));
            }
            offset::VCMDQ_CONS_INDX_BASE => {
                let word = &mut registers.cons_indx_base[queue];
                *word = merged(*word);
            }
            _ => {}
        }
    }
}

impl Ring {
    /// Whether an error is active, the guest's newest acknowledgement considered.
    pub(super) fn has_error(&self) -> bool {
        let acknowledged = self
            .page()
            .map_or_else(|| self.gerrorn(), |page| page.load(GERRORN));
        (self.gerror() ^ acknowledged) & ERRORS != 0
    }

    /// CONS as a trapped read sees it. ERR goes with the acknowledgement, not only when a worker
    /// has come by: a driver that finds a stale ERR would overwrite an innocent command.
    fn read_cons_register(&self) -> u32 {
        let cons = if self.is_enabled() {
            self.cons()
        } else {
            self.shown_cons()
        };
        if self.has_error() {
            cons & CONS_BITS
        } else {
            cons & POINTER
        }
    }

    /// The guest has stored into the shared page by way of a trap: somebody will look.
    pub(super) fn look_again(&self) {
        self.rouse();
    }
}
