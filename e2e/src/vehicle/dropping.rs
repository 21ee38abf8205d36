//! A backend that loses invalidations on purpose: what the checks in the guest must notice.

use super::seen::Seen;
use dispatch::backend::Software;
use dispatch::{Backend, Batch, Rejected};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The software backend, but once it is armed every Nth batch of TLB invalidations is reported as
/// done and is not.
#[derive(Debug)]
pub struct Dropping {
    core: Arc<Software>,
    every: Option<u64>,
    armed: AtomicBool,
    batches: AtomicU64,
    dropped: AtomicU64,
    seen: Option<Seen>,
}

impl Dropping {
    /// Loses each batch whose number, from [`arm`](Self::arm) on, is a multiple of `every`; none
    /// without it.
    #[must_use]
    pub fn new(core: Arc<Software>, every: Option<u64>) -> Self {
        Self {
            core,
            every: every.filter(|&every| every > 0),
            armed: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            seen: None,
        }
    }

    /// Counts the requests that come, too.
    #[must_use]
    pub fn and_see(self) -> Self {
        Self {
            seen: Some(Seen::default()),
            ..self
        }
    }

    /// The requests that came, whether they were lost or not.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Begins. A guest that loses invalidations from its start may not even find its disk, and then
    /// no check of contents is made.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Requests lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn loses(&self, batch: &Batch) -> bool {
        let Some(every) = self.every.filter(|_| self.armed.load(Ordering::Relaxed)) else {
            return false;
        };
        // Translations, not what a device caches itself: those name a stream.
        if batch.requests().any(|request| request.stream().is_some()) {
            return false;
        }
        let number = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        number % every == 0
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the backend behind it never hears of"
)]
impl Backend for Dropping {
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        if let Some(seen) = &self.seen {
            seen.note(batch);
        }
        if self.loses(batch) {
            self.dropped
                .fetch_add(batch.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        self.core.submit(batch)
    }

    dispatch::pass_on!(core:
        capabilities, costs, barrier, overdue, take_unanswered, forget, set_ats_check,
        attach, configuration_changed, memory_changed, traffic_changed, traffic_settled,
        fail_closed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dispatch::{Invalidation, Scope, Stage};
    use smmu_core::{Asid, Vmid};

    fn batch(scope: Scope) -> Batch {
        let mut batch = Batch::new();
        batch.restart(Vmid(0));
        let request = Invalidation {
            vmid: Vmid(0),
            stage: Stage::One,
            scope,
        };
        batch.push(request, 0);
        batch
    }

    fn submit(backend: &Dropping, scope: Scope, times: u32) -> u64 {
        for _ in 0..times {
            assert!(backend.submit(&batch(scope)).is_ok(), "it says it is done");
        }
        backend.dropped()
    }

    #[test]
    fn every_nth_batch_is_lost_once_it_is_armed() {
        let backend = Dropping::new(Arc::default(), Some(3));
        let context = Scope::Context(Asid(1));
        assert_eq!(submit(&backend, context, 3), 0);
        backend.arm();
        assert_eq!(submit(&backend, context, 2), 0);
        assert_eq!(submit(&backend, context, 1), 1);
        assert_eq!(submit(&backend, context, 3), 2);
    }

    #[test]
    fn without_a_number_nothing_is_lost() {
        let backend = Dropping::new(Arc::default(), None);
        backend.arm();
        assert_eq!(submit(&backend, Scope::Vmid, 10), 0);
    }
}
