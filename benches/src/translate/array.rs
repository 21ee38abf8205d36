//! The least that a lookup can cost: an array that is read without a lock, indexed by a hash,
//! without sets, generations or versions.
//!
//! It could not be filled while it is read, and nothing could be taken out of it.

use smmu_core::Asid;
use std::sync::atomic::{AtomicU64, Ordering};

/// Within one cache line, and as large as the translation cache's.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Slot {
    tag: AtomicU64,
    payload: [AtomicU64; 2],
}

/// One slot for each entry.
#[derive(Debug)]
pub struct BareArray(Box<[Slot]>);

/// Page and ASID, and a bit that no empty slot has.
#[inline]
fn tag(asid: Asid, va: u64) -> u64 {
    1 << 63 | u64::from(asid.0) << 47 | va >> 12
}

impl BareArray {
    /// An empty one of `slots`, a power of two.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        assert!(slots.is_power_of_two(), "it is masked");
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    /// Neighbouring pages have neighbouring slots, so that those of one ASID do not meet.
    #[inline]
    fn slot(&self, asid: Asid, va: u64) -> &Slot {
        let hash = (va >> 12).wrapping_add(u64::from(asid.0.wrapping_mul(0x9E37)));
        &self.0[hash as usize & (self.0.len() - 1)]
    }

    /// Puts an entry where another one may be.
    pub fn fill(&self, asid: Asid, va: u64, payload: [u64; 2]) {
        let slot = self.slot(asid, va);
        slot.payload[0].store(payload[0], Ordering::Relaxed);
        slot.payload[1].store(payload[1], Ordering::Relaxed);
        slot.tag.store(tag(asid, va), Ordering::Release);
    }

    /// What was put there.
    #[inline]
    #[must_use]
    pub fn lookup(&self, asid: Asid, va: u64) -> Option<[u64; 2]> {
        let slot = self.slot(asid, va);
        let there = slot.tag.load(Ordering::Acquire) == tag(asid, va);
        there.then(|| {
            [
                slot.payload[0].load(Ordering::Relaxed),
                slot.payload[1].load(Ordering::Relaxed),
            ]
        })
    }
}
