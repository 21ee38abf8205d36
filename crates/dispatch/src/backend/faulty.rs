//! Fails on demand, and otherwise passes on to another backend.

use super::{Backend, BackendCapabilities, Barrier, Cause, Rejected, Traffic, WaiterId, Wake};
use crate::batch::Batch;
use crate::costs::Costs;
use smmu_core::command::Cfgi;
use smmu_core::{GuestMemory, StreamId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, Ordering};

/// What one call is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass on.
    Pass,
    /// Execute the first `take` requests, then refuse with `cause`, telling `say` as the count.
    Refuse {
        /// How many are really executed.
        take: usize,
        /// How many it says were.
        say: usize,
        /// Why.
        cause: Cause,
    },
}

/// A backend in front of another one, with a script.
pub struct Faulty<B> {
    inner: B,
    script: Mutex<VecDeque<Verdict>>,
    hold: AtomicBool,
    waiting: Mutex<Vec<WaiterId>>,
    wake: Mutex<Option<Arc<dyn Wake>>>,
}

impl<B: std::fmt::Debug> std::fmt::Debug for Faulty<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Faulty<B> {
    /// Wraps `inner`; passes everything until told otherwise.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            script: Mutex::default(),
            hold: AtomicBool::new(false),
            waiting: Mutex::default(),
            wake: Mutex::default(),
        }
    }

    /// The backend behind.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The verdicts of the next calls; after them, everything passes.
    pub fn script(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        self.script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(verdicts);
    }

    /// From now on barriers are pending, as if a DMA used what was removed.
    pub fn hold_barriers(&self) {
        self.hold.store(true, Ordering::SeqCst);
    }

    /// The DMA has ended: barriers are done and whoever waits is woken.
    pub fn release_barriers(&self) {
        self.hold.store(false, Ordering::SeqCst);
        let waiting =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let wake = self
            .wake
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(wake) = wake {
            waiting.into_iter().for_each(|waiter| wake.wake(waiter));
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the backend behind it never hears of"
)]
impl<B: Backend> Backend for Faulty<B> {
    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    fn costs(&self) -> Costs {
        self.inner.costs()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let verdict = self
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(Verdict::Refuse { take, say, cause }) = verdict else {
            return self.inner.submit(batch);
        };
        let mut part = Batch::like(batch);
        for (index, request) in batch.requests().take(take).enumerate() {
            part.push_for(batch.rings_of(index), request, batch.origin(index));
        }
        self.inner.submit(&part)?;
        Err(Rejected {
            accepted: say,
            cause,
        })
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.hold.load(Ordering::SeqCst) {
            waiting.push(waiter);
            return Barrier::Pending;
        }
        self.inner.barrier(waiter)
    }

    fn overdue(&self, waiter: WaiterId, waited: Duration) -> Option<Duration> {
        self.inner.overdue(waiter, waited)
    }

    fn take_unanswered(&self, waiter: WaiterId) -> bool {
        self.inner.take_unanswered(waiter)
    }

    fn forget(&self, waiter: WaiterId) {
        self.inner.forget(waiter);
    }

    fn set_ats_check(&self, checks: bool) {
        self.inner.set_ats_check(checks);
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake.clone());
        self.inner.attach(wake);
    }

    fn configuration_changed(&self, change: &Cfgi, waiter: WaiterId) {
        self.inner.configuration_changed(change, waiter);
    }

    fn memory_changed(&self, memory: Arc<dyn GuestMemory>) {
        self.inner.memory_changed(memory);
    }

    fn traffic_changed(&self, traffic: &Traffic) {
        self.inner.traffic_changed(traffic);
    }

    fn traffic_settled(&self) -> bool {
        self.inner.traffic_settled()
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.inner.fail_closed(stream);
    }
}
