//! Fails, delays and blocks on demand, and otherwise passes on to another backend.
//!
//! ```
//! use dispatch::backend::faulty::{At, Fault, Faulty};
//! use dispatch::backend::{Software, recorder::Recorder};
//! use dispatch::dispatch::{Report, dispatch};
//! use dispatch::{Batch, Cause, Invalidation, Scope, Stage};
//! use smmu_core::{Asid, Vmid};
//!
//! let backend = Recorder::new(Faulty::new(Software::default()));
//! // The second request cannot be carried out as it is, however often it comes.
//! backend.inner().inject(Fault::new(At::Nth(1), Cause::Unsupported));
//!
//! let mut batch = Batch::new();
//! for asid in 0..3 {
//!     let scope = Scope::Context(Asid(asid));
//!     batch.push(Invalidation { vmid: Vmid(0), stage: Stage::One, scope }, asid.into());
//! }
//! let mut report = Report::default();
//! dispatch(&backend, &mut batch, &mut report);
//!
//! assert_eq!((report.widened, report.failed_closed.len()), (1, 0));
//! let calls = backend.take_calls();
//! let results: Vec<_> = calls.iter().map(|call| call.result.map_err(|e| e.cause)).collect();
//! let refused = Err(Cause::Unsupported);
//! // The batch; the request alone; something wider in its place; the rest.
//! assert_eq!(results, [refused, refused, Ok(()), Ok(())]);
//! ```

mod fault;

pub use fault::{At, Fault};

use super::{Backend, BackendCapabilities, Barrier, Cause, Rejected, WaiterId, Wake};
use crate::batch::Batch;
use fault::{Armed, strike};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// Called at the beginning of a call, with its batch.
type Hook = Arc<dyn Fn(&Batch) + Send + Sync>;

/// A backend in front of another one, with a script. May be told what to do from any thread.
pub struct Faulty<B> {
    inner: B,
    may_block: bool,
    script: Mutex<VecDeque<Verdict>>,
    faults: Mutex<Vec<Armed>>,
    hook: Mutex<Option<Hook>>,
    /// In nanoseconds.
    delay: AtomicU64,
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend> Faulty<B> {
    /// Wraps `inner`; passes everything until told otherwise.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            may_block: false,
            script: Mutex::default(),
            faults: Mutex::default(),
            hook: Mutex::default(),
            delay: AtomicU64::new(0),
            hold: AtomicBool::new(false),
            waiting: Mutex::default(),
            wake: Mutex::default(),
        }
    }

    /// The same, but says that [its calls may block](BackendCapabilities::may_block), like a host's.
    pub fn blocking(inner: B) -> Self {
        Self {
            may_block: true,
            ..Self::new(inner)
        }
    }

    /// The backend behind.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The verdicts of the next calls, before faults; after them, everything else passes.
    pub fn script(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        locked(&self.script).extend(verdicts);
    }

    /// One more thing that goes wrong from now on.
    pub fn inject(&self, fault: Fault) {
        locked(&self.faults).push(Armed::new(fault));
    }

    /// Nothing goes wrong any more, and no call is delayed or hooked.
    pub fn heal(&self) {
        locked(&self.script).clear();
        locked(&self.faults).clear();
        *locked(&self.hook) = None;
        self.delay.store(0, Ordering::Relaxed);
    }

    /// Each call takes so much longer.
    pub fn delay(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.delay.store(nanos, Ordering::Relaxed);
    }

    /// Each call begins with `hook`, on the thread that makes it: it may wait there for what the test
    /// likes (a latch), note who called, or panic.
    pub fn hook(&self, hook: impl Fn(&Batch) + Send + Sync + 'static) {
        *locked(&self.hook) = Some(Arc::new(hook));
    }

    /// From now on barriers are pending, as if a DMA used what was removed.
    pub fn hold_barriers(&self) {
        self.hold.store(true, Ordering::SeqCst);
    }

    /// The DMA has ended: barriers are done and whoever waits is woken.
    pub fn release_barriers(&self) {
        self.hold.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *locked(&self.waiting));
        let wake = locked(&self.wake).clone();
        if let Some(wake) = wake {
            waiting.into_iter().for_each(|waiter| wake.wake(waiter));
        }
    }

    /// The delay, then the hook.
    fn begin(&self, batch: &Batch) {
        let hook = locked(&self.hook).clone();
        let delay = Duration::from_nanos(self.delay.load(Ordering::Relaxed));
        let start = Instant::now();
        while start.elapsed() < delay {
            vcmdq_sync::thread::yield_now();
        }
        // No lock is held meanwhile: it may panic, or wait for other calls.
        if let Some(hook) = hook {
            hook(batch);
        }
    }

    /// How many of a batch are executed, and what the call says then; nothing if it passes.
    fn verdict(&self, batch: &Batch) -> Option<(usize, Rejected)> {
        match locked(&self.script).pop_front() {
            Some(Verdict::Pass) => None,
            Some(Verdict::Refuse { take, say, cause }) => {
                let accepted = say;
                Some((take, Rejected { accepted, cause }))
            }
            None => strike(&mut locked(&self.faults), batch),
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the backend behind it never hears of"
)]
impl<B: Backend> Backend for Faulty<B> {
    fn capabilities(&self) -> BackendCapabilities {
        let inner = self.inner.capabilities();
        BackendCapabilities {
            may_block: inner.may_block || self.may_block,
            ..inner
        }
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        self.begin(batch);
        let Some((take, rejected)) = self.verdict(batch) else {
            return self.inner.submit(batch);
        };
        let mut part = Batch::like(batch);
        for (index, request) in batch.requests().take(take).enumerate() {
            part.push_for(batch.rings_of(index), request, batch.origin(index));
        }
        if !part.is_empty() {
            self.inner.submit(&part)?;
        }
        Err(rejected)
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        let mut waiting = locked(&self.waiting);
        if self.hold.load(Ordering::SeqCst) {
            waiting.push(waiter);
            return Barrier::Pending;
        }
        self.inner.barrier(waiter)
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        *locked(&self.wake) = Some(wake.clone());
        self.inner.attach(wake);
    }

    crate::pass_on!(inner:
        costs, overdue, take_unanswered, forget, set_ats_check, configuration_changed,
        memory_changed, traffic_changed, traffic_settled, fail_closed);
}
