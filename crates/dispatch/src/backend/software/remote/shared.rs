//! What workers see of a remote.

use super::debts::{Asking, Debts, SharedDebts};
use crate::invalidation::Invalidation;
use smmu_core::StreamId;
use smmu_core::command::Cfgi;
use smmu_core::guard::Interest;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::queue::Queue;
use vcmdq_sync::weak::{Site, order};

/// Told by workers that there is something for the owner of a [`Remote`](super::Remote) to take.
pub trait Notifier: Send + Sync {
    /// [`Remote::take`](super::Remote::take) is due. Called from workers, vCPU and control threads,
    /// perhaps more often than there is something to take: must not block nor call the backend.
    /// Writing an eventfd is what it is for.
    fn told(&self);

    /// The device's answer has kept a SYNC waiting for `waited`, longer than the instance's first
    /// limit. Called from a worker: must not block.
    fn overdue(&self, waited: Duration) {
        let _ = waited;
    }
}

/// What a worker has removed.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Request(Invalidation),
    Configuration(Cfgi),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) what: What,
    pub(super) asking: Asking,
}

/// What a remote has done so far. Each figure wraps at 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteMetrics {
    /// Translations lent.
    pub loans: u64,
    /// Translations that were asked for and refused: aborted, faulted or without memory.
    pub refused: u64,
    /// Invalidations that a worker handed over because they could concern what is lent.
    pub told: u64,
    /// Of these, those that found the queue full: everything lent was taken back for them.
    pub widened: u64,
    /// Notices to the device.
    pub notices: u64,
    /// Ranges in them.
    pub ranges: u64,
    /// How often the device, and with it perhaps the VMM, was told that a SYNC waits for it.
    pub overdue: u64,
}

/// The same, shared; in no order to anything.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) loans: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) told: AtomicU64,
    pub(super) widened: AtomicU64,
    pub(super) notices: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) overdue: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn read(&self) -> RemoteMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RemoteMetrics {
            loans: of(&self.loans),
            refused: of(&self.refused),
            told: of(&self.told),
            widened: of(&self.widened),
            notices: of(&self.notices),
            ranges: of(&self.ranges),
            overdue: of(&self.overdue),
        }
    }
}

/// One remote, as its owner and workers share it.
pub(super) struct Shared {
    pub(super) stream: StreamId,
    pub(super) tell: Box<dyn Notifier>,
    /// Whose translations are lent, or about to be, or not yet given back.
    interest: AtomicU64,
    removed: Queue<Removed>,
    /// Answers that are due.
    due: SharedDebts,
    /// Of these, those whose request found no place in the queue.
    wide: SharedDebts,
    is_wide: AtomicBool,
    /// The peer has no mapping any more.
    gone: AtomicBool,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(stream: StreamId, places: usize, tell: Box<dyn Notifier>) -> Self {
        Self {
            stream,
            tell,
            interest: AtomicU64::new(Interest::NOTHING.word()),
            removed: Queue::new(places),
            due: SharedDebts::default(),
            wide: SharedDebts::default(),
            is_wide: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    /// For workers, behind the fence that follows their invalidation. Acquire pairs with the release
    /// in [`say_again`](Self::say_again): what is not said any more has been answered.
    pub(super) fn interest(&self) -> Interest {
        Interest::from_word(self.interest.load(Ordering::Acquire))
    }

    /// The owner says more, before the fence behind which it looks up (in `Guards::open`, which
    /// pairs with the one in `Guards::mark`).
    pub(super) fn say(&self, interest: Interest) {
        self.interest.store(interest.word(), Ordering::Relaxed);
    }

    /// The owner says less: the device has answered that what is no longer said is gone.
    pub(super) fn say_again(&self, interest: Interest) {
        self.interest.store(interest.word(), Ordering::Release);
    }

    /// Hands over what a worker has removed. [`Notifier::told`] is due.
    pub(super) fn hand(&self, what: What, asking: Asking) {
        count(&self.counters.told, 1);
        self.due.note(asking);
        if self.removed.push(Removed { what, asking }).is_err() {
            self.widen(asking);
        }
    }

    /// Has everything that is lent taken back.
    pub(super) fn hand_everything(&self, asking: Asking) {
        count(&self.counters.told, 1);
        self.due.note(asking);
        self.widen(asking);
    }

    #[cold]
    fn widen(&self, asking: Asking) {
        count(&self.counters.widened, 1);
        self.wide.note(asking);
        // Release: who sees it sees what has been noted.
        self.is_wide.store(true, Ordering::Release);
    }

    /// The owner's: what was noted for "everything", if it was.
    pub(super) fn take_wide(&self) -> Option<Debts> {
        let is_wide = self.is_wide.load(Ordering::Relaxed);
        // Before the debts are taken: what is noted later says so anew.
        let taken = is_wide && self.is_wide.swap(false, Ordering::AcqRel);
        taken.then(|| self.wide.take())
    }

    /// The owner's: the next thing that was handed over.
    pub(super) fn take_one(&self) -> Option<Removed> {
        self.removed.pop()
    }

    /// The owner's: the device has answered. Release pairs with the acquire in
    /// [`is_settled_for`](Self::is_settled_for). Model: `law3_remote_reply_against_invalidation`.
    pub(super) fn settle(&self, debts: &Debts) {
        let answered = order(Site::RemoteAnswer, Ordering::Release);
        self.due.settle(debts, answered);
    }

    pub(super) fn is_settled_for(&self, ring: Option<u32>) -> bool {
        // Acquire: what the peer did before it was said to be gone is seen.
        self.gone.load(Ordering::Acquire) || self.due.are_settled_for(ring)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}
