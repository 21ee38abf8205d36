//! Requests of one VMID that go to a backend in one call.

use crate::backend::WaiterId;
use crate::invalidation::Invalidation;
use arrayvec::ArrayVec;
use smmu_core::Vmid;

/// The most requests in a batch; also the most commands that a window looks at.
#[cfg(not(loom))]
pub const MAX_BATCH: usize = 256;
/// Small enough for the stacks and the state space of a model.
#[cfg(loom)]
pub const MAX_BATCH: usize = 4;

/// One call's worth of work. Reused, so that dispatching allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    vmid: Vmid,
    waiter: WaiterId,
    requests: ArrayVec<Invalidation, MAX_BATCH>,
    origins: ArrayVec<u32, MAX_BATCH>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the batch and gives it a VMID.
    pub fn restart(&mut self, vmid: Vmid) {
        self.vmid = vmid;
        self.requests.clear();
        self.origins.clear();
    }

    /// Says whose next barrier covers the batch. Kept by [`restart`](Self::restart).
    pub fn set_waiter(&mut self, waiter: WaiterId) {
        self.waiter = waiter;
    }

    /// Whose next barrier covers the batch.
    #[must_use]
    pub fn waiter(&self) -> WaiterId {
        self.waiter
    }

    /// Adds a request of the batch's VMID. `origin` is the earliest command that it serves, as a
    /// position in the window: a failure is charged to that one.
    ///
    /// # Panics
    ///
    /// If the batch is full: a window has no more commands than a batch has room.
    pub fn push(&mut self, request: Invalidation, origin: u32) {
        self.requests.push(request);
        self.origins.push(origin);
    }

    /// The VMID of every request.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        self.vmid
    }

    /// The requests, in ring order of what they serve.
    #[must_use]
    pub fn requests(&self) -> &[Invalidation] {
        &self.requests
    }

    /// Where request `index` comes from.
    #[must_use]
    pub fn origin(&self, index: usize) -> u32 {
        self.origins[index]
    }

    /// Drops the first `count` requests: they are done.
    pub fn retire(&mut self, count: usize) {
        self.requests.drain(..count);
        self.origins.drain(..count);
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }
}
