//! Writes down what passes, with times, and passes it on. The example stands at
//! [`faulty`](super::faulty).

use super::{Backend, Rejected};
use crate::batch::Batch;
use smmu_core::StreamId;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A call that has returned.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it was for, as it was submitted.
    pub batch: Batch,
    /// When it was made, by the recorder's clock.
    pub began: Duration,
    /// When it returned.
    pub ended: Duration,
    /// What it said.
    pub result: Result<(), Rejected>,
}

impl Call {
    /// Whether both were under way at some moment.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.began < other.ended && other.began < self.ended
    }
}

/// Time since some fixed moment; only differences count.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// A backend in front of another one. May be asked from any thread.
pub struct Recorder<B> {
    inner: B,
    clock: Clock,
    calls: Mutex<Vec<Call>>,
    closed: Mutex<Vec<Option<StreamId>>>,
}

impl<B: std::fmt::Debug> std::fmt::Debug for Recorder<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Recorder<B> {
    /// Wraps `inner`; times are since now.
    pub fn new(inner: B) -> Self {
        let start = Instant::now();
        Self::with_clock(inner, move || start.elapsed())
    }

    /// The same with a clock of the test's.
    pub fn with_clock(inner: B, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            inner,
            clock: Box::new(clock),
            calls: Mutex::default(),
            closed: Mutex::default(),
        }
    }

    /// The backend behind.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Every batch so far, as it was submitted, and forgets them.
    pub fn take(&self) -> Vec<Batch> {
        let calls = self.take_calls().into_iter();
        calls.map(|call| call.batch).collect()
    }

    /// Every call that has returned so far, in the order in which they began, and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        let mut calls =
            std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        calls.sort_by_key(|call| call.began);
        calls
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
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let began = (self.clock)();
        let result = self.inner.submit(batch);
        let call = Call {
            batch: batch.clone(),
            began,
            ended: (self.clock)(),
            result,
        };
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
        result
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream);
        self.inner.fail_closed(stream);
    }

    crate::pass_on!(inner:
        capabilities, costs, barrier, overdue, take_unanswered, forget, set_ats_check,
        attach, configuration_changed, memory_changed, traffic_changed, traffic_settled);
}
