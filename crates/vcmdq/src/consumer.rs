//! One ring's consumption: the way of a command, stage by stage.
//!
//! A [`Consumer`] is worked on by whoever has claimed the ring, one thread at a time. It is
//! the private truth about CONS and errors; registers and shared pages show copies.

use crate::budget::{AskedCosts, Budget};
use crate::cmdqv::cover::Cover;
use crate::effect::Configuring;
use crate::events::Mark;
use crate::fetch::Entries;
use crate::first_pass::first_pass;
use crate::frame::FrameShared;
use crate::gerror::{CommandError, gerror_bits};
use crate::instance::{Instance, waiter};
use crate::lateness::Timing;
use crate::ring::Ring;
use crate::tap::Watched;
use crate::traffic::Telling;
use crate::window::{Desk, Stop};
use crate::worker::Deaths;
use dispatch::BackendCapabilities;
use smmu_core::GuestMemory;
use smmu_core::queue_index::QueueIndex;
use std::sync::Arc;
use std::time::Duration;

/// What a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is left to do, for now.
    Idle,
    /// The budget is used up; there may be more.
    More,
    /// The next step may block, which the desk does not allow (law 11).
    Blocks,
}

/// See the [module](self).
pub(crate) struct Consumer {
    pub(crate) entries: Entries,
    pub(crate) cons: QueueIndex,
    /// Why the ring has stopped, until the guest acknowledges.
    pub(crate) halted: Option<CommandError>,
    /// CONS stands at a SYNC that waits for a barrier.
    pub(crate) waiting: bool,
    /// What the event queue must show before that SYNC completes; taken when no access was left.
    pub(crate) events_due: Option<Mark>,
    /// An ATC_INV before CONS was not answered, and no SYNC has said so yet.
    pub(crate) lost_atc_inv: bool,
    /// The CFGI at CONS that has taken effect in part.
    pub(crate) configuring: Option<Configuring>,
    pub(crate) running: bool,
    /// A window is under way; or its thread has unwound.
    pub(crate) in_window: bool,
    /// This ring's worker tells the VMM when the streams' traffic goes another way.
    pub(crate) tells_traffic: bool,
    pub(crate) telling: Telling,
    /// What the guest's registers said has been taken over, and not been ended since.
    pub(crate) armed: bool,
    /// The BASE that was unusable; nothing happens until the guest ends it or writes another one.
    pub(crate) refused: Option<u64>,
    /// The other rings of the VINTF, if the ring is one of a VINTF.
    pub(crate) cover: Option<Box<Cover>>,
    pub(crate) memory: Arc<dyn GuestMemory>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) capabilities: BackendCapabilities,
    /// Some backend's calls are made by whoever owns the frame's lane, for whole windows.
    pub(crate) calls_in_lane: bool,
    /// Several have such calls, which are made at the same time.
    pub(crate) fans_out: bool,
    /// What the backends' work costs.
    pub(crate) costs: AskedCosts,
    pub(crate) frame: Arc<FrameShared>,
    /// How often a thread has died while it worked here.
    pub(crate) deaths: Deaths,
    /// Who watches the ring, if anybody does.
    pub(crate) watched: Option<Box<Watched>>,
    /// When its commands were published, if that is measured.
    pub(crate) timing: Option<Box<Timing>>,
}

impl Consumer {
    /// Consumes windows until `slice` is used up, by what their commands are said to cost. Returns what
    /// is left, and whether anything was consumed.
    #[inline]
    pub(crate) fn slice(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        slice: Duration,
    ) -> (Progress, bool) {
        desk.budget = Budget::of(slice);
        desk.defers_effects = self.host_blocks(desk);
        if self.begins_with_a_call(ring, desk) {
            return (Progress::Blocks, false);
        }
        if !self.begin_slice(ring, desk) {
            return (Progress::More, true);
        }
        let mut worked = false;
        loop {
            worked |= self.configuring.is_some();
            let Some(published) = self.look(ring, desk) else {
                return (Progress::More, true);
            };
            if published == 0 {
                break;
            }
            if desk.budget.is_spent() || desk.left == 0 {
                return (Progress::More, true);
            }
            if self.calls_in_lane && !desk.may_block {
                return (Progress::Blocks, worked);
            }
            worked = true;
            let goes_on = match (&self.watched, &self.timing) {
                (None, None) => self.window::<false>(ring, desk, published),
                _ => self.observed_window(ring, desk, published),
            };
            if !goes_on {
                break;
            }
        }
        match std::mem::take(&mut desk.deferred) {
            true => (Progress::Blocks, worked),
            false => (Progress::Idle, worked),
        }
    }

    /// What comes before the first window of a slice. False if the slice is used up by it.
    #[inline]
    pub(crate) fn begin_slice(&mut self, ring: &Ring, desk: &mut Desk) -> bool {
        if self.in_window {
            self.forget_window(ring);
        }
        if self.tells_traffic && !desk.is_inline() && !ring.is_paused() {
            let (frame, at) = (&self.frame, &mut self.telling);
            let traffic = &frame.traffic;
            if !traffic.tell(at, &frame.streams, &*frame.host, &mut desk.budget) {
                return false;
            }
        }
        self.start_clock(ring, desk);
        let costs = self.costs.of(&self.instances);
        desk.window.coalescer.set_costs(costs);
        true
    }

    /// How many entries are published and may be consumed now; `None` if the command at CONS has used
    /// up the slice.
    #[inline]
    pub(crate) fn look(&mut self, ring: &Ring, desk: &mut Desk) -> Option<u32> {
        if !self.may_run(ring) {
            return Some(0);
        }
        if self.configuring.is_some() && !self.goes_on(ring, desk) {
            return None;
        }
        let published = self.published(ring);
        if published == 0 {
            self.nothing_published(ring);
        }
        Some(published)
    }

    /// Brings what the VMM and the guest have asked for into effect, and says whether to consume.
    #[inline]
    fn may_run(&mut self, ring: &Ring) -> bool {
        self.look_at_doorbell(ring);
        if !ring.settle(self)
            || self.deaths.is_given_up()
            || ring.latch.is_active(gerror_bits::CMDQ_ERR)
        {
            // The SYNC that it belongs to may be another one when the ring goes on.
            self.events_due = None;
            self.configuring = None;
            self.stop_clock(ring);
            return false;
        }
        if self.halted.take().is_some() {
            self.stop_clock(ring);
            // law6b: the command that stopped the ring is skipped instead of read again.
            if vcmdq_sync::broken!(break_law6b) {
                self.cons = self.entries.geometry().advance(self.cons, 1);
            }
            self.publish(ring, self.cons);
        }
        true
    }

    /// Entries between CONS and PROD. A PROD that no legal producer writes is counted and not
    /// followed.
    #[inline]
    fn published(&self, ring: &Ring) -> u32 {
        let geometry = self.entries.geometry();
        match geometry.published(self.cons, geometry.pointer(ring.prod())) {
            Ok(published) => published,
            // law8a: whatever PROD says is followed.
            Err(_) if vcmdq_sync::broken!(break_law8a) => geometry.entries(),
            Err(_) => {
                ring.counters.bad_prods.add(1);
                0
            }
        }
    }

    /// Fetch, decode, first pass.
    #[inline]
    pub(crate) fn take_window<const SEEN: bool>(
        &mut self,
        desk: &mut Desk,
        base: u32,
        limit: u32,
    ) -> Option<Stop> {
        let window = &mut desk.window;
        window.ring = self.entries;
        // The first one in any case: a ring whose share is too small for anything comes to its end.
        while window.len - base < limit && (window.len == base || !window.is_spent()) {
            let done = window.len - base;
            let at = self.entries.geometry().advance(self.cons, done);
            let words = match self.entries.words(&*self.memory, at, limit - done) {
                Ok(words) => words,
                Err(_) => return Some(Stop::Unreadable),
            };
            let words = match &mut self.watched {
                Some(watched) if SEEN => watched.copy(done, words),
                _ => words,
            };
            let caps = &self.frame.settings.caps;
            if let Some(stop) = first_pass(window, words, caps, self.cover.is_some()) {
                return Some(stop);
            }
        }
        None
    }

    /// The ring comes on at `cons`: nothing is left of what was before.
    pub(crate) fn begin_anew(
        &mut self,
        ring: &Ring,
        cons: QueueIndex,
        error: Option<CommandError>,
    ) {
        self.halted = error;
        self.lost_atc_inv = false;
        self.forget_answers(ring);
        self.waiting = false;
        self.events_due = None;
        self.configuring = None;
        self.stop_clock(ring);
        ring.set_waiting(false);
        if let Some(cover) = &mut self.cover {
            cover.forget();
        }
        self.publish(ring, cons);
    }

    /// Whether a device has not answered an ATC_INV: the next SYNC says so. Of a window, that is its
    /// first, because no ATC_INV stands behind a SYNC of the same window.
    #[inline]
    pub(crate) fn collect_unanswered(&mut self, ring: &Ring) {
        for instance in &self.instances {
            self.lost_atc_inv |= instance.backend.take_unanswered(waiter(ring.index));
        }
    }

    /// What devices have not answered so far is nothing to the ring any more.
    pub(crate) fn forget_answers(&self, ring: &Ring) {
        for instance in &self.instances {
            instance.backend.forget(waiter(ring.index));
        }
    }

    /// What the window ended at: an error, which stops the ring there, or an effect, which takes
    /// place now.
    pub(crate) fn end_window(&mut self, ring: &Ring, desk: &mut Desk, stop: Stop) -> bool {
        match stop {
            Stop::Illegal(reason) => {
                tracing::debug!(ring = ring.index, cons = self.cons.raw(), %reason, "CERROR_ILL");
                ring.counters.illegal.add(1);
                self.stop(ring, CommandError::Illegal);
                false
            }
            Stop::Unreadable => {
                tracing::debug!(ring = ring.index, cons = self.cons.raw(), "CERROR_ABT");
                ring.counters.unreadable.add(1);
                self.stop(ring, CommandError::Abort);
                false
            }
            Stop::AfterSync => true,
            Stop::Effect(effect) => {
                self.begin_effect(ring, desk, effect);
                true
            }
        }
    }

    /// The last window has ended by unwinding: nothing that was fetched from CONS on is kept (law 6), nor
    /// what was collected for a SYNC there. It is all fetched again.
    #[cold]
    pub(crate) fn forget_window(&mut self, ring: &Ring) {
        self.in_window = false;
        self.events_due = None;
        self.configuring = None;
        self.stop_clock(ring);
        if let Some(cover) = &mut self.cover {
            cover.forget();
        }
    }

    /// Publishes CONS: everything before `cons` is done.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &Ring, cons: QueueIndex) {
        self.cons = cons;
        ring.publish_cons(cons, self.halted);
    }

    /// Stops the ring at CONS: first CONS with the reason, then GERROR, then the interrupt.
    pub(crate) fn stop(&mut self, ring: &Ring, error: CommandError) {
        self.halted = Some(error);
        // law4c: CONS moves on over the command that failed.
        let at = if vcmdq_sync::broken!(break_law4c) {
            self.entries.geometry().advance(self.cons, 1)
        } else {
            self.cons
        };
        self.publish(ring, at);
        ring.raise(&*self.frame.interrupts, gerror_bits::CMDQ_ERR);
    }
}
