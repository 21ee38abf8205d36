//! What the backend did, in numbers.

use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// One number, which several workers raise. Orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: Counter,
    pub(crate) entries: Counter,
    pub(crate) joined: Counter,
    pub(crate) transient: Counter,
    pub(crate) refusals: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) gone: Counter,
    pub(crate) not_encodable: Counter,
    pub(crate) untranslated: Counter,
    pub(crate) closed: Counter,
    pub(crate) buffers: Counter,
}

/// What an [`IommufdBackend`](crate::IommufdBackend) has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IommufdMetrics {
    /// Calls of HWPT_INVALIDATE.
    pub calls: u64,
    /// Entries in them; those that were sent again count again.
    pub entries: u64,
    /// Requests that went with another one's entry, so that a call is a block shorter.
    pub joined: u64,
    /// Calls that found no memory or were interrupted, and were made again.
    pub transient: u64,
    /// Calls that the kernel refused for one of their entries.
    pub refusals: u64,
    /// Batches that ended because the hardware did not answer in time.
    pub timed_out: u64,
    /// Batches that ended because the vIOMMU, or a request's vdevice, was gone.
    pub gone: u64,
    /// Batches that ended at a request that has no entry.
    pub not_encodable: u64,
    /// Invalidations of context descriptors of streams that do not translate: the host has read none.
    pub untranslated: u64,
    /// Requests that were not sent, because every stream of the instance, or the one that they name, has failed
    /// closed.
    pub closed: u64,
    /// Calls for which there was no buffer, because so many were made at once: one was allocated.
    pub buffers: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> IommufdMetrics {
        IommufdMetrics {
            calls: self.calls.get(),
            entries: self.entries.get(),
            joined: self.joined.get(),
            transient: self.transient.get(),
            refusals: self.refusals.get(),
            timed_out: self.timed_out.get(),
            gone: self.gone.get(),
            not_encodable: self.not_encodable.get(),
            untranslated: self.untranslated.get(),
            closed: self.closed.get(),
            buffers: self.buffers.get(),
        }
    }
}
