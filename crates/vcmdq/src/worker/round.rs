//! A round: what one awake worker goes through, again and again.
//!
//! 1. Rings that are ready, by turns; between two of them a glance at a few of the round's pages, so
//!    that a guest that stores into a page waits for its turn and not for all that is ready.
//! 2. If nothing is ready, the pages (shared pages, open zones, PRODs in guest memory). News is
//!    served at once if it is the first, or again the same ring's; what is found besides is ready from
//!    then on, and served by turns.
//! 3. If there is no news either, it spins a while, then sleeps in the round's bed.

use super::deaths::survive;
use super::lane::Lane;
use super::serve::{Look, News, Served, look, serve};
use super::waits::Waits;
use crate::doorbell::pace::Pace;
use crate::engine::EngineShared;
use crate::ready::FAN;
use crate::ring::Ring;
use crate::rings::Table;
use crate::window::Desk;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::hint;

/// Looks at the only page in one turn, all under one claim. A claim costs two writes to words, a look
/// one read.
const LOOKS: u32 = 16;
/// Looks at many pages in one turn, and between two rings that are ready.
const PAGES: usize = 32;
const GLANCES: usize = 8;
/// Pages that are looked at for more of a frame whose turn it is to make a call that can block.
const GATHERED: usize = 64;
/// Rings that are served before anything else is thought of.
const READY: u32 = 64;
/// Idle turns between two looks at the clock, which costs more than a turn.
const TURNS: u32 = if cfg!(loom) { 1 } else { 32 };

/// What belongs to a round, whoever goes through it.
pub(crate) struct Round {
    index: usize,
    table: vcmdq_sync::sync::Arc<Table>,
    version: u64,
    /// Rings whose PROD nobody announces.
    pages: Arc<Vec<Arc<Ring>>>,
    /// The frame whose they all are, if it is one.
    frame: Option<Arc<Lane>>,
    /// Which of them was looked at last, and which had news last.
    cursor: usize,
    busy: usize,
    /// The slot that was served last.
    last: u32,
    pace: Pace,
    waits: Waits,
}

impl Round {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            table: vcmdq_sync::sync::Arc::new(Table::default()),
            version: 0,
            pages: Arc::default(),
            frame: None,
            cursor: 0,
            busy: 0,
            last: 0,
            pace: Pace::default(),
            waits: Waits::new(),
        }
    }
}

/// Whether there was work. `Err` is a ring whose next step may block: it is for its frame's lane.
type Step = Result<bool, Arc<Ring>>;

/// A worker in its round.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a EngineShared,
    pub(super) round: &'a mut Round,
    pub(super) desk: &'a mut Desk,
}

impl Turn<'_> {
    /// Once round.
    pub(super) fn go(&mut self) -> Result<(), Arc<Ring>> {
        self.refresh();
        self.attend();
        let ready = self.serve_ready()?;
        if !(self.serve_pages()? | ready) {
            return self.rest();
        }
        if self.round.pace.has_worked() {
            self.round.pace.rests(self.shared.clock.now());
        }
        Ok(())
    }

    /// A ring of a frame is about to be served in the frame's lane: what else of the frame is ready
    /// goes along.
    pub(super) fn gather(&mut self, ring: &Ring) {
        let lane = &*ring.lane;
        if !lane.is_always() {
            return;
        }
        let share = ring.place.slot / FAN;
        let mut ready = self.shared.bell.take_share(share);
        // Behind the taking, as in `serve_ready`: a ring may have come, or the share be another frame's.
        self.refresh();
        while ready != 0 {
            let slot = share * FAN + ready.trailing_zeros();
            ready &= ready - 1;
            match self.round.table.get(slot) {
                Some(other) if std::ptr::eq(&*other.lane, lane) => lane.hold(other.index),
                Some(other) => other.rouse(),
                None => {}
            }
        }
        for _ in 0..self.round.pages.len().min(GATHERED) {
            let page = self.next_page();
            let other = &self.round.pages[page];
            let slice = self.shared.settings.slice;
            if std::ptr::eq(&*other.lane, lane)
                && look(other, self.desk, slice, 1, News::Tell) == Look::News
            {
                lane.hold(other.index);
            }
        }
    }

    /// The round's number, the rings that it knows, and whether it has something to do beside the rings
    /// of a frame that nobody would wake a worker for.
    pub(super) fn leave_beside(&self, lane: &Lane) -> (usize, u64, bool) {
        let of_frame = |frame: &Arc<Lane>| std::ptr::eq(&**frame, lane);
        let others =
            !self.round.pages.is_empty() && !self.round.frame.as_ref().is_some_and(of_frame);
        let awaited = others || !self.round.waits.is_empty();
        // law11b: nobody is woken to look at the pages.
        let awaited = awaited && !vcmdq_sync::broken!(break_law11b);
        (self.round.index, self.round.version, awaited)
    }

    /// Follows rings that come and go.
    #[inline]
    fn refresh(&mut self) {
        let version = self.shared.rings.version();
        if version != self.round.version {
            self.follow(version);
        }
    }

    #[cold]
    fn follow(&mut self, version: u64) {
        let round = &mut *self.round;
        round.version = version;
        round.table = self.shared.rings.table();
        round.pages = round.table.polled(round.index);
        let first = round.pages.first().map(|ring| ring.lane.clone());
        let all = |lane: &Arc<Lane>| round.pages.iter().all(|r| Arc::ptr_eq(&r.lane, lane));
        round.frame = first.filter(all);
        round.pace.follow(&round.pages);
    }

    /// Serves rings that are ready. Whether any had work.
    fn serve_ready(&mut self) -> Step {
        let mut worked = false;
        for _ in 0..READY {
            let Some(slot) = self.shared.bell.take(self.round.last) else {
                break;
            };
            self.round.last = slot;
            // Behind the taking: the slot may be another ring's by now.
            self.refresh();
            if let Some(ring) = self.round.table.get(slot) {
                let slice = self.shared.settings.slice;
                let served = survive(ring, self.desk, |desk| serve(ring, desk, slice));
                match served {
                    // While its frame's call is under way, its doorbells are no reason not to look at others' pages.
                    Some(Served::Blocks) => {
                        if !ring.lane.is_for_owner(ring.index, &self.shared.bell) {
                            return Err(ring.clone());
                        }
                        worked = true;
                    }
                    Some(Served::Done(consumed)) => worked |= consumed,
                    None => worked = true,
                }
                if ring.is_waiting() {
                    self.round.waits.note(ring, self.shared.clock.now());
                }
            }
            self.glance()?;
        }
        Ok(worked)
    }

    /// Looks at a few pages while other rings are being served.
    #[inline]
    fn glance(&mut self) -> Result<(), Arc<Ring>> {
        for _ in 0..self.round.pages.len().min(GLANCES) {
            let page = self.next_page();
            self.look_at(page, 1, News::Tell)?;
        }
        Ok(())
    }

    #[inline]
    fn next_page(&mut self) -> usize {
        // No division: this is done for each look.
        let next = self.round.cursor + 1;
        self.round.cursor = if next < self.round.pages.len() {
            next
        } else {
            0
        };
        self.round.cursor
    }

    /// Looks at pages because nothing is ready. Whether any had news.
    #[inline]
    fn serve_pages(&mut self) -> Step {
        match self.round.pages.len() {
            0 => Ok(false),
            1 => self.look_at(0, LOOKS, self.first_news()),
            pages => self.serve_many(pages),
        }
    }

    fn first_news(&self) -> News {
        if self.shared.bell.has_work() {
            News::Tell
        } else {
            News::Serve
        }
    }

    fn serve_many(&mut self, pages: usize) -> Step {
        let mut worked = false;
        for _ in 0..pages.min(PAGES) {
            let page = self.next_page();
            // Who has just had a SYNC done will have another one: looked at between any two others,
            // its guest does not wait until all the idle ones have been looked at.
            let busy = self.round.busy;
            if busy != page && busy < pages {
                worked |= self.look_at(busy, 1, self.first_news())?;
            }
            // More of the same guest's is no reason to let others wait; more of another's has its turn.
            let news = if worked {
                News::Tell
            } else {
                self.first_news()
            };
            worked |= self.look_at(page, 1, news)?;
        }
        Ok(worked)
    }

    /// Whether there was news; what is not served at once is ready then.
    #[inline]
    fn look_at(&mut self, page: usize, looks: u32, news: News) -> Step {
        let ring = &self.round.pages[page];
        let slice = self.shared.settings.slice;
        let came_to = survive(ring, self.desk, |desk| look(ring, desk, slice, looks, news));
        let found = match came_to {
            Some(Look::Nothing) => false,
            // While its frame's call is under way, news there are no reason to pass others' pages by, nor not to rest.
            Some(Look::Served(Served::Blocks)) => {
                if !ring.lane.is_for_owner(ring.index, &self.shared.bell) {
                    return Err(ring.clone());
                }
                false
            }
            Some(Look::Served(Served::Done(consumed))) => {
                if ring.is_waiting() {
                    self.round.waits.note(ring, self.shared.clock.now());
                }
                consumed
            }
            Some(Look::News) => {
                ring.rouse();
                true
            }
            None => true,
        };
        if found {
            self.round.busy = page;
        }
        Ok(found)
    }

    /// Nothing to do: goes on looking for a while, then sleeps.
    fn rest(&mut self) -> Result<(), Arc<Ring>> {
        let start = self.shared.clock.now();
        self.looked(start, false);
        self.round.pace.rests(start);
        let spin = self.round.pace.spin(self.shared.settings.spin, start);
        let mut looks = 0;
        loop {
            for _ in 0..TURNS {
                looks += 1;
                hint::spin_loop();
                let step = if self.has_work() {
                    Ok(true)
                } else {
                    self.serve_pages()
                };
                if !matches!(step, Ok(false)) {
                    self.round.pace.has_worked();
                    self.shared.count_idle(looks, false);
                    return step.map(drop);
                }
            }
            let now = self.shared.clock.now();
            self.looked(now, false);
            let idle = now.saturating_sub(start);
            if idle >= spin {
                break;
            }
            // Whoever is going to ring may be waiting for this very processor.
            if idle >= self.shared.settings.yield_after {
                vcmdq_sync::thread::yield_now();
            }
        }
        self.sleep(looks);
        Ok(())
    }

    /// Looks after rings that wait, also those that a thread without a round has left waiting. However
    /// much there is to do: a guest that floods delays no word about another one's SYNC (law 8).
    #[inline]
    fn attend(&mut self) {
        if !self.round.waits.is_empty() || self.shared.has_waiting() {
            let now = self.shared.clock.now();
            for ring in self.shared.take_waiting() {
                self.round.waits.note(&ring, now);
            }
            self.round.waits.check(now);
        }
    }

    fn sleep(&mut self, looks: u32) {
        // An eventfd wakes it; nobody does for a page.
        let polls = |ring: &Arc<Ring>| ring.page().is_some() && ring.gate.is_none();
        let doze = self.shared.settings.doze;
        let now = self.shared.clock.now();
        let dozes = self.round.pages.iter().any(polls).then_some(doze);
        let dozes = dozes.into_iter().chain(self.round.pace.doze(doze, now));
        let limit = dozes.chain(self.round.waits.next(now)).min();
        let slept = limit != Some(Duration::ZERO)
            && self
                .shared
                .bell
                .sleep(self.round.index, limit, || self.changed());
        self.shared.count_idle(looks, slept);
        if self.shared.settings.late_after.is_some() {
            self.looked(self.shared.clock.now(), slept);
        }
    }

    /// Keeps in mind what the time went into, if that is measured.
    fn looked(&mut self, now: Duration, slept: bool) {
        if let Some(limit) = self.shared.settings.late_after {
            self.desk.looks.idle(now, limit, slept);
        }
    }

    fn has_work(&self) -> bool {
        self.shared.bell.has_work() || self.changed()
    }

    fn changed(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
            || self.shared.rings.version() != self.round.version
            || self.shared.has_waiting()
    }
}
