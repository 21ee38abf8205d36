//! The loop of a worker: take a ring, serve it, spin, sleep.

use crate::consumer::Progress;
use crate::doorbell::pace::Pace;
use crate::engine::EngineShared;
use crate::ring::Ring;
use crate::waits::Waits;
use crate::window::Desk;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::hint;

/// Looks at shared pages in one round, each under one claim. A claim costs two writes to words, a look one read.
const LOOKS: u32 = 16;
/// Idle rounds between two looks at the clock, which costs more than a round.
const ROUNDS: u32 = 32;

pub(crate) struct Worker {
    index: usize,
    shared: Arc<EngineShared>,
    rings: Vec<Arc<Ring>>,
    /// Those of them whose PROD the first worker looks for itself.
    pages: Vec<Arc<Ring>>,
    /// Which of them had news last.
    busy: usize,
    version: u64,
    desk: Desk,
    waits: Waits,
    pace: Pace,
    last: u32,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<EngineShared>) -> Self {
        let version = shared.version.load(Ordering::Acquire);
        let rings = shared.rings();
        let pages = polled(index, &rings);
        let mut pace = Pace::default();
        pace.follow(&pages);
        Self {
            index,
            shared,
            pages,
            busy: 0,
            pace,
            rings,
            version,
            desk: Desk::new(),
            waits: Waits::new(),
            last: 0,
        }
    }

    /// Runs until the engine stops.
    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.turn();
        }
    }

    /// Once round.
    pub(crate) fn turn(&mut self) {
        self.refresh();
        if !(self.serve_ready() | self.serve_pages()) {
            self.rest();
        } else if self.pace.has_worked() {
            self.pace.rests(self.shared.clock.now());
        }
    }

    /// Follows rings that came.
    fn refresh(&mut self) {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.rings = self.shared.rings();
            self.pages = polled(self.index, &self.rings);
            self.pace.follow(&self.pages);
        }
    }

    /// Serves rings whose doorbell has rung. Whether any had work.
    fn serve_ready(&mut self) -> bool {
        let mut worked = false;
        while let Some(index) = self.shared.bell.take(self.last) {
            self.last = index;
            if self.rings.len() <= index as usize {
                self.refresh();
            }
            if let Some(ring) = self.rings.get(index as usize) {
                worked |= serve(ring, &mut self.desk, self.shared.settings.slice);
                if ring.is_waiting() {
                    self.waits.note(ring, self.shared.clock.now());
                }
            }
        }
        worked
    }

    /// Looks at the shared pages, which belong to the first worker. Whether any had news.
    fn serve_pages(&mut self) -> bool {
        if self.pages.len() == 1 {
            return self.look_at(0, LOOKS);
        }
        let mut worked = false;
        for page in 0..self.pages.len() {
            worked |= self.look_at(page, 1);
            // Who has just had a SYNC done will have another one: looked at between any two others,
            // its guest does not wait until all the idle ones have been looked at.
            if self.busy != page && self.busy < self.pages.len() {
                worked |= self.look_at(self.busy, 1);
            }
        }
        worked
    }

    fn look_at(&mut self, page: usize, looks: u32) -> bool {
        let ring = &self.pages[page];
        let worked = poll(ring, &mut self.desk, self.shared.settings.slice, looks);
        if worked {
            self.busy = page;
        }
        if ring.is_waiting() {
            self.waits.note(ring, self.shared.clock.now());
        }
        worked
    }

    /// Nothing to do: goes on looking for a while, then sleeps.
    fn rest(&mut self) {
        let start = self.shared.clock.now();
        self.looked(start, false);
        self.waits.check(start);
        self.pace.rests(start);
        let spin = self.pace.spin(self.shared.settings.spin, start);
        let mut looks = 0;
        loop {
            for _ in 0..ROUNDS {
                looks += 1;
                hint::spin_loop();
                if self.has_work() || self.serve_pages() {
                    self.pace.has_worked();
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
        // An eventfd wakes it; nobody does for a page.
        let polls = |ring: &Arc<Ring>| ring.page().is_some() && ring.gate.is_none();
        let doze = self.shared.settings.doze;
        let now = self.shared.clock.now();
        let dozes = self.pages.iter().any(polls).then_some(doze);
        let dozes = dozes.into_iter().chain(self.pace.doze(doze, now));
        let limit = dozes.chain(self.waits.next(now)).min();
        let slept = limit != Some(Duration::ZERO)
            && self.shared.bell.sleep(self.index, limit, || self.changed());
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
            || self.shared.version.load(Ordering::Acquire) != self.version
    }
}

fn polled(worker: usize, rings: &[Arc<Ring>]) -> Vec<Arc<Ring>> {
    let mine = rings.iter().filter(|ring| ring.is_polled());
    mine.filter(|_| worker == 0).cloned().collect()
}

/// Consumes a ring until it is idle or has had its share. If another worker is at it, that one
/// goes round again. Whether anything was consumed.
pub(crate) fn serve(ring: &Ring, desk: &mut Desk, slice: Duration) -> bool {
    let Some(mut claim) = ring.consumer.enter() else {
        return false;
    };
    let mut worked = false;
    loop {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        worked |= consumed;
        match (claim.leave(), progress) {
            (Ok(()), Progress::Idle) => return worked,
            (Err(again), Progress::Idle) => claim = again,
            (left, Progress::More) => {
                drop(left);
                ring.bell.ring(ring.index);
                return worked;
            }
        }
    }
}

/// Looks at a shared page a few times; serves the ring as soon as there is news.
pub(crate) fn poll(ring: &Ring, desk: &mut Desk, slice: Duration, looks: u32) -> bool {
    if let Some(gate) = &ring.gate {
        // Behind a closed gate nothing comes without a doorbell.
        if !gate.is_open() {
            return false;
        }
        ring.drain();
        if ring.page().is_none() {
            return false;
        }
    }
    let Some(mut claim) = ring.consumer.enter() else {
        return false;
    };
    // Under the claim, because a paused ring's page may be gone.
    let news = claim
        .with(|consumer| !ring.is_paused() && ring.look_for_news(consumer, &mut desk.looks, looks));
    let mut worked = false;
    if news {
        let (progress, consumed) = claim.with(|consumer| consumer.slice(ring, desk, slice));
        worked = consumed;
        if progress == Progress::More {
            ring.bell.ring(ring.index);
        }
    }
    if let Err(again) = claim.leave() {
        drop(again);
        ring.bell.ring(ring.index);
    }
    worked
}
