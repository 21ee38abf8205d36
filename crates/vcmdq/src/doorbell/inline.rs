//! A doorbell that consumes the ring on the vCPU's own thread instead of waking a worker.
//!
//! A wake-up costs tens of microseconds on many hosts, a short window less than one. So where
//! [`Settings::inline`](crate::Settings::inline) allows it, a trapped doorbell that finds a worker
//! asleep takes over:
//!
//! 1. PROD has been published. A sleeping worker's spare desk and then the ring are claimed, each
//!    by one compare-and-swap. If the desk is taken, a worker is woken as ever.
//! 2. If the ring is taken, its owner goes round again and sees PROD: that is the promise of
//!    [`ClaimCell`], and nobody needs to be woken. Model: `law5_inline_loses_no_prod`.
//! 3. Otherwise up to so many commands are consumed. Who comes meanwhile is seen when the claim is
//!    given up, and served if the number is not used up.
//! 4. Whatever is left is a worker's, for whom the doorbell rings: more commands, a command with an
//!    effect (the VMM's callbacks for those may block), a SYNC that waits for an access, a backend
//!    that may block.
//!
//! A backend or a callback that panics is stopped here, as in a worker: nothing unwinds into the VMM's thread.
//!
//! So the vCPU waits for nobody, and what it does is bounded.

use crate::consumer::{Consumer, Progress};
use crate::ring::{Again, Ring};
use crate::window::Desk;
use crate::worker::try_once;
use std::time::Duration;
use vcmdq_sync::claim::ClaimCell;
use vcmdq_sync::weak::{Site, taken};

/// What doorbells consume with. See the [module](self).
#[derive(Debug)]
pub(crate) struct Inline {
    limit: u32,
    slice: Duration,
    /// One for each worker: borrowed by the first doorbell that finds that worker asleep.
    desks: Box<[ClaimCell<Desk>]>,
}

impl Inline {
    /// Doorbells consume at most `limit` commands each, and a `slice` at most at a time.
    pub(crate) fn new(limit: u32, slice: Duration, workers: usize) -> Self {
        let desks = (0..workers).map(|_| ClaimCell::new(Desk::inline()));
        Self {
            limit,
            slice,
            desks: desks.collect(),
        }
    }
}

impl Ring {
    /// Consumes what has just been published, if that is better than to wake a worker. False if it
    /// has not been taken care of.
    #[inline]
    pub(crate) fn consume_inline(&self) -> bool {
        match (self.bell.inline(), self.bell.sleeper()) {
            (Some(inline), Some(sleeper)) => self.borrow_desk(inline, sleeper),
            _ => false,
        }
    }

    #[cold]
    fn borrow_desk(&self, inline: &Inline, sleeper: usize) -> bool {
        // Dropped, not left: who finds the desk taken wakes a worker and needs no other round.
        let Some(mut desk) = inline.desks[sleeper].enter() else {
            return false;
        };
        // Dropped behind the claim.
        let _again = Again(self);
        let Some(mut claim) = self.consumer.enter() else {
            return true;
        };
        let mut budget = inline.limit;
        loop {
            let left = claim.with(|consumer| {
                desk.with(|desk| {
                    let slice = inline.slice;
                    let consume =
                        |desk: &mut Desk| consumer.slice_inline(self, desk, slice, &mut budget);
                    // A worker comes to the same command, and what dies there then is charged to the ring.
                    try_once(self, desk, consume).unwrap_or(true)
                })
            });
            match claim.leave() {
                Ok(()) if !left => return true,
                Err(again) if !left && budget != 0 => claim = again,
                // A claim that somebody came for is dropped here: the bell tells a worker.
                _ => break,
            }
        }
        // law5c: what an inline doorbell leaves is nobody's.
        if taken(Site::InlineRest) && !vcmdq_sync::broken!(break_law5c) {
            self.rouse();
        }
        true
    }
}

impl Consumer {
    /// [`slice`](Self::slice) on a vCPU's thread. Whether anything is left that a worker has to do.
    fn slice_inline(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        slice: Duration,
        budget: &mut u32,
    ) -> bool {
        let untold = self.tells_traffic && !self.frame.traffic.is_told();
        let effect = self.configuring.is_some();
        if self.capabilities.may_block || untold || effect || self.waiting {
            return true;
        }
        desk.left = *budget;
        let before = ring.counters.commands.get();
        let (progress, _) = self.slice(ring, desk, slice);
        *budget = desk.left;
        ring.counters.inline_doorbells.add(1);
        let commands = ring.counters.commands.get() - before;
        ring.counters.inline_commands.add(commands);
        progress == Progress::More || self.waiting || self.has_left(ring)
    }

    /// Whether the ring runs and there is something between CONS and PROD.
    fn has_left(&self, ring: &Ring) -> bool {
        let prod = self.entries.geometry().pointer(ring.prod());
        self.running && self.halted.is_none() && prod != self.cons
    }
}
