//! PROD where it can come on two ways at once: it never moves backwards.
//!
//! A trapped doorbell and what a zone had queued, or a trapped and a direct store into a page,
//! may overtake each other. Whoever is late must not undo the newer one: that would be a command
//! that nobody consumes. While CMDQ_ERR is active, or the ring is off, a guest may set PROD back.

use crate::gerror::gerror_bits;
use crate::ring::{DoorbellMode, Ring};
use crate::ring_page::PageView;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use vcmdq_sync::atomic::{AtomicU32, Ordering};
use vcmdq_sync::weak::{Site, order, taken};

/// A guest that changes the word all the time is left to itself after so many tries: then there is
/// a newer one of its own.
const TRIES: u32 = 64;

impl Ring {
    /// A write of PROD that the hypervisor had queued, handed over by the VMM from its ring of
    /// coalesced writes: publishes it, unless it is older than what is published, and sees to it
    /// that a worker consumes it. In the order in which they were queued, one at a time; from any
    /// thread, never blocks. For rings of [`DoorbellMode::Coalesced`]; elsewhere the same as
    /// [`doorbell`](Self::doorbell).
    pub fn coalesced(&self, prod: u32) {
        if !matches!(self.mode, DoorbellMode::Coalesced(_)) {
            return self.doorbell(prod);
        }
        self.tap.published(prod);
        if let Some(meter) = &self.meter {
            meter.rung();
        }
        if self.forward(&self.prod, prod, |word| word) {
            self.rouse();
        }
    }

    /// A doorbell of a mode with a way around it. False if it is none.
    #[inline]
    pub(crate) fn doorbell_beside_a_way(&self, prod: u32) -> bool {
        match &self.mode {
            DoorbellMode::Coalesced(zone) => {
                // What was queued before is older.
                zone.drain();
                self.coalesced(prod);
            }
            DoorbellMode::Adaptive { page, .. } => {
                let word = PageView::new(&**page).prod_word();
                self.forward(word, prod, u32::to_le);
                self.rouse();
            }
            _ => return false,
        }
        true
    }

    /// Hands over what a zone has queued, if the ring has one.
    pub(crate) fn drain(&self) {
        if let DoorbellMode::Coalesced(zone) = &self.mode {
            zone.drain();
        }
    }

    /// Moves PROD on to `prod`, unless it is further. `le` turns a number into what the word holds,
    /// and back. Whether it was moved.
    fn forward(&self, word: &AtomicU32, prod: u32, le: impl Fn(u32) -> u32) -> bool {
        let mut old = word.load(Ordering::Acquire);
        for _ in 0..TRIES {
            if self.is_older(prod, le(old)) && taken(Site::ProdForward) {
                break;
            }
            // Release pairs with the acquire of who reads PROD: the entries were there before.
            let release = order(Site::ProdPublish, Ordering::AcqRel);
            match word.compare_exchange(old, le(prod), release, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        self.counters.stale_prods.add_shared(1);
        false
    }

    /// Whether a PROD lies before the published one.
    fn is_older(&self, prod: u32, published: u32) -> bool {
        if !self.is_enabled() || self.latch.is_active(gerror_bits::CMDQ_ERR) {
            return false;
        }
        let log2size = self.log2size.load(Ordering::Acquire);
        let geometry = Geometry::capped(log2size, MAX_LOG2SIZE);
        // Read behind `published`: CONS may have passed `prod`, never what was published before.
        let cons = geometry.pointer(self.cons());
        let ahead = |prod| geometry.published(cons, geometry.pointer(prod));
        match (ahead(prod), ahead(published)) {
            (Ok(new), Ok(old)) => new < old,
            // Behind CONS, or no legal producer's.
            (Err(_), Ok(_)) => true,
            (_, Err(_)) => false,
        }
    }
}
