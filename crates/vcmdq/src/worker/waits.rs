//! Rings whose SYNC waits for a guard, and when to say that it takes too long.
//!
//! A SYNC never completes early because it has waited long: whoever delays it is told, again and
//! again later. How long is long is the backend's setting ([`dispatch::Backend::overdue`]).

use crate::ring::Ring;
use std::sync::Arc;
use std::time::Duration;

/// Room for rings that wait at the same time; more than that are noted as they come.
const ROOM: usize = 64;

struct Wait {
    ring: Arc<Ring>,
    since: Duration,
    /// How long it must have waited before somebody is told.
    limit: Duration,
}

/// The waiting rings that one worker has left waiting.
pub(crate) struct Waits(Vec<Wait>);

impl Waits {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(ROOM))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A ring has been left waiting.
    #[cold]
    pub(crate) fn note(&mut self, ring: &Arc<Ring>, now: Duration) {
        if self.0.iter().any(|wait| Arc::ptr_eq(&wait.ring, ring)) {
            return;
        }
        if let Some(limit) = ring.overdue(Duration::ZERO) {
            self.0.push(Wait {
                ring: ring.clone(),
                since: now,
                limit,
            });
        }
    }

    /// Tells on those that have waited too long, and forgets those that do not wait any more.
    pub(crate) fn check(&mut self, now: Duration) {
        self.0.retain_mut(|wait| {
            let waited = now.saturating_sub(wait.since);
            if !wait.ring.is_waiting() {
                return false;
            }
            if waited < wait.limit {
                return true;
            }
            tracing::debug!(ring = wait.ring.index, ?waited, "SYNC waits for a guard");
            match wait.ring.overdue(waited) {
                Some(limit) => wait.limit = limit.max(waited + Duration::from_millis(1)),
                None => return false,
            }
            true
        });
    }

    /// How long nobody has to be told anything; `None` if nobody waits.
    pub(crate) fn next(&self, now: Duration) -> Option<Duration> {
        let left = |wait: &Wait| wait.limit.saturating_sub(now.saturating_sub(wait.since));
        self.0.iter().map(left).min()
    }
}
