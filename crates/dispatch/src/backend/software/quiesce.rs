//! Which guards an invalidation could match, and who waits for them (law 3).

use super::Software;
use crate::backend::{Barrier, WaiterId};
use crate::batch::Batch;
use crate::invalidation::{Invalidation, Scope, Stage};
use smmu_core::command::Cfgi;
use smmu_core::guard::{Mark, Use};

/// Whether a request could remove what a guard uses. Wider than what the translation cache
/// removes is allowed, narrower is not.
fn could_match(request: &Invalidation, used: &Use) -> bool {
    if request.stage != Stage::One {
        // Entries that combine both stages do not say which intermediate addresses they used.
        return used.vmid == request.vmid || request.scope == Scope::All;
    }
    match request.scope {
        Scope::All => true,
        Scope::Vmid => used.vmid == request.vmid,
        Scope::Context(asid) => used.in_context(request.vmid, asid, false),
        Scope::ContextAndGlobals(asid) => used.in_context(request.vmid, asid, true),
        Scope::Addresses { asid, range } => used.touched_by(request.vmid, asid, &range),
        Scope::DeviceTlb { .. } => false,
        Scope::ContextTable { stream, .. } => used.stream == stream,
    }
}

impl Software {
    /// After a batch: marks the guards that its ring's next SYNC has to wait for, and tells the
    /// watches.
    #[inline]
    pub(super) fn mark_batch(&self, batch: &Batch) {
        // The sweep's own fence, or the one in `mark`, orders this look against a first lease.
        if self.guards.is_unused() {
            return;
        }
        let mark = Mark::of(batch.waiter().0);
        self.guards.mark(mark, |used| {
            batch.requests().iter().any(|r| could_match(r, used))
        });
        self.watches
            .tell(|used| batch.requests().iter().any(|r| could_match(r, used)));
    }

    pub(super) fn mark_configuration(&self, change: &Cfgi, waiter: WaiterId) {
        self.guards
            .mark(Mark::of(waiter.0), |used| change.concerns(used.stream));
        self.watches.tell(|used| change.concerns(used.stream));
    }

    pub(super) fn barrier_of(&self, waiter: WaiterId) -> Barrier {
        if self.guards.is_unused() || self.guards.quiesced(Mark::of(waiter.0)) {
            Barrier::Done
        } else {
            Barrier::Pending
        }
    }

    /// Waits until every guard that is open now has been closed. Control paths only.
    pub(super) fn wait_for_all_guards(&self) {
        let mark = Mark::EVERYBODY;
        self.guards.mark(mark, |_| true);
        self.watches.tell(|_| true);
        while !self.guards.quiesced(mark) {
            vcmdq_sync::thread::yield_now();
        }
    }

    pub(super) fn wake_waiters(&self) {
        if let Some(wake) = self.wake.get() {
            self.guards.wake(|ring| wake.wake(WaiterId(ring)));
        }
    }
}
