//! Makes a command of the guest's illegal on its way to the engine, as a bit that flips in memory
//! would: after the guest has published it and before the engine hears of it.
//!
//! Only a CMD_PREFETCH_CONFIG is taken. It is a hint, so a guest that puts a SYNC in its place, as
//! Linux does, loses nothing.

use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::spec::register::QueueBase;
use smmu_core::{Gpa, GuestMemory};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// CMD_PREFETCH_CONFIG.
const PREFETCH_CONFIG: u64 = 0x01;
/// No command has this opcode.
const NO_COMMAND: u64 = 0xFF;

/// Waits for the next hint, once it has been asked to.
#[derive(Debug, Default)]
pub struct Corruption {
    armed: AtomicBool,
    done: AtomicU64,
}

impl Corruption {
    /// The next hint becomes illegal.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// How many have become so.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// The guest has moved PROD; `base` is CMDQ_BASE.
    pub(super) fn apply(&self, memory: &dyn GuestMemory, base: u64, (old, new): (u32, u32)) {
        if !self.armed.load(Ordering::Acquire) {
            return;
        }
        let base = QueueBase::from_bits(base);
        let size = 1u32 << base.log2size().min(19);
        let mut at = old;
        // At most one lap, whatever the guest has written.
        for _ in 0..size {
            if at % (2 * size) == new % (2 * size) {
                return;
            }
            let entry = Gpa((base.addr_bits() << 5) + 16 * u64::from(at % size));
            let opcode = load_u64(memory, entry, Ordering::Relaxed);
            if let Ok(word) = opcode {
                if word & 0xFF == PREFETCH_CONFIG {
                    let word = word & !0xFF | NO_COMMAND;
                    if store_u64(memory, entry, word, Ordering::Relaxed).is_ok() {
                        self.armed.store(false, Ordering::Release);
                        self.done.fetch_add(1, Ordering::AcqRel);
                    }
                    return;
                }
            }
            at = at.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcmdq::testing::HeapMemory;

    fn ring() -> HeapMemory {
        let memory = HeapMemory::new(0x2000);
        for slot in 0..8 {
            let opcode = if slot % 4 == 3 { PREFETCH_CONFIG } else { 0x46 };
            let at = Gpa(0x1000 + 16 * slot);
            store_u64(&memory, at, opcode | 0x5_0000, Ordering::Relaxed).expect("memory");
        }
        memory
    }

    fn opcode(memory: &HeapMemory, slot: u64) -> u64 {
        load_u64(memory, Gpa(0x1000 + 16 * slot), Ordering::Relaxed).expect("memory")
    }

    /// Eight entries at 0x1000.
    const BASE: u64 = 0x1003;

    #[test]
    fn the_first_hint_behind_the_old_prod_is_taken_once() {
        let (memory, corruption) = (ring(), Corruption::default());
        corruption.apply(&memory, BASE, (0, 8));
        assert_eq!(corruption.done(), 0, "it has not been asked to");
        corruption.arm();
        corruption.apply(&memory, BASE, (4, 7));
        assert_eq!(corruption.done(), 0, "there is none");
        corruption.apply(&memory, BASE, (5, 12));
        assert_eq!(corruption.done(), 1);
        assert_eq!(opcode(&memory, 7), 0x5_00FF);
        assert_eq!(opcode(&memory, 3), 0x5_0001);
        corruption.apply(&memory, BASE, (0, 8));
        assert_eq!(corruption.done(), 1);
    }

    #[test]
    fn a_prod_that_is_never_reached_ends_after_a_lap() {
        let (memory, corruption) = (HeapMemory::new(0x2000), Corruption::default());
        corruption.arm();
        corruption.apply(&memory, BASE, (0, u32::MAX));
        assert_eq!(corruption.done(), 0);
    }
}
