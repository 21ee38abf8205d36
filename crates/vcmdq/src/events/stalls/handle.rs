//! What the accessor of a stalled transaction holds.

use super::Stalls;
use smmu_core::Stag;
use std::sync::Arc;
use std::time::Duration;

/// The guest's verdict on a stalled transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumption {
    /// Translate anew, under a new guard; it may fault again.
    Retry,
    /// The transaction is aborted.
    Abort,
    /// Reads return zero, writes are ignored.
    RazWi,
}

/// A stalled transaction. Its tag stays its own until this is dropped; dropping it without a verdict
/// gives the transaction up, and a RESUME that comes later has no effect.
///
/// It holds no guard, and neither may its owner while it waits (law 3).
#[derive(Debug)]
#[must_use = "dropping it gives the transaction up"]
pub struct StalledAccess {
    table: Arc<Stalls>,
    index: usize,
    stag: Stag,
}

impl StalledAccess {
    pub(super) fn new(table: Arc<Stalls>, index: usize, stag: Stag) -> Self {
        Self { table, index, stag }
    }

    /// The tag, by which the guest names it. A device model saves it with the request that waits.
    #[must_use]
    pub fn stag(&self) -> Stag {
        self.stag
    }

    /// The verdict, if it is there. Never waits. Acquire: what the guest did before its
    /// RESUME is seen behind it.
    #[must_use]
    pub fn poll(&self) -> Option<Resumption> {
        self.table.entries[self.index].verdict()
    }

    /// Sleeps until the verdict is there. A guest may never give one: a device that can be reset
    /// uses [`wait_for`](Self::wait_for).
    pub fn wait(&self) -> Resumption {
        loop {
            if let Some(verdict) = self.poll() {
                return verdict;
            }
            self.table.entries[self.index].sleep(None);
        }
    }

    /// Sleeps until the verdict is there or the time is over; in rare cases less, without a
    /// verdict. One thread at a time.
    pub fn wait_for(&self, limit: Duration) -> Option<Resumption> {
        if self.poll().is_none() {
            self.table.entries[self.index].sleep(Some(limit));
        }
        self.poll()
    }
}

impl Drop for StalledAccess {
    fn drop(&mut self) {
        self.table.release(self.index);
    }
}
