//! A window of a ring that somebody watches or measures: what its stages tell.
//!
//! Tap and times stay where they are, with the consumer: a window that ends by unwinding takes
//! nothing away.

use crate::consumer::Consumer;
use crate::lateness::Timing;
use crate::looks::Cause;
use crate::ring::Ring;
use crate::window::{Desk, Part};

impl Consumer {
    /// [`window`](Self::window) of a ring that somebody watches or measures.
    #[cold]
    #[inline(never)]
    pub(crate) fn observed_window(&mut self, ring: &Ring, desk: &mut Desk, published: u32) -> bool {
        self.window::<true>(ring, desk, published)
    }

    /// A window begins, of which `published` entries behind CONS are there.
    #[cold]
    pub(crate) fn saw_published(&mut self, ring: &Ring, published: u32) {
        let geometry = self.entries.geometry();
        if let Some(timing) = &mut self.timing {
            timing.found(ring, geometry, self.cons, published);
        }
        if let Some(watched) = self.watched.as_mut().filter(|_| ring.is_polled()) {
            watched.saw(geometry.advance(self.cons, published).raw());
        }
    }

    /// So many commands have been looked at.
    #[cold]
    pub(crate) fn saw_fetched(&mut self, ring: &Ring, desk: &mut Desk, fetched: u32) {
        if let Some(watched) = &mut self.watched {
            watched.fetched(&self.entries, self.cons, fetched);
        }
        // Fetch and first pass are bounded and short: a long time was not theirs.
        Timing::spent_in(ring, &mut desk.looks, Cause::Preempted);
    }

    /// The window's invalidations have been executed.
    #[cold]
    pub(crate) fn saw_dispatched(&mut self, ring: &Ring, desk: &mut Desk) {
        Timing::spent_in(ring, &mut desk.looks, Cause::Backend);
    }

    /// CONS has moved over those of the part's SYNCs that are done.
    #[cold]
    pub(crate) fn saw_completed(&mut self, ring: &Ring, desk: &mut Desk, part: &Part) {
        let (moved, syncs) = ((part.start, self.cons), desk.window.syncs_of(part));
        if let Some(timing) = &mut self.timing {
            let geometry = self.entries.geometry();
            timing.completed(ring, &mut desk.looks, geometry, moved, syncs);
        }
        if let Some(watched) = &self.watched {
            watched.completed(&self.entries, moved.0, moved.1, syncs);
        }
    }

    /// The window has ended; `effects` is how many there had been before.
    #[cold]
    pub(crate) fn saw_end(&mut self, ring: &Ring, desk: &mut Desk, effects: u64) {
        let effect = ring.counters.effects.get() != effects;
        if let Some(timing) = &mut self.timing {
            timing.ended(ring, &mut desk.looks, effect, self.waiting);
        }
        if let Some(watched) = &self.watched {
            watched.consumed(ring.cons());
        }
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
