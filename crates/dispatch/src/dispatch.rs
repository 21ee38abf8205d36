//! STAGE dispatch: a batch to a backend, and what becomes of what it does not take.
//!
//! A legal invalidation is never reported as the guest's error and never lost (law 4). What a
//! backend does not take climbs a ladder, request by request:
//!
//! 1. try again, a few times, alone;
//! 2. widen: ask for something that covers it and that the backend may find easier;
//! 3. fail closed: the streams that it may concern abort from now on, and the VMM is told.
//!
//! Only then may the SYNC behind it complete. The one failure that *is* the guest's to hear
//! of is a device that does not answer an invalidation of its own cache: its SYNC ends in
//! CERROR_ATC_INV (IHI 0070, 4.5.1).
//!
//! A backend that goes on refusing what names a stream that has failed closed is not asked about it again
//! in that window, so that a guest cannot have it wait for a dead device command by command (law 8).
//!
//! Several rings may share the batch. What one of them fails at is charged to that one; the rest of
//! the batch, of which nothing is certain then, is submitted again before any of them goes on.

use crate::backend::{Backend, Cause, Rejected};
use crate::batch::{Batch, Rings};
use crate::invalidation::{Invalidation, Scope, Stage};
use smmu_core::StreamId;

/// How often one request is tried on one rung of the ladder.
pub const TRIES: u32 = 3;

/// A request that could not be carried out in any form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedClosed {
    /// [Whose](Report::member) request it was.
    pub member: u32,
    /// Who aborts from now on; `None` is "all of the instance".
    pub stream: Option<StreamId>,
    /// Why it could not.
    pub cause: Cause,
    /// The rings that needed it.
    pub rings: Rings,
}

/// A request that a device did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Position in the window of the earliest command that it served.
    pub origin: u32,
    /// The rings that needed it.
    pub rings: Rings,
}

/// What happened on the way, added up over the batches of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whose calls are made now, by the caller's own number: what fails from here on is that one's.
    pub member: u32,
    /// Calls to the backend.
    pub calls: u64,
    /// Requests that it was given.
    pub requests: u64,
    /// Calls that were made again.
    pub retries: u64,
    /// Requests that were widened.
    pub widened: u64,
    /// What failed closed.
    pub failed_closed: Vec<FailedClosed>,
    /// What devices did not answer.
    pub unanswered: Vec<Unanswered>,
}

impl Report {
    /// Starts anew.
    #[inline]
    pub fn clear(&mut self) {
        self.member = 0;
        self.calls = 0;
        self.requests = 0;
        self.retries = 0;
        self.widened = 0;
        self.failed_closed.clear();
        self.unanswered.clear();
    }

    /// Adds what happened on another thread for the same window; that report is empty then.
    pub fn take_over(&mut self, other: &mut Self) {
        self.calls += other.calls;
        self.requests += other.requests;
        self.retries += other.retries;
        self.widened += other.widened;
        self.failed_closed.append(&mut other.failed_closed);
        self.unanswered.append(&mut other.unanswered);
        other.clear();
    }

    /// Of the `nth` ring, which has the positions from `base` on, `len` of them: the place in its part
    /// of the earliest command that a device did not answer. A request that serves an earlier ring, too,
    /// does not say where this one's command was: then it is the first.
    #[must_use]
    #[inline]
    pub fn unanswered_of(&self, nth: u32, base: u32, len: u32) -> Option<u32> {
        if self.unanswered.is_empty() {
            return None;
        }
        let own = self.unanswered.iter().filter(|un| un.rings >> nth & 1 != 0);
        // What other rings' commands came to that are only covered here is for those rings to say.
        let place = |un: &Unanswered| match un.origin.checked_sub(base) {
            None => Some(0),
            Some(at) => (at < len).then_some(at),
        };
        own.filter_map(place).min()
    }
}

/// Has `backend` execute `batch`. When this returns, every request has taken effect or the
/// streams that it concerns abort. Blocks as long as the backend does.
#[inline]
pub fn dispatch(backend: &dyn Backend, batch: &mut Batch, report: &mut Report) {
    report.calls += 1;
    report.requests += batch.len() as u64;
    if let Err(rejected) = backend.submit(batch) {
        ladder(backend, batch, rejected, report);
    }
}

#[cold]
fn ladder(backend: &dyn Backend, batch: &mut Batch, first: Rejected, report: &mut Report) {
    let mut rejected = first;
    loop {
        // A count that takes in the whole batch beside an error is no count: kernels leave it
        // untouched when they fail early. Nothing is certain then.
        let certain = if rejected.accepted < batch.len() {
            rejected.accepted
        } else {
            0
        };
        // law4a: believe the backend's count, whatever it says.
        let certain = if vcmdq_sync::broken!(break_law4a) {
            rejected.accepted.min(batch.len())
        } else {
            certain
        };
        batch.retire(certain);
        if batch.is_empty() {
            return;
        }
        match closed_already(batch, rejected.cause, report) {
            Some(closed) => leave_out(batch, closed, report),
            None => {
                climb(backend, batch, rejected.cause, report);
                batch.retire(1);
            }
        }
        // law4f: what a shared call was refused for one ring is forgotten for the others.
        if batch.is_empty() || (vcmdq_sync::broken!(break_law4f) && batch.waiters().len() > 1) {
            return;
        }
        report.calls += 1;
        match backend.submit(batch) {
            Ok(()) => return,
            Err(next) => rejected = next,
        }
    }
}

/// What has failed closed in this window, if the first request of the batch concerns nothing else.
fn closed_already(batch: &Batch, cause: Cause, report: &Report) -> Option<FailedClosed> {
    // The one may work the next time, and the other is for the guest to hear of.
    if matches!(cause, Cause::Again | Cause::DeviceTimedOut) {
        return None;
    }
    let stream = batch.request(0).stream();
    let mut own = report.failed_closed.iter();
    own.find(|closed| {
        closed.member == report.member && (closed.stream.is_none() || closed.stream == stream)
    })
    .copied()
}

/// Nothing of what `closed` says is used any more: no request of the batch that concerns nothing else is made.
fn leave_out(batch: &mut Batch, closed: FailedClosed, report: &mut Report) {
    batch.retire_of(closed.stream, |rings| {
        report.failed_closed.push(FailedClosed { rings, ..closed });
    });
}

/// Brings the first request of the batch through, whatever it takes.
fn climb(backend: &dyn Backend, batch: &Batch, cause: Cause, report: &mut Report) {
    let (request, origin) = (batch.request(0), batch.origin(0));
    let rings = batch.rings_of(0);
    let mut cause = cause;
    let mut alone = Batch::like(batch);
    let rungs = [Some(request), request.widened()];
    for (rung, request) in rungs.into_iter().flatten().enumerate() {
        if rung > 0 {
            report.widened += 1;
        }
        // On the first rung the call that failed was the first try.
        let tries = if rung > 0 { TRIES } else { TRIES - 1 };
        alone.restart(request.vmid);
        alone.push_for(rings, request, 0);
        match attempt(backend, &alone, cause, tries, report) {
            Ok(()) => return,
            Err(Cause::DeviceTimedOut) => {
                report.unanswered.push(Unanswered { origin, rings });
                return;
            }
            Err(last) => cause = last,
        }
    }
    let stream = request.stream();
    // law4b: a request that cannot be carried out is dropped.
    if !vcmdq_sync::broken!(break_law4b) {
        backend.fail_closed(stream);
    }
    report.failed_closed.push(FailedClosed {
        member: report.member,
        stream,
        cause,
        rings,
    });
}

/// Submits one request alone until it is taken, cannot be, or `tries` are used up.
fn attempt(
    backend: &dyn Backend,
    alone: &Batch,
    first: Cause,
    tries: u32,
    report: &mut Report,
) -> Result<(), Cause> {
    let mut cause = first;
    for _ in 0..tries {
        if cause == Cause::DeviceTimedOut {
            return Err(cause);
        }
        report.calls += 1;
        report.requests += 1;
        report.retries += 1;
        match backend.submit(alone) {
            Ok(()) => return Ok(()),
            Err(Rejected { cause: next, .. }) => cause = next,
        }
        if matches!(cause, Cause::Unsupported | Cause::Gone) {
            break;
        }
    }
    Err(cause)
}

impl Invalidation {
    /// A request that covers this one and asks less of a backend, if there is one. What names a
    /// stream is not widened beyond it.
    #[must_use]
    pub fn widened(&self) -> Option<Self> {
        let scope = match self.scope {
            Scope::All => return None,
            Scope::Vmid => return (self.stage != Stage::Both).then(Self::everything),
            Scope::DeviceTlb {
                addr: 0,
                size: 52,
                pasid: None,
                ..
            } => return None,
            Scope::DeviceTlb { stream, .. } => Scope::DeviceTlb {
                stream,
                pasid: None,
                global: false,
                addr: 0,
                size: 52,
            },
            Scope::ContextTable { pasid: None, .. } => return None,
            Scope::ContextTable { stream, .. } => Scope::ContextTable {
                stream,
                pasid: None,
                leaf: false,
            },
            Scope::Context(_) | Scope::ContextAndGlobals(_) | Scope::Addresses { .. } => {
                Scope::Vmid
            }
        };
        Some(Self { scope, ..*self })
    }
}
