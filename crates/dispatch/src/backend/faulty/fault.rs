//! What is to go wrong, and where.

use crate::backend::{Cause, Rejected};
use crate::batch::Batch;
use crate::invalidation::Invalidation;
use smmu_core::StreamId;

/// Which requests a [`Fault`] is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Whatever comes first in a call.
    Any,
    /// The so-many-th request from the injection on, counted over all calls from zero; and the same
    /// one whenever it comes again, alone or beside others.
    Nth(u64),
    /// Each request that names this stream.
    Stream(StreamId),
}

/// Something that goes wrong. What stands before it in its batch is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    at: At,
    cause: Cause,
    times: u64,
    says: Option<usize>,
}

impl Fault {
    /// Fails for ever, with a true count of what was executed.
    #[must_use]
    pub const fn new(at: At, cause: Cause) -> Self {
        Self {
            at,
            cause,
            times: u64::MAX,
            says: None,
        }
    }

    /// Only so many calls fail by it.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Tells this as the count, whatever was executed.
    #[must_use]
    pub const fn saying(self, count: usize) -> Self {
        Self {
            says: Some(count),
            ..self
        }
    }
}

/// A fault that waits for its request.
#[derive(Clone, Debug)]
pub(super) struct Armed {
    fault: Fault,
    /// Requests before the one that [`At::Nth`] means.
    before: u64,
    /// That request, as soon as it has come.
    met: Option<Invalidation>,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            before: match fault.at {
                At::Nth(n) => n,
                At::Any | At::Stream(_) => 0,
            },
            fault,
            met: None,
        }
    }

    /// Where it strikes in a batch.
    fn place(&mut self, batch: &Batch) -> Option<usize> {
        let mut requests = batch.requests();
        match (self.fault.at, self.met) {
            (At::Any, _) => (!batch.is_empty()).then_some(0),
            (At::Stream(stream), _) => requests.position(|r| r.stream() == Some(stream)),
            (At::Nth(_), Some(met)) => requests.position(|r| r == met),
            (At::Nth(_), None) => {
                let place = usize::try_from(self.before).unwrap_or(usize::MAX);
                self.before = self.before.saturating_sub(batch.len() as u64);
                self.met = requests.nth(place);
                self.met.is_some().then_some(place)
            }
        }
    }
}

/// The first place in a batch at which one of the faults strikes, and what the call says then.
pub(super) fn strike(armed: &mut Vec<Armed>, batch: &Batch) -> Option<(usize, Rejected)> {
    // All of them see every batch, as they count.
    let places = armed.iter_mut().enumerate();
    let places = places.filter_map(|(n, armed)| Some((armed.place(batch)?, n)));
    let (place, n) = places.min()?;
    let fault = &mut armed[n].fault;
    let rejected = Rejected {
        accepted: fault.says.unwrap_or(place),
        cause: fault.cause,
    };
    fault.times = fault.times.saturating_sub(1);
    armed.retain(|armed| armed.fault.times != 0);
    Some((place, rejected))
}
