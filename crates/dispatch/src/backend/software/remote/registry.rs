//! The remotes of an instance: told by workers, asked by SYNCs.

use super::super::Software;
use super::super::quiesce::interest;
use super::debts::Asking;
use super::shared::{RemoteMetrics, Shared, What, count};
use crate::backend::WaiterId;
use crate::batch::Batch;
use crate::invalidation::Scope;
use smmu_core::StreamId;
use smmu_core::command::Cfgi;
use smmu_core::guard::Interest;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::weak::{Site, full_fence};

/// Rings that can be noted as waiting, in words; larger numbers share.
#[cfg(not(loom))]
const WORDS: usize = 64;
#[cfg(loom)]
const WORDS: usize = 1;

/// See the [module](self).
pub(in super::super) struct Remotes {
    count: AtomicUsize,
    list: Snapshot<Vec<Arc<Shared>>>,
    waiting: [AtomicU64; WORDS],
}

impl Default for Remotes {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            list: Snapshot::new(Vec::new()),
            waiting: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Remotes {
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Shared>>)) {
        let Ok(()) = self.list.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }

    pub(super) fn enter(&self, remote: &Arc<Shared>) {
        // Before the list, and before anything is lent: whoever invalidates looks at the list as soon
        // as there may be something. The fence of the first look up orders it as it does interests.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.change(|list| list.push(remote.clone()));
    }

    fn leave(&self, remote: &Arc<Shared>) {
        let mut was_there = false;
        self.change(|list| {
            was_there = list.iter().any(|other| Arc::ptr_eq(other, remote));
            list.retain(|other| !Arc::ptr_eq(other, remote));
        });
        if was_there {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn are_none(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// After a batch, and a full fence: hands its requests to the remotes that they may concern.
    /// `whom` is the union of their interests.
    #[inline]
    pub(in super::super) fn tell_batch(&self, batch: &Batch, whom: Interest) {
        if !self.are_none() {
            self.tell_some(batch, whom);
        }
    }

    #[cold]
    fn tell_some(&self, batch: &Batch, whom: Interest) {
        for remote in self.list.read().iter() {
            let lent = remote.interest();
            if !lent.meets(whom) {
                continue;
            }
            for (index, request) in batch.requests().enumerate() {
                // What is lent is not a cache that the guest knows of (ATS): ATC_INV is not for it.
                let is_translations = !matches!(request.scope, Scope::DeviceTlb { .. });
                if is_translations && interest(&request).meets(lent) {
                    let rings = batch.waiters_of(index).map(|WaiterId(ring)| ring);
                    remote.hand(What::Request(request), Asking::rings(rings));
                }
            }
            remote.tell.told();
        }
    }

    /// After a CFGI of a ring, and a full fence.
    pub(in super::super) fn tell_configuration(&self, change: &Cfgi, WaiterId(ring): WaiterId) {
        if self.are_none() {
            return;
        }
        for remote in self.list.read().iter() {
            let lends = remote.interest() != Interest::NOTHING;
            if lends && change.concerns(remote.stream) {
                let asking = Asking::rings([ring].into_iter());
                remote.hand(What::Configuration(*change), asking);
                remote.tell.told();
            }
        }
    }

    /// After an exchange of what translations start from, and a full fence: everything that is lent to
    /// streams that are `concerned` has to come back, for everybody.
    pub(in super::super) fn tell_everything(&self, concerned: impl Fn(StreamId) -> bool) {
        if self.are_none() {
            return;
        }
        for remote in self.list.read().iter() {
            if remote.interest() != Interest::NOTHING && concerned(remote.stream) {
                remote.hand_everything(Asking::EVERYBODY);
                remote.tell.told();
            }
        }
    }

    fn are_settled_for(&self, ring: Option<u32>) -> bool {
        let list = self.list.read();
        list.iter().all(|remote| remote.is_settled_for(ring))
    }

    /// Whether no answer is due that a ring's SYNC waits for. If one is, the ring is woken.
    #[inline]
    pub(in super::super) fn are_quiet(&self, WaiterId(ring): WaiterId) -> bool {
        self.are_none() || self.ask(ring)
    }

    #[cold]
    fn ask(&self, ring: u32) -> bool {
        // law3l: a device that has been told is taken to have dropped it.
        if vcmdq_sync::broken!(break_law3l) || self.are_settled_for(Some(ring)) {
            return true;
        }
        let place = ring as usize % (WORDS * 64);
        self.waiting[place / 64].fetch_or(1 << (place % 64), Ordering::AcqRel);
        // Pairs with the fence in `wake`: who settles sees the ring noted, or it is seen here.
        // Model: `law3_remote_answer_wakes_who_waits`.
        full_fence(Site::RemoteWaiter);
        self.are_settled_for(Some(ring))
    }

    /// Whether no answer is due to who has exchanged registers or memory.
    pub(in super::super) fn have_given_back(&self) -> bool {
        self.are_none() || self.are_settled_for(None)
    }

    /// Behind a settled debt: calls `wake` with the number of every ring that is noted as waiting.
    fn wake(&self, mut wake: impl FnMut(u32)) {
        full_fence(Site::RemoteWaiter);
        for (index, word) in (0u32..).zip(&self.waiting) {
            let mut bits = word.load(Ordering::Relaxed);
            if bits != 0 {
                bits = word.swap(0, Ordering::AcqRel);
            }
            while bits != 0 {
                wake(index * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }

    /// Tells the remotes that a ring waits for; the result are their streams.
    pub(in super::super) fn tell_overdue(
        &self,
        WaiterId(ring): WaiterId,
        waited: Duration,
    ) -> Vec<StreamId> {
        if self.are_none() {
            return Vec::new();
        }
        // A copy: whoever is told may end the registration.
        let mut late = self.list.read().as_ref().clone();
        late.retain(|remote| !remote.is_settled_for(Some(ring)));
        for remote in &late {
            count(&remote.counters.overdue, 1);
            remote.tell.overdue(waited);
        }
        late.iter().map(|remote| remote.stream).collect()
    }
}

impl Software {
    pub(super) fn answered(&self) {
        if let Some(wake) = self.wake.get() {
            self.remotes.wake(|ring| wake.wake(WaiterId(ring)));
        }
    }
}

/// A remote, for who does not own it: the VMM, which learns that the peer is gone.
#[derive(Clone)]
pub struct RemoteHandle {
    pub(super) core: Arc<Software>,
    pub(super) shared: Arc<Shared>,
}

impl RemoteHandle {
    /// Says that *the peer has no mapping of guest memory any more*: it has closed it and said so, or
    /// its process has ended and been waited for. A closed socket alone is no such proof. From here
    /// on no SYNC waits for it, and nothing is lent. Control path: may wait for a
    /// worker that tells remotes. Not to be called by [`Notifier::told`](super::Notifier::told); may be
    /// called from [`Overdue`](crate::backend::software::Overdue).
    pub fn gone(&self) {
        self.shared.set_gone();
        self.core.remotes.leave(&self.shared);
        self.core.answered();
    }

    /// Whether [`gone`](Self::gone) has been said.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.shared.is_gone()
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.shared.stream
    }

    /// What it has done so far. Any thread; never blocks.
    #[must_use]
    pub fn metrics(&self) -> RemoteMetrics {
        self.shared.counters.read()
    }
}

impl fmt::Debug for RemoteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle")
            .field("stream", &self.shared.stream)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
