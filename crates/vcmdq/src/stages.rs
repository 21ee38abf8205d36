//! The stages of a window, one function each; [`Consumer::window`] is all of them for one ring.

use crate::cmdqv::cover::Taken;
use crate::complete::{Completed, complete, hold};
use crate::consumer::Consumer;
use crate::ring::Ring;
use crate::window::{Desk, Part};

impl Consumer {
    /// One window: fetch, decode and first pass; then dispatch; then complete; then the command
    /// that ended it. Whether the ring can go on for now. `SEEN`: somebody watches or measures.
    #[inline]
    pub(crate) fn window<const SEEN: bool>(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        published: u32,
    ) -> bool {
        desk.window.restart(&self.capabilities);
        let share = (desk.budget).of_window(self.calls_in_lane && !desk.is_inline());
        desk.window.allow(share);
        let most = desk.most(self.calls_in_lane);
        let mut part = self.open::<SEEN>(ring, desk, published, published.min(most));
        let room = most.saturating_sub(desk.window.len);
        self.cover_others(ring, desk, &mut part, room, &[]);
        self.dispatch_window(&[ring], ring, desk);
        let completed = self.finish::<SEEN>(ring, desk, 0, &part);
        desk.looked_at(part.fetched() + part.others);
        self.end::<SEEN>(ring, desk, completed, &part)
    }

    /// First stage of a window: fetch, decode and first pass of up to `most` commands.
    #[inline]
    pub(crate) fn open<const SEEN: bool>(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        published: u32,
        most: u32,
    ) -> Part {
        self.in_window = true;
        if SEEN {
            self.saw_published(ring, published);
        }
        // A SYNC that waited is asked for alone: with new invalidations beside it, new accesses
        // could keep it waiting for ever.
        let alone = self.waiting || self.is_covering();
        let mut part = desk.window.part(self.cons);
        part.stop = self.take_window::<SEEN>(desk, part.base, if alone { 1 } else { most });
        desk.window.fetched(&mut part);
        if SEEN {
            self.saw_fetched(ring, desk, part.fetched());
        }
        ring.counters
            .invalidations
            .add(u64::from(part.invalidations));
        part
    }

    /// Whether CONS stands at a SYNC for which more of other rings is to be executed.
    #[inline]
    pub(crate) fn is_covering(&self) -> bool {
        self.cover.as_ref().is_some_and(|cover| cover.is_begun())
    }

    /// Second stage: adds what other rings of the VINTF have published to a part with a SYNC, up to
    /// `room` entries; but for what of them is `taken`, which is in the same window already.
    #[inline]
    pub(crate) fn cover_others(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        part: &mut Part,
        room: u32,
        taken: &[Taken],
    ) {
        let Some(cover) = &mut self.cover else {
            return;
        };
        let window = &mut desk.window;
        if part.invalidations != 0 {
            cover.lane().set_unsynced(true);
        }
        if part.has_no_sync() {
            return cover.forget();
        }
        // A SYNC that waits for accesses has all of it behind it.
        if self.waiting {
            return;
        }
        if !cover.is_begun() {
            cover.begin(taken);
        }
        let (caps, memory) = (&self.frame.settings.caps, &*self.memory);
        let others = cover.gather(window, memory, caps, room);
        window.len += others;
        part.others += others;
        ring.counters.covered.add(u64::from(others));
    }

    /// Third stage, when what the window's parts hold is done in the backends: the SYNCs of the `nth`
    /// part, and CONS.
    #[inline]
    pub(crate) fn finish<const SEEN: bool>(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        nth: u32,
        part: &Part,
    ) -> Completed {
        if SEEN {
            self.saw_dispatched(ring, desk);
        }
        let lost = desk.report.unanswered_of(nth, part.base, part.len);
        // law4g: what one ring failed at in a shared call is charged to all of them.
        let lost = if vcmdq_sync::broken!(break_law4g) && !desk.report.unanswered.is_empty() {
            Some(0)
        } else {
            lost
        };
        let syncs = desk.window.syncs_of(part);
        let completed = if self.cover.as_ref().is_none_or(|cover| cover.is_done()) {
            complete(self, ring, syncs, part.len, lost)
        } else {
            hold(self, ring, syncs, lost)
        };
        if SEEN {
            self.saw_completed(ring, desk, part);
        }
        if self.waiting != (completed == Completed::Waiting) {
            self.waiting = !self.waiting;
            ring.set_waiting(self.waiting);
        }
        completed
    }

    /// Last stage: what the window ended at. Whether the ring can go on for now.
    #[inline]
    pub(crate) fn end<const SEEN: bool>(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        completed: Completed,
        part: &Part,
    ) -> bool {
        let effects = ring.counters.effects.get();
        let start = part.start;
        let goes_on = match (completed, part.stop) {
            (Completed::All, None) => true,
            (Completed::All, Some(stop)) if desk.defers(&stop) => false,
            (Completed::All, Some(stop)) => self.end_window(ring, desk, stop),
            (Completed::Covering, _) => true,
            _ => false,
        };
        if SEEN {
            self.saw_end(ring, desk, effects);
        }
        let consumed = self.entries.geometry().published(start, self.cons);
        ring.counters.window(consumed.unwrap_or(0));
        self.in_window = false;
        goes_on
    }
}
