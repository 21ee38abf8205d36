//! Calls that can block or are long, one thread at a time for each frame (law 11).
//!
//! A worker that finds that a ring's next step may be such a call does not take it. It *holds* the ring in its
//! frame's lane and enters the lane:
//!
//! * If it becomes the owner, it gives up its round, so that somebody else serves what else is ready,
//!   and then serves what is held.
//! * If somebody else is the owner, that one looks again at what is held before it leaves
//!   ([`ClaimCell`]), and the worker goes on with its round: it has lost nothing but a few steps.
//!
//! So at most one thread for each frame is inside calls that can block, and one spare for each frame
//! with such calls is enough for all workers to go on.
//!
//! While the lane of a frame with such a backend is taken, a doorbell holds the ring by
//! itself instead of waking a worker, which could do no more.

use crate::doorbell::Bell;
use crate::ready::{above, first_behind};
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::claim::{Claim, ClaimCell};

/// The lane of a frame. See the [module](self).
pub(crate) struct Lane {
    turn: ClaimCell<()>,
    /// Every step of the frame's rings may block: doorbells come here.
    always: AtomicBool,
    /// Which words of `held` may hold something.
    which: AtomicU64,
    /// Rings, by their numbers.
    held: Box<[AtomicU64]>,
}

impl Lane {
    /// For an engine of so many rings, at most 4096.
    pub(crate) fn new(rings: usize) -> Self {
        let words = rings.div_ceil(64).clamp(1, 64);
        Self {
            turn: ClaimCell::new(()),
            always: AtomicBool::new(false),
            which: AtomicU64::new(0),
            held: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A backend that may block, or has long calls, stands behind the frame.
    pub(crate) fn always_blocks(&self) {
        self.always.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_always(&self) -> bool {
        self.always.load(Ordering::Relaxed)
    }

    /// The ring is to be served by whoever owns the lane, or enters it next. Release pairs with the
    /// acquire in `take`.
    pub(crate) fn hold(&self, ring: u32) {
        let word = (ring / 64) as usize;
        self.held[word].fetch_or(1 << (ring % 64), Ordering::Release);
        self.which.fetch_or(1 << word, Ordering::Release);
    }

    /// Becomes the owner, or has the owner look again.
    pub(crate) fn enter(&self) -> Option<Claim<'_, ()>> {
        self.turn.enter()
    }

    /// One of the rings that are held: the first behind `after`, round and round. Called by the owner.
    pub(crate) fn take(&self, after: u32) -> Option<u32> {
        loop {
            let which = self.which.load(Ordering::Acquire);
            if which == 0 {
                return None;
            }
            let own = after / 64;
            let here = self.held.get(own as usize);
            let here = here.map_or(0, |word| word.load(Ordering::Acquire)) & above(after % 64);
            let (word, bits) = if here != 0 {
                (own, here)
            } else {
                let word = first_behind(which, own);
                (word, self.held[word as usize].load(Ordering::Acquire))
            };
            if bits != 0 {
                let bit = bits.trailing_zeros();
                self.held[word as usize].fetch_and(!(1 << bit), Ordering::AcqRel);
                return Some(word * 64 + bit);
            }
            self.which.fetch_and(!(1 << word), Ordering::AcqRel);
            // A read-modify-write reads the newest value: what was held before its bit in `which` was
            // cleared is seen here.
            if self.held[word as usize].fetch_or(0, Ordering::AcqRel) != 0 {
                self.which.fetch_or(1 << word, Ordering::Release);
            }
        }
    }

    /// A doorbell of a ring: left to the owner of the lane, if there is one and it is the only one who
    /// could serve it.
    #[inline]
    pub(crate) fn takes(&self, ring: u32, bell: &Bell) -> bool {
        self.always.load(Ordering::Relaxed) && self.is_for_owner(ring, bell)
    }

    /// Leaves a ring whose next step may block to the lane's owner, if there is one: whether there was.
    #[inline]
    pub(super) fn is_for_owner(&self, ring: u32, bell: &Bell) -> bool {
        let is_taken = self.turn.is_taken();
        if is_taken {
            self.leave_to_owner(ring, bell);
        }
        is_taken
    }

    #[cold]
    fn leave_to_owner(&self, ring: u32, bell: &Bell) {
        self.hold(ring);
        if let Some(turn) = self.enter() {
            // The owner has just left.
            self.hand_on(turn, bell);
        }
    }

    /// The owner leaves without serving: what is held is ready, like any other ring.
    pub(crate) fn hand_on(&self, mut turn: Claim<'_, ()>, bell: &Bell) {
        loop {
            while let Some(ring) = self.take(0) {
                bell.ring(ring);
            }
            match turn.leave() {
                Ok(()) => return,
                Err(again) => turn = again,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_taken_once_and_by_turns() {
        let lane = Lane::new(4096);
        for ring in [5, 7, 64, 4095, 5] {
            lane.hold(ring);
        }
        let mut order = Vec::new();
        let mut last = 5;
        while let Some(ring) = lane.take(last) {
            order.push(ring);
            last = ring;
        }
        assert_eq!(order, [7, 64, 4095, 5]);
        assert_eq!(lane.take(0), None);
    }

    #[test]
    fn law5_a_doorbell_that_finds_the_lane_taken_is_the_owners() {
        let (lane, bell) = (Lane::new(64), Bell::new(64, 1));
        bell.set_slot(3, 3);
        lane.always_blocks();
        assert!(!lane.takes(3, &bell), "nobody is there");
        let owner = lane.enter().expect("free");
        assert!(lane.takes(3, &bell) && !bell.has_work());
        let owner = owner.leave().expect_err("somebody came");
        assert_eq!(lane.take(0), Some(3));
        lane.hold(3);
        lane.hand_on(owner, &bell);
        assert_eq!(bell.take(0), Some(3));
        assert!(lane.enter().is_some());
    }
}
