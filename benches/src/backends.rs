//! Backends to measure against.

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Costs, Rejected, WaiterId, Wake};
use smmu_core::StreamId;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Takes every batch and does nothing: what is left is the engine's own cost.
#[derive(Clone, Copy, Debug)]
pub struct Nothing {
    /// What it says that it can do: that of the backend it stands for, so that the same requests
    /// come out of the coalescer.
    pub capabilities: BackendCapabilities,
    /// What it says that it costs: so that windows end at the same commands.
    pub costs: Costs,
}

impl Nothing {
    /// In the place of another one.
    #[must_use]
    pub fn instead_of(backend: &dyn Backend) -> Self {
        Self {
            capabilities: backend.capabilities(),
            costs: backend.costs(),
        }
    }
}

impl Backend for Nothing {
    fn capabilities(&self) -> BackendCapabilities {
        self.capabilities
    }

    fn costs(&self) -> Costs {
        self.costs
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        std::hint::black_box(batch);
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// What a host's call would cost, where a host is not there: time that the caller spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedCost {
    /// Once for each call.
    pub per_call: Duration,
    /// Once for each request in it.
    pub per_command: Duration,
}

impl InjectedCost {
    /// A host's system call, and a physical SMMU behind it.
    pub const HOST: Self = Self {
        per_call: Duration::from_micros(5),
        per_command: Duration::from_nanos(2400),
    };
    /// The system call alone.
    pub const CALL: Self = Self {
        per_call: Duration::from_micros(5),
        per_command: Duration::ZERO,
    };

    fn of(self, requests: usize) -> Duration {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        self.per_call + self.per_command * requests
    }

    /// As a backend says it.
    fn said(self) -> Costs {
        let nanos = |time: Duration| u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        Costs {
            call: nanos(self.per_call),
            request: nanos(self.per_command),
            ..Costs::NOTHING
        }
    }
}

/// What a [`Costly`] has been asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostlyCounts {
    /// Calls.
    pub calls: u64,
    /// Requests in them.
    pub commands: u64,
}

/// Another backend at a price: after each call the caller's thread spins, by the clock, for what
/// the call is to cost on top.
pub struct Costly {
    inner: Arc<dyn Backend>,
    cost: InjectedCost,
    may_block: bool,
    says_price: bool,
    calls: AtomicU64,
    commands: AtomicU64,
}

impl std::fmt::Debug for Costly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Costly")
            .field("cost", &self.cost)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Costly {
    /// Around another one.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, cost: InjectedCost) -> Self {
        Self {
            may_block: inner.capabilities().may_block,
            says_price: false,
            inner,
            cost,
            calls: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        }
    }

    /// The same, saying of its calls that they can block, or cannot.
    #[must_use]
    pub fn may_block(mut self, may_block: bool) -> Self {
        self.may_block = may_block;
        self
    }

    /// The same, saying what its calls cost. Else it says what the one inside costs: what is injected
    /// is waited for, which is no reason for smaller calls.
    #[must_use]
    pub fn says_price(mut self) -> Self {
        self.says_price = true;
        self
    }

    /// What it has been asked for so far. From any thread.
    #[must_use]
    pub fn counts(&self) -> CostlyCounts {
        CostlyCounts {
            calls: self.calls.load(Ordering::Relaxed),
            commands: self.commands.load(Ordering::Relaxed),
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the backend behind it never hears of"
)]
impl Backend for Costly {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: self.may_block,
            ..self.inner.capabilities()
        }
    }

    fn costs(&self) -> Costs {
        let inner = self.inner.costs();
        if self.says_price {
            inner.and(self.cost.said())
        } else {
            inner
        }
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let requests = batch.len();
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(requests as u64, Ordering::Relaxed);
        let result = self.inner.submit(batch);
        let done = Instant::now() + self.cost.of(requests);
        while Instant::now() < done {
            spin_loop();
        }
        result
    }

    dispatch::pass_on!(inner:
        barrier, overdue, take_unanswered, forget, set_ats_check, attach,
        configuration_changed, memory_changed, traffic_changed, traffic_settled, fail_closed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dispatch::Invalidation;
    use dispatch::backend::Software;

    #[test]
    fn each_call_and_each_request_is_paid_for() {
        let cost = InjectedCost {
            per_call: Duration::from_micros(50),
            per_command: Duration::from_micros(100),
        };
        let costly = Costly::new(Arc::new(Software::default()), cost);
        let mut batch = Batch::new();
        batch.push(Invalidation::everything(), 0);
        batch.push(Invalidation::everything(), 1);
        let start = Instant::now();
        costly.submit(&batch).expect("it takes everything");
        // From below only: how much longer it takes is the machine's matter.
        assert!(start.elapsed() >= Duration::from_micros(250));
        let counts = CostlyCounts {
            calls: 1,
            commands: 2,
        };
        assert_eq!(costly.counts(), counts);
    }

    #[test]
    fn it_says_what_the_one_inside_says_unless_told_otherwise() {
        let inner: Arc<dyn Backend> = Arc::new(Software::default());
        let costly = Costly::new(inner.clone(), InjectedCost::HOST);
        assert_eq!(costly.capabilities(), inner.capabilities());
        assert!(costly.may_block(true).capabilities().may_block);
        let costly = Costly::new(inner.clone(), InjectedCost::HOST);
        assert_eq!(costly.costs(), inner.costs());
        let dearer = costly.says_price().costs();
        assert_eq!(dearer.call, inner.costs().call + 5_000);
        assert_eq!(dearer.request, inner.costs().request + 2_400);
        assert!(dearer.is_long_call());
    }
}
