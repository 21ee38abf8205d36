//! A round: what one awake worker goes through, again and again.
//!
//! 1. Rings that are ready, by turns; between two of them a glance at a few of the round's pages, so
//!    that a guest that stores into a page waits for its turn and not for all that is ready.
//! 2. If nothing is ready, the pages (shared pages, open zones, PRODs in guest memory). News is
//!    served at once if it is the first in this look round; what is found besides is ready from then
//!    on, and served by turns.
//! 3. If there is no news either, it spins a while, then sleeps in the round's bed.

use super::serve::{Look, News, look, serve};
use super::waits::Waits;
use crate::doorbell::pace::Pace;
use crate::engine::EngineShared;
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
/// Rings that are served before anything else is thought of.
const READY: u32 = 64;
/// Idle turns between two looks at the clock, which costs more than a turn.
const TURNS: u32 = 32;

/// What belongs to a round, whoever goes through it.
pub(crate) struct Round {
    index: usize,
    table: vcmdq_sync::sync::Arc<Table>,
    version: u64,
    /// Rings whose PROD nobody announces.
    pages: Arc<Vec<Arc<Ring>>>,
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
            cursor: 0,
            busy: 0,
            last: 0,
            pace: Pace::default(),
            waits: Waits::new(),
        }
    }
}

/// A worker in its round.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a EngineShared,
    pub(super) round: &'a mut Round,
    pub(super) desk: &'a mut Desk,
}

impl Turn<'_> {
    /// Once round.
    pub(super) fn go(&mut self) {
        self.refresh();
        if !(self.serve_ready() | self.serve_pages()) {
            self.rest();
        } else if self.round.pace.has_worked() {
            self.round.pace.rests(self.shared.clock.now());
        }
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
        round.pace.follow(&round.pages);
    }

    /// Serves rings that are ready. Whether any had work.
    fn serve_ready(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..READY {
            let Some(slot) = self.shared.bell.take(self.round.last) else {
                break;
            };
            self.round.last = slot;
            // Behind the taking: the slot may be another ring's by now.
            self.refresh();
            if let Some(ring) = self.round.table.get(slot) {
                worked |= serve(ring, self.desk, self.shared.settings.slice);
                if ring.is_waiting() {
                    self.round.waits.note(ring, self.shared.clock.now());
                }
            }
            self.glance();
        }
        worked
    }

    /// Looks at a few pages while other rings are being served.
    #[inline]
    fn glance(&mut self) {
        let pages = self.round.pages.len();
        if pages != 0 {
            for _ in 0..pages.min(GLANCES) {
                let page = self.next_page();
                self.look_at(page, 1, News::Announce);
            }
        }
    }

    fn next_page(&mut self) -> usize {
        self.round.cursor = (self.round.cursor + 1) % self.round.pages.len();
        self.round.cursor
    }

    /// Looks at pages because nothing is ready. Whether any had news.
    #[inline]
    fn serve_pages(&mut self) -> bool {
        match self.round.pages.len() {
            0 => false,
            1 => self.look_at(0, LOOKS, self.first_news()),
            pages => self.serve_many(pages),
        }
    }

    fn first_news(&self) -> News {
        if self.shared.bell.has_work() {
            News::Announce
        } else {
            News::Serve
        }
    }

    fn serve_many(&mut self, pages: usize) -> bool {
        let (mut worked, mut news) = (false, self.first_news());
        for _ in 0..pages.min(PAGES) {
            let page = self.next_page();
            // Who has just had a SYNC done will have another one: looked at between any two others,
            // its guest does not wait until all the idle ones have been looked at.
            let busy = Some(self.round.busy).filter(|busy| *busy != page && *busy < pages);
            for page in [Some(page), busy].into_iter().flatten() {
                if self.look_at(page, 1, news) {
                    (worked, news) = (true, News::Announce);
                }
            }
        }
        worked
    }

    /// Whether there was news.
    #[inline]
    fn look_at(&mut self, page: usize, looks: u32, news: News) -> bool {
        let ring = &self.round.pages[page];
        let found = look(ring, self.desk, self.shared.settings.slice, looks, news);
        if let Look::Served(_) = found {
            if ring.is_waiting() {
                self.round.waits.note(ring, self.shared.clock.now());
            }
        }
        let found = matches!(found, Look::Served(true) | Look::Announced);
        if found {
            self.round.busy = page;
        }
        found
    }

    /// Nothing to do: goes on looking for a while, then sleeps.
    fn rest(&mut self) {
        let start = self.shared.clock.now();
        self.looked(start, false);
        self.round.waits.check(start);
        self.round.pace.rests(start);
        let spin = self.round.pace.spin(self.shared.settings.spin, start);
        let mut looks = 0;
        loop {
            for _ in 0..TURNS {
                looks += 1;
                hint::spin_loop();
                if self.has_work() || self.serve_pages() {
                    self.round.pace.has_worked();
                    return self.shared.count_idle(looks, false);
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
    }
}
