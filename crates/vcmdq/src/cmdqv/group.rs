//! The rings of one VINTF, as they see each other (law 3).
//!
//! A SYNC in one ring covers what every ring of the VINTF had published. So each ring shows the
//! others, in a *lane*, where it lies, how far it has come and how far its guest has published. A
//! lane is a copy: its ring's owner writes it and never reads it.

use crate::doorbell::Bell;
use crate::ring_page::{PageView, RingPage};
use crate::seams::{Interrupts, Line};
use std::fmt;
use std::sync::{Arc, OnceLock};
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, full_fence, order};

/// The most queues of a VINTF.
pub const MAX_QUEUES: usize = 16;

/// One ring, as the others of its VINTF see it.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// BASE as the guest has written it; counts from the next enable on.
    base: AtomicU64,
    /// BASE where the ring lies now; 0 while it is not enabled.
    place: AtomicU64,
    /// PROD, unless it lies in a shared page.
    prod: CachePadded<AtomicU32>,
    cons: CachePadded<AtomicU32>,
    /// Invalidations before CONS have been accepted, and accesses that began before them may
    /// still use what they removed: no SYNC of this ring has come since.
    unsynced: AtomicBool,
    /// A SYNC of this ring waits for accesses that other rings' invalidations concern.
    waits: AtomicBool,
    ring: AtomicU32,
}

impl Lane {
    pub(crate) fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    /// Release pairs with `base`: whoever sees the enable that follows sees the base.
    pub(crate) fn set_base(&self, base: u64) {
        self.base.store(base, Ordering::Release);
    }

    /// Where the ring lies; `None` while it is not enabled.
    pub(crate) fn place(&self) -> Option<u64> {
        Some(self.place.load(Ordering::Acquire)).filter(|place| *place != 0)
    }

    pub(crate) fn set_place(&self, place: u64) {
        self.place.store(place, Ordering::Release);
    }

    #[inline]
    pub(crate) fn show_prod(&self, prod: u32) {
        self.prod
            .store(prod, order(Site::ProdPublish, Ordering::Release));
    }

    /// Release: whoever sees CONS sees the effects of what lies before it, and `unsynced`.
    #[inline]
    pub(crate) fn show_cons(&self, cons: u32) {
        self.cons
            .store(cons, order(Site::LaneCons, Ordering::Release));
    }

    /// Acquire pairs with `show_cons`.
    pub(crate) fn cons(&self) -> u32 {
        self.cons.load(Ordering::Acquire)
    }

    /// Called by the owner before it publishes CONS. Relaxed: CONS publishes it.
    #[inline]
    pub(crate) fn set_unsynced(&self, unsynced: bool) {
        if self.unsynced.load(Ordering::Relaxed) != unsynced {
            self.unsynced.store(unsynced, Ordering::Relaxed);
        }
    }

    /// Behind [`cons`](Self::cons).
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// Before the first barrier is asked: who ends one sees it, because asking is a
    /// read-modify-write of the very word that is swapped to end it.
    pub(crate) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }

    pub(crate) fn ring(&self) -> u32 {
        self.ring.load(Ordering::Relaxed)
    }
}

/// The rings of a VINTF. See the [module](self).
pub(crate) struct Group {
    pub(crate) lanes: Box<[Lane]>,
    /// The logical page 0, if the guest writes into memory.
    pub(crate) page: Option<Arc<dyn RingPage>>,
    /// VINTF_INT_MASK: errors pulse no interrupt.
    pub(crate) masked: AtomicBool,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Group {
    pub(crate) fn new(queues: usize, page: Option<Arc<dyn RingPage>>) -> Self {
        Self {
            lanes: (0..queues).map(|_| Lane::default()).collect(),
            page,
            masked: AtomicBool::new(false),
        }
    }

    /// An error of some queue has become active: one edge for each.
    pub(crate) fn pulse(&self, interrupts: &dyn Interrupts) {
        // Pairs with the fence behind a change of the mask: either this sees it gone, or who takes
        // it away sees the error. Model: `vintf_error_is_not_lost_beside_the_mask`.
        full_fence(Site::MaskFence);
        if !self.masked.load(Ordering::Acquire) {
            interrupts.pulse(Line::Cmdqv);
        }
    }

    /// PROD of a lane as its guest has published it. Acquire: the entries before it are there.
    pub(crate) fn prod(&self, lane: usize) -> u32 {
        match &self.page {
            Some(page) => PageView::of_queue(&**page, lane).guest().prod,
            None => self.lanes[lane].prod.load(Ordering::Acquire),
        }
    }
}

/// A ring's place in its VINTF.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) group: Arc<Group>,
    pub(crate) index: usize,
}

impl Member {
    #[inline]
    pub(crate) fn lane(&self) -> &Lane {
        &self.group.lanes[self.index]
    }

    /// The other rings' lanes, with their numbers.
    pub(crate) fn others(&self) -> impl Iterator<Item = (usize, &Lane)> {
        let own = self.index;
        let lanes = self.group.lanes.iter().enumerate();
        lanes.filter(move |(index, _)| *index != own)
    }

    /// The engine's number of the ring, which its waiter has, too.
    pub(crate) fn set_ring(&self, ring: u32) {
        self.lane().ring.store(ring, Ordering::Relaxed);
    }
}

/// The VINTF of a frame, if it has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vintf(Arc<OnceLock<Arc<Group>>>);

impl Vintf {
    /// False if there is one.
    pub(crate) fn set(&self, group: Arc<Group>) -> bool {
        self.0.set(group).is_ok()
    }

    /// A barrier of `ring` is done: rings that waited for it beside their own ask again.
    pub(crate) fn wake(&self, bell: &Bell, ring: u32) {
        let Some(group) = self.0.get() else { return };
        if !group.lanes.iter().any(|lane| lane.ring() == ring) {
            return;
        }
        for lane in &group.lanes {
            if lane.ring() != ring && lane.waits.load(Ordering::Acquire) {
                bell.ring(lane.ring());
            }
        }
    }
}
