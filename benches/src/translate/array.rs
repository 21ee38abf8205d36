//! The least that a lookup can cost: an array without sets, generations or versions.
//!
//! It could not be filled while it is read, and nothing could be taken out of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// As many bytes as the translation cache uses for an entry.
#[derive(Debug, Default)]
struct Slot {
    tag: AtomicU64,
    payload: [AtomicU64; 2],
    _as_large: [u64; 2],
}

/// One slot for each number.
#[derive(Debug)]
pub struct BareArray(Box<[Slot]>);

impl BareArray {
    /// With payloads for the numbers from 0 on. As large as the next power of two.
    #[must_use]
    pub fn new(payloads: &[[u64; 2]]) -> Self {
        let slots = payloads.len().next_power_of_two();
        let array: Box<[Slot]> = (0..slots).map(|_| Slot::default()).collect();
        for (number, payload) in payloads.iter().enumerate() {
            let slot = &array[number];
            slot.payload[0].store(payload[0], Ordering::Relaxed);
            slot.payload[1].store(payload[1], Ordering::Relaxed);
            slot.tag.store(number as u64 + 1, Ordering::Release);
        }
        Self(array)
    }

    /// What was put there.
    #[inline]
    #[must_use]
    pub fn lookup(&self, number: u64) -> Option<[u64; 2]> {
        let slot = &self.0[number as usize & (self.0.len() - 1)];
        let there = slot.tag.load(Ordering::Acquire) == number + 1;
        there.then(|| {
            [
                slot.payload[0].load(Ordering::Relaxed),
                slot.payload[1].load(Ordering::Relaxed),
            ]
        })
    }
}
