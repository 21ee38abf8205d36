//! Taking slots: one 64-bit compare-and-swap on a shadow of PROD and CONS.
//!
//! The shadow's low half is PROD as far as slots have been taken (the register lags behind it),
//! its high half CONS as far as the producers have heard. A bit above the pointer, `OWNED`, says
//! that some producer has promised to publish: the one that finds it clear sets it and becomes
//! the *owner*; all that take slots until it clears the bit are gathered and published by its
//! single write of PROD.

use smmu_core::queue_index::{Geometry, QueueIndex};
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Set in the shadow's PROD half while an owner gathers. Never reaches the register.
const OWNED: u64 = 1 << 31;

/// Slots that one producer has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The first slot.
    pub start: QueueIndex,
    /// One past the last slot.
    pub end: QueueIndex,
    /// Whether this producer publishes for everybody who takes slots until it does.
    pub owner: bool,
}

/// The shadow of PROD and CONS that all producers share.
#[derive(Debug)]
pub struct Shadow {
    geometry: Geometry,
    packed: CachePadded<AtomicU64>,
    /// Up to where the last owner has published: the next one waits for its turn here.
    published: CachePadded<AtomicU32>,
}

impl Shadow {
    /// An empty queue whose pointers stand at `start`.
    #[must_use]
    pub fn new(geometry: Geometry, start: QueueIndex) -> Self {
        let both = u64::from(start.raw()) | u64::from(start.raw()) << 32;
        Self {
            geometry,
            packed: CachePadded::new(AtomicU64::new(both)),
            published: CachePadded::new(AtomicU32::new(start.raw())),
        }
    }

    /// Takes `count` slots, or `None` if there are not so many as far as CONS is known.
    #[must_use]
    pub fn try_reserve(&self, count: u32) -> Option<Reservation> {
        let mut seen = self.packed.load(Ordering::Relaxed);
        loop {
            let (prod, cons) = self.split(seen);
            let used = self.geometry.published(cons, prod).ok()?;
            if self.geometry.entries() - used < count {
                return None;
            }
            let end = self.geometry.advance(prod, count);
            let next = u64::from(end.raw()) | OWNED | u64::from(cons.raw()) << 32;
            // Acquire pairs with the Release in `advance_cons`: the consumer has read what lay in
            // the slots before, and whoever waited for a word in them has looked.
            match self
                .packed
                .compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    let owner = seen & OWNED == 0;
                    return Some(Reservation {
                        start: prod,
                        end,
                        owner,
                    });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Ends the gathering of the owner: where its range ends. Whoever comes later has an owner of
    /// its own.
    #[must_use]
    pub fn stop_gathering(&self) -> QueueIndex {
        self.split(self.packed.fetch_and(!OWNED, Ordering::Relaxed))
            .0
    }

    /// Whether the owner before the one whose range starts at `start` has published.
    #[must_use]
    pub fn is_turn_of(&self, start: QueueIndex) -> bool {
        // Acquire pairs with the Release in `pass_turn`: PROD is written in order.
        self.published.load(Ordering::Acquire) == start.raw()
    }

    /// Lets the next owner publish.
    pub fn pass_turn(&self, end: QueueIndex) {
        self.published.store(end.raw(), Ordering::Release);
    }

    /// Tells all producers how far CONS has come.
    pub fn advance_cons(&self, cons: QueueIndex) {
        let replace = |old: u64| Some(old & 0xFFFF_FFFF | u64::from(cons.raw()) << 32);
        let _old = self
            .packed
            .fetch_update(Ordering::Release, Ordering::Relaxed, replace);
    }

    /// CONS as far as the producers have heard.
    #[must_use]
    pub fn cons(&self) -> QueueIndex {
        self.split(self.packed.load(Ordering::Acquire)).1
    }

    fn split(&self, packed: u64) -> (QueueIndex, QueueIndex) {
        let half = |raw: u64| self.geometry.pointer(raw as u32);
        (half(packed & !OWNED), half(packed >> 32))
    }
}
