//! STAGE backend: what executes a batch.

use crate::batch::Batch;
use crate::costs::Costs;
use smmu_core::command::Cfgi;
use smmu_core::{GuestMemory, StreamId};
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub mod pass_on;
#[cfg(any(test, feature = "testing"))]
pub mod recorder;
pub mod software;
mod traffic;

pub use software::{
    AtcAnswer, AtcMetrics, AtcTarget, DeviceCache, DeviceTimeout, Software, SoftwareSettings,
};
pub use traffic::Traffic;

/// Why a backend did not take the rest of a batch.
///
/// None of these is ever the guest's fault: what reaches a backend has been found legal
/// (law 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// Nothing wrong, try again (out of memory for a moment, interrupted call).
    #[error("the backend asks to be called again")]
    Again,
    /// The backend cannot carry out this one request in this form.
    #[error("the backend cannot carry out the request in this form")]
    Unsupported,
    /// The request may or may not have taken effect: the hardware did not answer in time.
    #[error("the hardware behind the backend did not answer in time")]
    TimedOut,
    /// A device did not answer an invalidation of its own cache: the guest's SYNC says so
    /// (CERROR_ATC_INV).
    #[error("a device did not answer the invalidation of its translation cache")]
    DeviceTimedOut,
    /// The device or the hardware behind the backend is no longer there.
    #[error("what the request is about is no longer there")]
    Gone,
}

/// A batch was accepted up to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{accepted} requests were accepted, then: {cause}")]
pub struct Rejected {
    /// Requests `..accepted` have certainly taken effect. Of the others nothing is certain.
    pub accepted: usize,
    /// Why request `accepted` was not.
    #[source]
    pub cause: Cause,
}

/// What a backend can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendCapabilities {
    /// Ranges with a granule are understood; else every page is a request of its own.
    pub ranges: bool,
    /// Ranges without a granule are understood as well, as "every entry that overlaps them, of
    /// whatever granule and size". The architecture has no such command: a host that passes
    /// requests on to an SMMU says no. Means nothing without `ranges`.
    pub ranges_of_any_granule: bool,
    /// The backend keeps context descriptors and must hear of CFGI_CD.
    pub caches_contexts: bool,
    /// A call can block (a system call, slow hardware): law 11 applies.
    pub may_block: bool,
    /// The most bytes of one address space that are cheaper to remove by address than by
    /// [`Scope::ContextAndGlobals`](crate::Scope::ContextAndGlobals).
    pub widen_above: u64,
}

/// The least: single pages, no context descriptors, no call that blocks, and nothing that is cheaper than
/// removal by address.
impl Default for BackendCapabilities {
    fn default() -> Self {
        Self {
            ranges: false,
            ranges_of_any_granule: false,
            caches_contexts: false,
            may_block: false,
            widen_above: u64::MAX,
        }
    }
}

impl BackendCapabilities {
    /// What both can do: for requests that go to several backends.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ranges: self.ranges && other.ranges,
            ranges_of_any_granule: self.ranges_of_any_granule && other.ranges_of_any_granule,
            caches_contexts: self.caches_contexts || other.caches_contexts,
            may_block: self.may_block || other.may_block,
            widen_above: self.widen_above.min(other.widen_above),
        }
    }
}

/// Names who waits for a barrier; means something to the caller only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WaiterId(pub u32);

/// Told when a pending barrier is done.
pub trait Wake: Send + Sync {
    /// Called from any thread, once for each barrier that was [`Barrier::Pending`]. Must not
    /// block, and may not call the backend.
    fn wake(&self, waiter: WaiterId);
}

/// The answer to "is everything before this SYNC done?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Yes.
    Done,
    /// Not yet: a DMA still uses what was removed. [`Wake::wake`] will be called.
    Pending,
}

/// Executes batches.
///
/// All methods may be called from several threads at once, each for other rings. A frame's instances whose
/// calls block or are long are called on different threads at the same time.
pub trait Backend: Send + Sync {
    /// What it can be asked for; constant.
    fn capabilities(&self) -> BackendCapabilities;

    /// What batches cost by now. Asked from workers at the beginning of a slice, each time or every few
    /// slices: must be cheap. The worker ends a window when its share is used up, unless a call [may
    /// block](BackendCapabilities::may_block): then it is made for whole windows. The same is done
    /// for [long calls](Costs::is_long_call), if this says so when the backend is put behind a frame.
    fn costs(&self) -> Costs {
        Costs::default()
    }

    /// Executes a batch, whole or up to an index. When it returns `Ok`, no *new* access
    /// uses what was removed; accesses that had begun are [`barrier`](Self::barrier)'s matter.
    /// Requests may take effect in any order and more may be removed than was asked for.
    fn submit(&self, batch: &Batch) -> Result<(), Rejected>;

    /// Whether accesses that began before the invalidations submitted so far have ended
    /// (law 3). If not, `waiter` is woken when they have, and this is asked again.
    fn barrier(&self, waiter: WaiterId) -> Barrier;

    /// A barrier of `waiter` has been pending for `waited`: time to tell whoever delays it.
    /// Returns how long the waiter must have waited before this is to be called again, `None` for
    /// "not again". So the first call, with zero, asks for the first limit. Never completes anything:
    /// the barrier stays pending.
    fn overdue(&self, waiter: WaiterId, waited: Duration) -> Option<Duration> {
        let _ = (waiter, waited);
        None
    }

    /// Whether a device did not answer an invalidation of its own cache that a batch of `waiter` asked
    /// for, and nobody has been told yet: its SYNC says so (CERROR_ATC_INV). Asked when every
    /// barrier is done; answered with `true` once. For backends that take such requests before
    /// they are answered.
    fn take_unanswered(&self, waiter: WaiterId) -> bool {
        let _ = waiter;
        false
    }

    /// The ring of `waiter` begins anew, or is another one now: it does not wait for devices'
    /// answers to what it asked before, nor hears of those that do not come.
    fn forget(&self, waiter: WaiterId) {
        let _ = waiter;
    }

    /// CR0.ATSCHK: whether transactions that a device has translated itself are checked against the
    /// stream's STE. Followed by [`traffic_changed`](Self::traffic_changed), behind which nothing
    /// goes by the old value. Must not wait.
    fn set_ats_check(&self, checks: bool) {
        let _ = checks;
    }

    /// Gives the backend the callback for its pending barriers. Called once, before the first
    /// batch.
    fn attach(&self, wake: Arc<dyn Wake>);

    /// A CFGI command of the ring of `waiter` has come: configuration that was read before is not
    /// true any more, and the ring's next barrier waits for accesses that use it. In ring order.
    /// Nothing to do for a backend that reads no configuration of the guest.
    fn configuration_changed(&self, change: &Cfgi, waiter: WaiterId) {
        let _ = (change, waiter);
    }

    /// The map of guest memory has been exchanged. When it returns, the backend does not use the
    /// old one any more (law 9). Control path: may wait. Nothing to do for a backend that
    /// reads no guest memory.
    fn memory_changed(&self, memory: Arc<dyn GuestMemory>) {
        let _ = memory;
    }

    /// What the frame's registers say about its streams' traffic has changed: SMMUEN, or GBPA
    /// while it is 0. Accesses that begin when this has returned go by it; those that began before
    /// may go on, and [`traffic_settled`](Self::traffic_settled) tells when none is left. Called
    /// from vCPU threads, one at a time: must not wait. Nothing to do for a backend that
    /// translates nothing itself.
    fn traffic_changed(&self, traffic: &Traffic) {
        let _ = traffic;
    }

    /// Whether no access goes on by anything older than the last
    /// [`traffic_changed`](Self::traffic_changed). Called from any thread: must not wait.
    fn traffic_settled(&self) -> bool {
        true
    }

    /// Last rung of the ladder (law 4): from now on accesses of `stream`, or of every stream, end
    /// in an abort, and nothing cached for them is used any more. Must not fail. What else of a window names
    /// the stream, and is refused then, is not asked for again.
    fn fail_closed(&self, stream: Option<StreamId>);
}
