//! Whether a ring runs: what is wanted, and what its owner has brought about.
//!
//! Whoever wants something changes one word and sees to it that somebody looks: at once if nobody
//! owns the ring, else the owner goes round again. So nobody waits, and what a guest has written
//! is acknowledged when it is true.

use crate::consumer::Consumer;
use crate::ring::{Again, Ring};
use vcmdq_sync::atomic::{AtomicU32, Ordering};
use vcmdq_sync::weak::{Site, full_fence};

/// Control bits: what is wanted of a ring, and what its owner has brought about.
pub(crate) const ENABLED: u32 = 1;
pub(crate) const PAUSED: u32 = 2;
/// In `wanted` only: the owner is to forget what it keeps.
pub(crate) const RESET: u32 = 4;
/// Likewise, and what the registers show, because the ring was not disabled.
pub(crate) const RESET_SHOWN: u32 = 8;
/// What a VCMDQ belongs to (VINTF, allocation map) keeps it from running.
pub(crate) const GATED: u32 = 16;
/// In `settled` only: the ring runs, or would if it were not paused.
const ARMED: u32 = 32;
/// In `settled` only: the owner is about to decide whether it is to run.
const DECIDING: u32 = 64;

#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) wanted: AtomicU32,
    pub(crate) settled: AtomicU32,
}

impl Ring {
    /// Whether neither the enable bit is set nor the ring consumes: the guest may move it.
    pub(crate) fn is_disabled(&self) -> bool {
        !self.is_enabled() && !self.is_wanted()
    }

    /// The guest sets the enable bit. [`is_enabled`](Self::is_enabled), which an acknowledge
    /// register shows, follows; never blocks.
    pub fn enable(&self) {
        self.want(|bits| bits | ENABLED);
    }

    /// The guest clears the enable bit. Commands that have been begun are consumed, then
    /// [`is_enabled`](Self::is_enabled) follows and CONS is final; never blocks.
    pub fn disable(&self) {
        self.want(|bits| bits & !ENABLED);
    }

    /// Whether the ring consumes: CR0ACK.CMDQEN, or STATUS.EN_OK of a VCMDQ. While its owner is
    /// deciding, it is what it is not wanted to be; while its registers are to be reset, it is.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        // In this order: whoever finds a reset taken up finds that it is being done, or done.
        let wanted = self.control.wanted.load(Ordering::Acquire);
        let settled = self.control.settled.load(Ordering::Acquire);
        let deciding = settled & DECIDING != 0 && wanted & ENABLED == 0;
        settled & ARMED != 0 || wanted & RESET_SHOWN != 0 || deciding
    }

    /// The enable bit as the engine has seen it last.
    pub(crate) fn is_wanted(&self) -> bool {
        self.control.wanted.load(Ordering::Acquire) & ENABLED != 0
    }

    /// What a VCMDQ belongs to lets it run, or not. As [`enable`](Self::enable).
    pub(crate) fn set_gate(&self, open: bool) {
        if (self.control.wanted.load(Ordering::Acquire) & GATED == 0) != open {
            self.want(|bits| if open { bits & !GATED } else { bits | GATED });
        }
    }

    /// Stops consumption until [`resume`](Self::resume), and waits until no thread of the engine
    /// touches guest memory or the shared page for this ring. Must not be called inside a
    /// callback of the engine.
    pub(crate) fn pause(&self) {
        self.want(|bits| bits | PAUSED);
        // law10a: a worker may still be at it when this returns.
        if !vcmdq_sync::broken!(break_law10a) {
            self.with_consumer(|consumer| {
                self.settle(consumer);
            });
        }
    }

    pub(crate) fn resume(&self) {
        self.want(|bits| bits & !PAUSED);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.control.wanted.load(Ordering::Acquire) & PAUSED != 0
    }

    pub(crate) fn want(&self, change: impl Fn(u32) -> u32) {
        let mut old = self.control.wanted.load(Ordering::Relaxed);
        // Release pairs with the acquire in `settle`.
        while let Err(now) = self.control.wanted.compare_exchange(
            old,
            change(old),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            old = now;
        }
        // Pairs with the fence in `decide`.
        full_fence(Site::EnableFence);
        // Dropped behind the claim: what a VMM's page or backend does may end in a panic.
        let _again = Again(self);
        // Nobody at work: brought about at once, so that the guest's next read shows it.
        // Otherwise whoever is at work goes round again and does it.
        if let Some(mut claim) = self.consumer.enter() {
            claim.with(|consumer| {
                // What the guest has stored before this is older than what is wanted now.
                self.look_at_page();
                self.settle(consumer)
            });
            self.release(claim);
        }
        self.rouse();
    }

    /// Brings about what is wanted; whether to consume. Called by the owner of the claim.
    #[inline]
    pub(crate) fn settle(&self, consumer: &mut Consumer) -> bool {
        let wanted = self.control.wanted.load(Ordering::Acquire);
        let settled = self.control.settled.load(Ordering::Relaxed);
        if wanted != settled & !ARMED || consumer.refused.is_some() {
            self.bring_about(consumer, wanted, settled);
        }
        consumer.running
    }

    /// An enable, or a reset of what the registers show, is about to be brought about. Whoever takes
    /// an enable back meanwhile is seen here, or sees that this is being decided: a guest that finds
    /// the ring disabled may move it, and nothing is consumed behind its back. Model:
    /// `law4_a_ring_that_says_it_is_disabled_consumes_nothing`.
    fn decide(&self, wanted: u32, settled: u32) -> u32 {
        let arms = wanted & ENABLED != 0 && settled & ARMED == 0;
        if !arms && wanted & RESET_SHOWN == 0 {
            return wanted;
        }
        self.control
            .settled
            .store(settled | DECIDING, Ordering::Release);
        // Pairs with the fence in `want`.
        full_fence(Site::EnableFence);
        self.control.wanted.load(Ordering::Acquire)
    }

    #[cold]
    fn bring_about(&self, consumer: &mut Consumer, wanted: u32, settled: u32) {
        let wanted = self.decide(wanted, settled);
        consumer.configuring = None;
        let wanted = self.take_staged(consumer, wanted, settled);
        let on = wanted & (ENABLED | GATED) == ENABLED;
        match &self.member {
            None => consumer.armed = on,
            // A queue that comes on is looked at, which a paused ring is not.
            Some(_) if wanted & PAUSED != 0 => {}
            Some(member) => member.arm(self, consumer, on),
        }
        consumer.running = consumer.armed && wanted & PAUSED == 0;
        if let Some(page) = self.page().filter(|_| wanted & PAUSED == 0) {
            page.publish_status(consumer.armed);
        }
        let log2size = consumer.entries.geometry().log2size();
        self.log2size.store(log2size, Ordering::Release);
        let armed = if consumer.armed { ARMED } else { 0 };
        // Release: whoever sees the ring settled sees its last CONS.
        self.control
            .settled
            .store(wanted | armed, Ordering::Release);
    }
}
