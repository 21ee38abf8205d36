//! The registers of a queue, here by the names of the event queue's, that a guest uses while it runs. None of them waits.

use super::queue::RecordQueue;
use super::word::{REGISTER_FLAG, Word};
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::weak::{Site, full_fence};

impl<const N: usize> RecordQueue<N> {
    /// EVENTQ_PROD: WR in bits 19:0, OVFLG in bit 31. Acquire: the records before WR are there.
    /// From any thread, never waits.
    #[must_use]
    pub fn prod(&self) -> u32 {
        let flag = if self.load().overflow() {
            REGISTER_FLAG
        } else {
            0
        };
        let at = self.published.load(Ordering::Acquire);
        self.shape.read().ring.pointer(at as u32).raw() | flag
    }

    /// EVENTQ_CONS as last written: RD in bits 19:0, OVACKFLG in bit 31.
    #[must_use]
    pub fn cons(&self) -> u32 {
        let word = self.load();
        let flag = if word.overflow_ack() {
            REGISTER_FLAG
        } else {
            0
        };
        word.cons() | flag
    }

    /// The guest writes EVENTQ_CONS: it has read the records before RD and acknowledges the
    /// overflow that OVACKFLG names. Allowed whether the queue is enabled or not. From any thread,
    /// never waits. Who keeps records of stalled transactions tries again after it.
    pub fn write_cons(&self, register: u32) {
        // Release: the guest's reads of the records come before their slots are given out again.
        self.change(|word| word.with_cons(register));
        full_fence(Site::EventEdge);
    }

    /// CR0.EVENTQEN becomes 1. [`is_enabled`](Self::is_enabled), which CR0ACK shows, follows.
    pub fn enable(&self) {
        self.change(|word| word.with_enabled(true));
    }

    /// CR0.EVENTQEN becomes 0: no further record is accepted. [`is_enabled`](Self::is_enabled)
    /// follows when those that were accepted are visible. Never waits.
    pub fn disable(&self) {
        self.change(|word| word.with_enabled(false));
    }

    /// CR0ACK.EVENTQEN.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        let word = self.load();
        // While the queue is rebuilt nothing can be in flight.
        !word.is_busy() && (word.is_enabled() || self.is_in_flight(word))
    }

    /// Whether a slot was given out that PROD does not show yet.
    pub(super) fn is_in_flight(&self, word: Word) -> bool {
        let shown = self.published.load(Ordering::Acquire) as u32;
        let ring = self.shape.read().ring;
        ring.pointer(shown) != ring.pointer(word.reserved())
    }

    /// GERROR, as far as the event queue raises it: EVENTQ_ABT_ERR or nothing.
    #[must_use]
    pub fn gerror(&self) -> u32 {
        if self.load().error() {
            self.kind.error
        } else {
            0
        }
    }

    /// GERRORN likewise.
    #[must_use]
    pub fn gerrorn(&self) -> u32 {
        if self.load().error_ack() {
            self.kind.error
        } else {
            0
        }
    }

    /// The guest has written GERRORN; bits that are not the event queue's are ignored. From any
    /// thread, never waits.
    pub fn acknowledge(&self, gerrorn: u32) {
        self.change(|word| word.acknowledged(gerrorn & self.kind.error != 0));
    }
}
