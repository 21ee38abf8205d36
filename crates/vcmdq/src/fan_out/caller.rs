//! A thread that makes one instance's calls while a worker makes another one's.

use super::calls::make_calls;
use super::hand_over::HandOver;
use super::patience::Patience;
use dispatch::coalesce::Coalescer;
use dispatch::dispatch::Report;
use dispatch::{Backend, Batch};
use smmu_core::StreamId;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a panic has left.
pub(crate) type Payload = Box<dyn Any + Send>;

/// What the thread needs for a window; allocated once.
struct Job {
    share: Coalescer,
    batch: Batch,
    report: Report,
    died: Option<Payload>,
}

/// See the [module](self).
pub(crate) struct Caller {
    over: HandOver<Job>,
    backend: Arc<dyn Backend>,
    patience: Patience,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

impl Caller {
    pub(crate) fn new(backend: Arc<dyn Backend>, patience: Patience) -> Self {
        let job = Job {
            share: Coalescer::new(&backend.capabilities()),
            batch: Batch::new(),
            report: Report::default(),
            died: None,
        };
        Self {
            over: HandOver::new(job),
            backend,
            patience,
        }
    }

    /// The thread, until it is told to leave.
    pub(crate) fn run(&self) {
        self.over
            .serve(&self.patience, |job| job.work(&*self.backend));
    }

    /// The thread is to leave when it has done what it is at.
    pub(crate) fn close(&self) {
        self.over.close();
    }

    /// Leaves the calls of `member` to the thread: its share of a window. False if another ring's
    /// are there.
    pub(super) fn post(
        &self,
        member: u32,
        batch: &Batch,
        window: &Coalescer,
        mine: impl Fn(StreamId) -> bool,
    ) -> bool {
        self.over.post(|job| {
            window.share_with(&mut job.share, mine);
            job.batch.set_waiters(batch.waiters().iter().copied());
            job.report.clear();
            job.report.member = member;
        })
    }

    /// Waits for those calls, or makes them here if nobody has begun, and adds what came of them. What
    /// a panic has left, if they ended so.
    pub(super) fn finish(&self, report: &mut Report) -> Option<Payload> {
        let mut died = None;
        let work = |job: &mut Job| job.work(&*self.backend);
        self.over.finish(&self.patience, work, |job| {
            died = job.died.take();
            // law4i: what fails on another thread is nobody's.
            if !vcmdq_sync::broken!(break_law4i) {
                report.take_over(&mut job.report);
            }
        });
        died
    }
}

impl Job {
    fn work(&mut self, backend: &dyn Backend) {
        let Self {
            share,
            batch,
            report,
            ..
        } = self;
        self.died = caught(|| make_calls(backend, share, batch, report, |_| true));
    }
}

/// Works, and gives back what a panic leaves.
pub(super) fn caught(work: impl FnOnce()) -> Option<Payload> {
    // A model that fails does so by unwinding, which must not be caught.
    if cfg!(loom) {
        work();
        return None;
    }
    catch_unwind(AssertUnwindSafe(work)).err()
}
