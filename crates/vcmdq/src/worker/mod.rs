//! Workers: threads that go through rounds.
//!
//! There are [`Settings::workers`](crate::Settings::workers) *rounds* ([`round`]). A thread that goes
//! through one is awake, or sleeps in that round's bed; nobody else goes through it meanwhile. There are
//! more threads than rounds: one *spare* for each frame whose calls can block ([`staff`]).
//!
//! Before a call that can block, a thread enters the frame's lane ([`lane`]) and gives up its round
//! (law 11):
//!
//! | thread that gives up round *r* | doorbell, or whoever needs a thread in *r* |
//! |---|---|
//! | 1. *r* sleeps, *r* is vacant | 1. ready bit |
//! | 2. gives up the claim of *r* | 2. fence SeqCst |
//! | 3. fence SeqCst | 3. takes *r* out of the sleepers; it is vacant: wakes a spare |
//! | 4. something is ready, or a page of somebody else's is to be looked at: takes *r* out of the sleepers and wakes a spare | |
//!
//! The fences are totally ordered, so whoever is second sees what the first one wrote. A spare that
//! wakes goes through any vacant round that does not sleep. So nobody is woken for a short call
//! beside which there is nothing to do, and as long as something is ready somebody goes through every
//! round that is awake. A thread that comes back goes on with its round if that is still vacant, and is
//! a spare otherwise. Model: `loom-tests/tests/blocking.rs`.

mod deaths;
mod lane;
mod round;
mod serve;
mod spares;
mod staff;
mod waits;

pub(crate) use deaths::{Deaths, try_once};
pub(crate) use lane::Lane;
pub(crate) use round::Round;
pub(crate) use serve::serve;
#[cfg(any(test, feature = "testing"))]
pub(crate) use serve::{Look, News, Served, look};
pub(crate) use spares::Spares;
pub(crate) use staff::Staff;

use crate::commit::serve_together;
use crate::engine::EngineShared;
use crate::ring::Ring;
use crate::window::Desk;
use arrayvec::ArrayVec;
use deaths::survive;
use round::Turn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::claim::Claim;
use vcmdq_sync::thread::Parker;

/// Rings of a lane that are served together.
const TOGETHER: usize = 64;
/// A thread that dies outside of any ring waits so long before it goes on, and longer each time.
const GRIEF: Duration = Duration::from_millis(1);

/// One thread.
pub(crate) struct Worker {
    /// The round that it went through last, unless somebody else does now.
    own: Option<usize>,
    /// It goes through it now.
    inside: bool,
    shared: Arc<EngineShared>,
    desk: Desk,
}

impl Worker {
    /// One that begins with a round.
    pub(crate) fn new(index: usize, shared: Arc<EngineShared>) -> Self {
        Self {
            own: Some(index),
            inside: false,
            shared,
            desk: Desk::of_worker(),
        }
    }

    /// One that waits until it is needed.
    pub(crate) fn spare(shared: Arc<EngineShared>) -> Self {
        Self {
            own: None,
            inside: false,
            shared,
            desk: Desk::of_worker(),
        }
    }

    /// Runs until the engine stops, or until it has nothing to do and there is one too many.
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        let mut grief = GRIEF;
        while !shared.stops() {
            match self.survive(&shared, |worker| worker.work(&shared)) {
                Some(true) => grief = GRIEF,
                Some(false) => return,
                None => {
                    Parker::new().park(Some(grief));
                    grief = (grief * 2).min(GRIEF * 1000);
                }
            }
        }
    }

    /// Goes through a round until it has to be given up, or waits for one. False if the thread is to
    /// end.
    fn work(&mut self, shared: &EngineShared) -> bool {
        let Some(mut claim) = self.enter(shared) else {
            return self.idle(shared);
        };
        while !shared.stops() {
            if let Err(ring) = self.turn_in(shared, &mut claim) {
                ring.lane.hold(ring.index);
                if let Some(turn) = ring.lane.enter() {
                    self.block(shared, claim, &ring, turn);
                    break;
                }
            }
        }
        true
    }

    /// A round that nobody goes through: the own one, or one that has to be gone through.
    fn enter<'a>(&mut self, shared: &'a EngineShared) -> Option<Claim<'a, Round>> {
        let bell = &shared.bell;
        let needing = bell.needs_threads();
        let others = (0..shared.rounds.len()).filter(|round| needing >> round & 1 != 0);
        let own = self.own.filter(|round| bell.is_vacant(*round));
        let mut rounds = own.into_iter().chain(others);
        let entered = rounds.find_map(|round| Some((round, shared.rounds[round].try_enter()?)));
        self.own = entered.as_ref().map(|(round, _)| *round);
        let (round, claim) = entered?;
        bell.has_entered(round);
        self.inside = true;
        Some(claim)
    }

    /// Once through the round. `Err` is a ring whose next step may block.
    fn turn_in(
        &mut self,
        shared: &EngineShared,
        claim: &mut Claim<'_, Round>,
    ) -> Result<(), Arc<Ring>> {
        let desk = &mut self.desk;
        claim.with(|round| {
            let mut turn = Turn {
                shared,
                round,
                desk,
            };
            turn.go()
        })
    }

    /// Gives the round up and serves what the lane holds; the ring is among it.
    fn block(
        &mut self,
        shared: &EngineShared,
        mut claim: Claim<'_, Round>,
        ring: &Ring,
        turn: Claim<'_, ()>,
    ) {
        let (lane, desk) = (&*ring.lane, &mut self.desk);
        let owner = Owner {
            lane,
            shared,
            turn: Some(turn),
        };
        let (index, version, awaited) = claim.with(|round| {
            let mut turn = Turn {
                shared,
                round,
                desk,
            };
            turn.gather(ring);
            turn.leave_beside(lane)
        });
        self.inside = false;
        // law11a: a worker keeps its round while it is in a call.
        if vcmdq_sync::broken!(break_law11a) {
            owner.serve(&mut self.desk);
            return shared.bell.leave_open(index);
        }
        shared.bell.vacate(index);
        drop(claim);
        let news = || {
            let changed = shared.rings.version() != version || shared.has_waiting();
            awaited || changed || shared.stops()
        };
        shared.bell.has_vacated(index, news);
        shared.count_hand_over();
        owner.serve(&mut self.desk);
    }

    /// Waits until there is a round to go through. False if the thread is to end.
    fn idle(&mut self, shared: &EngineShared) -> bool {
        let is_needed = || shared.bell.needs_threads() != 0 || shared.stops();
        // Who needs it may be about to go through the round itself.
        vcmdq_sync::hint::spin_loop();
        if shared.patience.until(is_needed) {
            return true;
        }
        let leaves = || shared.stops() || shared.staff.is_leaving();
        shared.bell.spares().sleep(leaves);
        if shared.stops() || !shared.staff.dismisses() {
            return true;
        }
        // It may have taken a token along that another one is needed for.
        shared.bell.spares().wake();
        false
    }

    /// Works. `None` if that has unwound somewhere outside of a ring.
    fn survive<R>(
        &mut self,
        shared: &EngineShared,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        // A model that fails does so by unwinding, which must not be caught.
        if cfg!(loom) {
            return Some(work(self));
        }
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).ok();
        if done.is_none() {
            tracing::error!("a worker has died by a panic outside of any ring");
            shared.bell.count_panic();
            self.desk = Desk::of_worker();
            if let Some(round) = self.own.filter(|_| std::mem::take(&mut self.inside)) {
                // The claim was given up on the way.
                shared.bell.leave_open(round);
                shared.bell.spares().wake();
            }
        }
        done
    }

    /// Once through the own round, for tests that go step by step.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn turn(&mut self) {
        let shared = self.shared.clone();
        let Some(mut claim) = self.enter(&shared) else {
            return;
        };
        let blocks = self.turn_in(&shared, &mut claim);
        self.own
            .into_iter()
            .for_each(|round| shared.bell.leave_open(round));
        match blocks {
            Err(ring) => {
                ring.lane.hold(ring.index);
                match ring.lane.enter() {
                    Some(turn) => self.block(&shared, claim, &ring, turn),
                    None => drop(claim),
                }
            }
            Ok(()) => drop(claim),
        }
    }
}

/// Who owns a lane. What is held when it leaves, or dies, is not lost.
struct Owner<'a> {
    lane: &'a Lane,
    shared: &'a EngineShared,
    turn: Option<Claim<'a, ()>>,
}

impl Owner<'_> {
    /// Serves what is held, until nothing is.
    fn serve(mut self, desk: &mut Desk) {
        desk.may_block = true;
        let mut last = 0;
        loop {
            while let Some(ring) = self.lane.take(last).filter(|_| !self.shared.stops()) {
                last = self.serve_beside(ring, desk);
            }
            match self.turn.take().map(Claim::leave) {
                Some(Err(again)) => self.turn = Some(again),
                _ => break,
            }
        }
        desk.may_block = false;
    }

    /// Serves a ring, and others that are held, together. Which one was the last.
    fn serve_beside(&self, first: u32, desk: &mut Desk) -> u32 {
        let (shared, mut last) = (self.shared, first);
        let mut rings = ArrayVec::<Arc<Ring>, TOGETHER>::new();
        rings.extend(shared.ring(first));
        while self.lane.is_always() && !rings.is_full() {
            let Some(ring) = self.lane.take(last) else {
                break;
            };
            last = ring;
            rings.extend(shared.ring(ring));
        }
        let slice = shared.settings.slice;
        let all = || rings.iter().map(|ring| &**ring);
        let together = match &*rings {
            [] => return last,
            [_] => None,
            [first, ..] => try_once(first, desk, |desk| serve_together(all(), desk, slice)),
        };
        for ring in &rings {
            // Alone, if there is nobody else, or if somebody's end was everybody's.
            if together.is_none() {
                survive(ring, desk, |desk| serve(ring, desk, slice));
            }
            if ring.is_waiting() {
                shared.leave_waiting(ring);
            }
        }
        last
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.lane.hand_on(turn, &self.shared.bell);
        }
    }
}

impl EngineShared {
    #[inline]
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The ring of a number, if it is still there.
    fn ring(&self, number: u32) -> Option<Arc<Ring>> {
        let table = self.rings.table();
        let ring = table.get(self.bell.slot(number)?)?;
        Some(ring.clone())
    }
}
