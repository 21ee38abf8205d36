//! The word that decides what becomes of a record.
//!
//! Reservation pointer, CONS, the overflow pair, the error pair and the enable bits lie in one
//! 64-bit word, and every change to it is one compare-and-swap. So each decision is a function of
//! one value: a record is refused as "full" only if the queue *was* full, OVFLG toggles only
//! if it *was* equal to OVACKFLG, however many threads fault and acknowledge at the same time; and
//! a word that has come back to an old value decides as it did then.
//!
//! | bits | what |
//! |---|---|
//! | 19:0 | reserved: PROD as far as slots have been given out, not what the guest sees |
//! | 39:20 | CONS.RD, as the guest wrote it |
//! | 40, 41 | OVFLG, OVACKFLG |
//! | 42 | EVENTQEN |
//! | 43 | paused |
//! | 44 | a control call rebuilds the queue; nothing can be reserved |
//! | 45, 46 | EVENTQ_ABT_ERR of GERROR, of GERRORN |
//! | 51:47 | log2 of the number of records, by which the pointers wrap |

use super::queue::Unwritable;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};

const POINTER: u64 = 0xF_FFFF;
const CONS_SHIFT: u32 = 20;
const OVFLG: u64 = 1 << 40;
const OVACKFLG: u64 = 1 << 41;
const ENABLED: u64 = 1 << 42;
const PAUSED: u64 = 1 << 43;
const BUSY: u64 = 1 << 44;
const ERROR: u64 = 1 << 45;
const ERROR_ACK: u64 = 1 << 46;
const SIZE_SHIFT: u32 = 47;
const SIZE: u64 = 0x1F;

/// OVFLG and OVACKFLG in their registers.
pub(super) const REGISTER_FLAG: u32 = 1 << 31;
/// WR and RD in their registers.
pub(super) const REGISTER_POINTER: u32 = POINTER as u32;

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: u64, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }

    /// The next slot to give out.
    pub(super) fn reserved(self) -> u32 {
        (self.0 & POINTER) as u32
    }

    /// The queue's geometry, at the moment of the pointers.
    pub(super) fn ring(self) -> Geometry {
        Geometry::capped((self.0 >> SIZE_SHIFT & SIZE) as u8, MAX_LOG2SIZE)
    }

    pub(super) fn with_ring(self, ring: Geometry) -> Self {
        Self(self.0 & !(SIZE << SIZE_SHIFT) | u64::from(ring.log2size()) << SIZE_SHIFT)
    }

    /// CONS.RD.
    pub(super) fn cons(self) -> u32 {
        (self.0 >> CONS_SHIFT & POINTER) as u32
    }

    pub(super) fn overflow(self) -> bool {
        self.has(OVFLG)
    }

    pub(super) fn overflow_ack(self) -> bool {
        self.has(OVACKFLG)
    }

    pub(super) fn is_enabled(self) -> bool {
        self.has(ENABLED)
    }

    pub(super) fn is_paused(self) -> bool {
        self.has(PAUSED)
    }

    pub(super) fn is_busy(self) -> bool {
        self.has(BUSY)
    }

    pub(super) fn error(self) -> bool {
        self.has(ERROR)
    }

    pub(super) fn error_ack(self) -> bool {
        self.has(ERROR_ACK)
    }

    /// Why no slot can be given out, if so. A CONS that no legal consumer writes (more than a queue
    /// away) is a full queue.
    pub(super) fn refusal(self, ring: Geometry) -> Option<Unwritable> {
        let free = || ring.published(ring.pointer(self.cons()), ring.pointer(self.reserved()));
        if !self.is_enabled() || self.is_busy() {
            Some(Unwritable::Disabled)
        } else if self.error() != self.error_ack() {
            Some(Unwritable::Error)
        } else if self.is_paused() {
            Some(Unwritable::Paused)
        } else if !free().is_ok_and(|used| used < ring.entries()) {
            Some(Unwritable::Full)
        } else {
            None
        }
    }

    /// The same of a queue that takes nothing while an overflow has not been acknowledged.
    pub(super) fn refusal_until_acknowledged(self, ring: Geometry) -> Option<Unwritable> {
        let overflowed = || (self.overflow() != self.overflow_ack()).then_some(Unwritable::Full);
        self.refusal(ring).or_else(overflowed)
    }

    /// One slot more is given out.
    pub(super) fn reserve(self, ring: Geometry) -> Self {
        self.with_reserved(ring.advance(ring.pointer(self.reserved()), 1))
    }

    /// A record has been dropped for want of room: OVFLG toggles unless it is active already.
    pub(super) fn overflowed(self) -> Self {
        match self.overflow() == self.overflow_ack() {
            true => self.with(OVFLG, !self.overflow()),
            false => self,
        }
    }

    /// The queue's memory could not be accessed: the error toggles unless it is active already.
    pub(super) fn failed(self) -> Self {
        match self.error() == self.error_ack() {
            true => self.with(ERROR, !self.error()),
            false => self,
        }
    }

    /// The guest wrote GERRORN; changing a bit that is not active is ignored.
    pub(super) fn acknowledged(self, ack: bool) -> Self {
        match self.error() == self.error_ack() {
            true => self,
            false => self.with(ERROR_ACK, ack),
        }
    }

    pub(super) fn with_error(self, error: bool, ack: bool) -> Self {
        self.with(ERROR, error).with(ERROR_ACK, ack)
    }

    pub(super) fn with_reserved(self, at: QueueIndex) -> Self {
        Self(self.0 & !POINTER | u64::from(at.raw()))
    }

    /// The register CONS: RD and OVACKFLG.
    pub(super) fn with_cons(self, register: u32) -> Self {
        let pointer = u64::from(register) & POINTER;
        Self(self.0 & !(POINTER << CONS_SHIFT) | pointer << CONS_SHIFT)
            .with(OVACKFLG, register & REGISTER_FLAG != 0)
    }

    pub(super) fn with_overflow(self, overflow: bool) -> Self {
        self.with(OVFLG, overflow)
    }

    pub(super) fn with_enabled(self, enabled: bool) -> Self {
        self.with(ENABLED, enabled)
    }

    pub(super) fn with_paused(self, paused: bool) -> Self {
        self.with(PAUSED, paused)
    }

    pub(super) fn with_busy(self, busy: bool) -> Self {
        self.with(BUSY, busy)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn two_slots() -> (Geometry, Word) {
        (
            Geometry::capped(1, 19),
            Word::default().with_enabled(true).with_cons(0),
        )
    }

    #[test]
    fn full_is_when_indices_meet_and_wraps_differ() {
        let (ring, empty) = two_slots();
        let full = empty.reserve(ring).reserve(ring);
        assert_eq!(empty.reserve(ring).refusal(ring), None);
        assert_eq!(full.refusal(ring), Some(Unwritable::Full));
        assert_eq!(full.with_cons(1).refusal(ring), None);
        assert_eq!(full.with_cons(1).reserve(ring).reserved(), 3);
    }

    #[test]
    fn a_cons_that_cannot_be_is_a_full_queue() {
        let (ring, empty) = two_slots();
        assert_eq!(empty.with_cons(1).refusal(ring), Some(Unwritable::Full));
    }

    #[test]
    fn the_overflow_toggles_once_until_it_is_acknowledged() {
        let (_, word) = two_slots();
        let active = word.overflowed();
        assert!(active.overflow() && active.overflowed() == active);
        let again = active.with_cons(REGISTER_FLAG).overflowed();
        assert!(!again.overflow() && again.overflow_ack());
    }

    #[test]
    fn an_error_that_is_not_active_cannot_be_acknowledged() {
        let (ring, word) = two_slots();
        assert_eq!(word.acknowledged(true), word);
        let failed = word.failed();
        assert_eq!(failed.refusal(ring), Some(Unwritable::Error));
        assert_eq!(failed.acknowledged(false), failed, "not equal yet");
        assert_eq!(failed.acknowledged(true).refusal(ring), None);
    }
}
