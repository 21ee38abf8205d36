//! What became of the records.

use super::queue::Unwritable;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Counters since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventMetrics {
    /// Records written.
    pub written: u64,
    /// Events that merged with an equal record before them (STE.MEV).
    pub merged: u64,
    /// Records dropped because the queue was full or paused, or lost before they got here; OVFLG says so.
    pub overflowed: u64,
    /// Records dropped while EVENTQEN was 0.
    pub disabled: u64,
    /// Records dropped because of EVENTQ_ABT_ERR.
    pub aborted: u64,
}

/// The counters; written by every thread that faults.
#[derive(Debug, Default)]
pub(super) struct Counters {
    written: AtomicU64,
    merged: AtomicU64,
    overflowed: AtomicU64,
    disabled: AtomicU64,
    aborted: AtomicU64,
}

impl Counters {
    pub(super) fn written(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn merged(&self) {
        self.merged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, why: Unwritable) {
        let counter = match why {
            Unwritable::Disabled => &self.disabled,
            Unwritable::Error => &self.aborted,
            Unwritable::Paused | Unwritable::Full => &self.overflowed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, count: u64) {
        self.overflowed.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> EventMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EventMetrics {
            written: read(&self.written),
            merged: read(&self.merged),
            overflowed: read(&self.overflowed),
            disabled: read(&self.disabled),
            aborted: read(&self.aborted),
        }
    }
}
