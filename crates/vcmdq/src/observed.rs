//! A window of a ring that somebody watches or measures: the same stages, with hooks between them.

use crate::consumer::Consumer;
use crate::fetch::Entries;
use crate::lateness::Timed;
use crate::looks::Cause;
use crate::ring::Ring;
use crate::tap::{Watch, Watched};
use crate::window::{Desk, SyncPoint};
use smmu_core::queue_index::QueueIndex;
use vcmdq_sync::atomic::AtomicU64;

/// Passes on what happens to whoever is there.
struct Observed<'a> {
    watched: Option<Box<Watched>>,
    timed: Option<Timed<'a>>,
}

impl Watch for Observed<'_> {
    fn copy<'a>(&'a mut self, at: u32, words: &'a [AtomicU64]) -> &'a [AtomicU64] {
        match &mut self.watched {
            Some(watched) => watched.copy(at, words),
            None => words,
        }
    }

    fn fetched(&mut self, entries: &Entries, first: QueueIndex, count: u32) {
        if let Some(watched) = &mut self.watched {
            watched.fetched(entries, first, count);
        }
        // Fetch and first pass are bounded and short: a long time was not theirs.
        if let Some(timed) = &mut self.timed {
            timed.spent_in(Cause::Preempted);
        }
    }

    fn dispatched(&mut self) {
        if let Some(timed) = &mut self.timed {
            timed.spent_in(Cause::Backend);
        }
    }

    fn completed(
        &mut self,
        entries: &Entries,
        first: QueueIndex,
        cons: QueueIndex,
        syncs: &[SyncPoint],
    ) {
        if let Some(timed) = &mut self.timed {
            timed.completed(entries.geometry(), first, cons, syncs);
        }
        if let Some(watched) = &mut self.watched {
            watched.completed(entries, first, cons, syncs);
        }
    }
}

impl Consumer {
    /// [`window`](Self::window) of a ring that somebody watches or measures.
    #[cold]
    #[inline(never)]
    pub(crate) fn observed_window(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        published: u32,
    ) -> (bool, u32) {
        let mut observed = Observed {
            watched: self.watched.take(),
            timed: Timed::begin(self, ring, desk, published),
        };
        if let Some(watched) = observed.watched.as_mut().filter(|_| ring.is_polled()) {
            let prod = self.entries.geometry().advance(self.cons, published);
            watched.saw(prod.raw());
        }
        let result = self.window(ring, desk, published, &mut observed);
        if let Some(timed) = observed.timed {
            timed.end(self, desk);
        }
        if let Some(watched) = &observed.watched {
            watched.consumed(ring.cons());
        }
        self.watched = observed.watched;
        result
    }

    /// A slice begins.
    #[inline]
    pub(crate) fn start_clock(&mut self, ring: &Ring, desk: &mut Desk) {
        if let Some(timing) = &mut self.timing {
            timing.begin(ring, &mut desk.looks);
        }
    }

    /// A look has found nothing to consume.
    #[inline]
    pub(crate) fn nothing_published(&mut self, ring: &Ring) {
        if let Some(timing) = &mut self.timing {
            timing.nothing(ring);
        }
    }

    /// The ring does not run, or runs on from elsewhere: no SYNC is measured from before.
    #[inline]
    pub(crate) fn stop_clock(&mut self, ring: &Ring) {
        if let Some(timing) = &mut self.timing {
            timing.stop(ring);
        }
    }
}
