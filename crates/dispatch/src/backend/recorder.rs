//! Writes down what passes, and passes it on.

use super::{Backend, BackendCapabilities, Barrier, Rejected, Traffic, WaiterId, Wake};
use crate::batch::Batch;
use crate::costs::Costs;
use smmu_core::command::Cfgi;
use smmu_core::{GuestMemory, StreamId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A backend in front of another one.
#[derive(Debug)]
pub struct Recorder<B> {
    inner: B,
    batches: Mutex<Vec<Batch>>,
    closed: Mutex<Vec<Option<StreamId>>>,
}

impl<B: Backend> Recorder<B> {
    /// Wraps `inner`.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            batches: Mutex::default(),
            closed: Mutex::default(),
        }
    }

    /// The backend behind.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Every batch so far, as it was submitted, and forgets them.
    pub fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.batches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was failed closed so far.
    pub fn closed(&self) -> Vec<Option<StreamId>> {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the backend behind it never hears of"
)]
impl<B: Backend> Backend for Recorder<B> {
    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    fn costs(&self) -> Costs {
        self.inner.costs()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(batch.clone());
        self.inner.submit(batch)
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
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
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream);
        self.inner.fail_closed(stream);
    }
}
