//! An access that may be going on, as `smmu_core::guard` has it, and a backend that knows nothing else.

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, Scope, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use std::sync::{Arc, OnceLock};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

const OPEN: u64 = 1;
const WAITED: u64 = 2;

/// See the [module](self).
pub(crate) struct Access {
    /// What it uses: one page, or with `None` whatever is removed.
    page: Option<u64>,
    state: AtomicU64,
    /// The rings whose invalidations concern it.
    marks: AtomicU64,
    asked: AtomicU64,
    /// Relaxed: what makes it visible must be the engine's own publication.
    removed: AtomicU64,
    wake: OnceLock<Arc<dyn Wake>>,
}

impl Access {
    pub(crate) fn new(page: Option<u64>, goes_on: bool) -> LoomArc<Self> {
        LoomArc::new(Self {
            page,
            state: AtomicU64::new(u64::from(goes_on)),
            marks: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            wake: OnceLock::new(),
        })
    }

    /// The pages that have been removed, as the caller sees it.
    pub(crate) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// It ends; of two rings, those that wait are woken.
    pub(crate) fn end(&self) {
        if self.state.swap(0, Ordering::AcqRel) & WAITED == 0 {
            return;
        }
        let asked = self.asked.swap(0, Ordering::AcqRel);
        for ring in (0..2).filter(|ring| asked >> ring & 1 != 0) {
            self.wake.get().expect("attached").wake(WaiterId(ring));
        }
    }
}

/// The backend of that access.
pub(crate) struct Model(pub(crate) LoomArc<Access>);

impl Backend for Model {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::default()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let mut marks = 0;
        for (index, request) in batch.requests().enumerate() {
            if let Scope::Addresses { range, .. } = request.scope {
                let page = range.addr >> 12;
                let old = self.0.removed.load(Ordering::Relaxed);
                self.0.removed.store(old | 1 << page, Ordering::Relaxed);
                if self.0.page.is_none_or(|used| used == page) {
                    marks = batch.waiters_of(index).fold(marks, |all, w| all | 1 << w.0);
                }
            }
        }
        self.0.marks.fetch_or(marks, Ordering::AcqRel);
        Ok(())
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        let bit = 1 << waiter.0;
        let access = &*self.0;
        let marked = access.marks.load(Ordering::Acquire) & bit != 0;
        if !marked || access.state.load(Ordering::Acquire) & OPEN == 0 {
            return Barrier::Done;
        }
        access.asked.fetch_or(bit, Ordering::AcqRel);
        let mut state = OPEN;
        while state & OPEN != 0 {
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match access
                .state
                .compare_exchange(state, OPEN | WAITED, success, failure)
            {
                Ok(_) => return Barrier::Pending,
                Err(now) => state = now,
            }
        }
        Barrier::Done
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        assert!(self.0.wake.set(wake).is_ok(), "attached once");
    }

    fn fail_closed(&self, _stream: Option<smmu_core::StreamId>) {}
}
