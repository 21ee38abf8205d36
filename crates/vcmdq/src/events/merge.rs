//! Equal events of a stream that asks for it (STE.MEV) become one (IHI 0070, 7.3.1), so that a
//! device which faults again and again does not fill the queue.
//!
//! Only the newest record is looked at, and only while the guest has not consumed it: then the
//! guest still has to see a record that says the same. Addresses of one 4 KiB page count as equal.
//! Records of stalled transactions never merge.

use super::queue::{EventQueue, Unwritable};
use smmu_core::guest_memory::load_le;
use smmu_core::spec::event::EventRecord;
use vcmdq_sync::atomic::Ordering;

/// The bits of each word that must be equal.
const COMPARED: [u64; 4] = [u64::MAX, u64::MAX, !0xFFF, u64::MAX];

impl EventQueue {
    /// Records an event that may merge; otherwise as [`push`](Self::push). From any thread, never
    /// waits.
    pub fn push_or_merge(&self, record: &EventRecord) -> Result<(), Unwritable> {
        if self.newest_is_like(record) {
            self.counters.merged();
            return Ok(());
        }
        self.push(record)
    }

    /// Whether the newest record is visible, not consumed, and says the same. What lies in memory
    /// can be changed by the guest, which then misses its own event.
    fn newest_is_like(&self, record: &EventRecord) -> bool {
        let (shape, seen) = (self.shape.read(), self.load());
        let ring = shape.ring;
        if !matches!(seen.refusal(ring), None | Some(Unwritable::Full)) || self.is_in_flight(seen) {
            return false;
        }
        let (cons, next) = (ring.pointer(seen.cons()), ring.pointer(seen.reserved()));
        let Ok(waiting @ 1..) = ring.published(cons, next) else {
            return false;
        };
        let Ok((_, words)) = shape.slot::<4>(ring.advance(cons, waiting - 1)) else {
            return false;
        };
        let mut pairs = words.into_iter().zip(record.0).zip(COMPARED);
        let same = pairs
            .all(|((word, value), mask)| (load_le(word, Ordering::Acquire) ^ value) & mask == 0);
        // Nothing was given out or consumed meanwhile: it was the newest when it was compared.
        same && self.load() == seen
    }
}
