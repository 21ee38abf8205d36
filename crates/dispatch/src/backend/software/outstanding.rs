//! Which invalidations of devices' own caches have not been answered yet, ring by ring (law 3).
//!
//! Each ring has one word, and every change to it is one compare-and-swap: how many answers are
//! missing, whether one came to nothing, whether a SYNC waits to be woken. So "the last answer is
//! here" and "somebody waits" are decided together, and no wake-up is lost.
//!
//! | bits | what |
//! |---|---|
//! | 31:0 | invalidations without an answer |
//! | 32 | one was not answered, and no SYNC has said so yet |
//! | 33 | a SYNC waits; the last answer wakes its ring |
//! | 63:34 | lap: counted up when the missing answers are given up, so that those that come yet count for nothing |

use crate::backend::{Barrier, WaiterId};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, order, taken};

/// As many rings as an engine can have, so that no two share a word; a power of two.
const RINGS: usize = if cfg!(loom) { 2 } else { 4096 };

const COUNT: u64 = 0xFFFF_FFFF;
const FAILED: u64 = 1 << 32;
const WAITED: u64 = 1 << 33;
const LAP_SHIFT: u32 = 34;

/// One invalidation that a ring waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    ring: WaiterId,
    lap: u64,
}

/// What an answer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Others are missing, or nobody waits.
    Counted,
    /// It was the last, and a SYNC waits: its ring is to be woken.
    Wakes(WaiterId),
    /// Nobody waits for it any more.
    Late,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Outstanding {
    rings: Box<[AtomicU64]>,
}

impl Outstanding {
    pub(super) fn new() -> Self {
        Self {
            rings: (0..RINGS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn word(&self, ring: WaiterId) -> &AtomicU64 {
        &self.rings[ring.0 as usize & (RINGS - 1)]
    }

    /// Changes a ring's word unless `change` says that there is nothing to do; returns what it was.
    fn change(
        &self,
        ring: WaiterId,
        success: Ordering,
        change: impl Fn(u64) -> Option<u64>,
    ) -> (u64, bool) {
        let word = self.word(ring);
        // Acquire pairs with the release in `end`: what a device did before it answered has happened
        // for whoever finds the answer counted. All changes are read-modify-writes, so that holds for
        // every answer, not for the last alone. Model: `law3_atc_answer_against_sync`.
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let Some(next) = change(seen) else {
                return (seen, false);
            };
            match word.compare_exchange(seen, next, success, Ordering::Acquire) {
                Ok(_) => return (seen, true),
                Err(now) => seen = now,
            }
        }
    }

    /// The ring waits for one answer more. By the ring's owner.
    pub(super) fn begin(&self, ring: WaiterId) -> Due {
        let (before, _) = self.change(ring, Ordering::AcqRel, |word| Some(word + 1));
        let lap = before >> LAP_SHIFT;
        Due { ring, lap }
    }

    /// An answer: the device has forgotten what it was to forget, or will not. From any thread.
    pub(super) fn end(&self, due: Due, answered: bool) -> Ended {
        // Release: what the device does no longer comes before the SYNC that finds this counted.
        let release = order(Site::AtcAnswer, Ordering::AcqRel);
        let (before, counted) = self.change(due.ring, release, |word| {
            if word >> LAP_SHIFT != due.lap || word & COUNT == 0 {
                return None;
            }
            let failed = if answered { 0 } else { FAILED };
            let next = (word - 1) | failed;
            Some(if next & COUNT == 0 {
                next & !WAITED
            } else {
                next
            })
        });
        match (counted, before & COUNT) {
            (false, _) => Ended::Late,
            (true, 1) if before & WAITED != 0 => Ended::Wakes(due.ring),
            _ => Ended::Counted,
        }
    }

    /// Whether all answers are here. If not, the last one wakes the ring.
    pub(super) fn barrier(&self, ring: WaiterId) -> Barrier {
        // The mark of who waits goes into the word that says that there is something to wait for.
        // Beside it an answer could come between the two and wake nobody.
        let wait = |word: u64| (word & COUNT != 0).then_some(word | WAITED);
        let (before, _) = self.change(ring, Ordering::AcqRel, |word| {
            wait(word).filter(|_| taken(Site::AtcWaited))
        });
        match wait(before) {
            // law3j: a SYNC does not wait for what devices have not answered.
            Some(_) if !vcmdq_sync::broken!(break_law3j) => Barrier::Pending,
            _ => Barrier::Done,
        }
    }

    /// Whether one was not answered; asked with `true` as the answer once.
    pub(super) fn take_failed(&self, ring: WaiterId) -> bool {
        let take = |word: u64| (word & FAILED != 0).then_some(word & !FAILED);
        self.change(ring, Ordering::AcqRel, take).1
    }

    /// Gives up waiting: those that are missing have failed. Whether there were any, and whether
    /// the ring is to be woken.
    pub(super) fn time_out(&self, ring: WaiterId) -> (u32, bool) {
        // law4h: what was not answered in time is taken for answered.
        let failed = if vcmdq_sync::broken!(break_law4h) {
            0
        } else {
            FAILED
        };
        let give_up = |word: u64| {
            let next = ((word >> LAP_SHIFT) + 1) << LAP_SHIFT | word & FAILED | failed;
            (word & COUNT != 0).then_some(next)
        };
        let (before, _) = self.change(ring, Ordering::AcqRel, give_up);
        ((before & COUNT) as u32, before & WAITED != 0)
    }

    /// Nothing of before concerns the ring any more.
    pub(super) fn forget(&self, ring: WaiterId) {
        let nothing = |word: u64| {
            let next = ((word >> LAP_SHIFT) + 1) << LAP_SHIFT;
            (word & !(u64::MAX << LAP_SHIFT) != 0).then_some(next)
        };
        self.change(ring, Ordering::AcqRel, nothing);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const RING: WaiterId = WaiterId(5);

    #[test]
    fn law3_the_last_answer_wakes_whoever_waits() {
        let all = Outstanding::new();
        assert_eq!(all.barrier(RING), Barrier::Done);
        let (one, two) = (all.begin(RING), all.begin(RING));
        assert_eq!(all.barrier(WaiterId(4)), Barrier::Done, "another ring's");
        assert_eq!(all.barrier(RING), Barrier::Pending);
        assert_eq!(all.end(two, true), Ended::Counted);
        assert_eq!(all.end(one, true), Ended::Wakes(RING));
        assert_eq!(all.barrier(RING), Barrier::Done);
        assert!(!all.take_failed(RING));
    }

    #[test]
    fn law4_what_fails_is_told_once() {
        let all = Outstanding::new();
        let (one, two) = (all.begin(RING), all.begin(RING));
        assert_eq!(all.end(one, false), Ended::Counted);
        assert_eq!(all.barrier(RING), Barrier::Pending);
        assert_eq!(all.end(two, true), Ended::Wakes(RING));
        assert!(all.take_failed(RING) && !all.take_failed(RING));
    }

    #[test]
    fn law4_an_answer_after_the_time_out_counts_for_nothing() {
        let all = Outstanding::new();
        let old = all.begin(RING);
        assert_eq!(all.barrier(RING), Barrier::Pending);
        assert_eq!(all.time_out(RING), (1, true));
        assert_eq!(all.barrier(RING), Barrier::Done);
        assert!(all.take_failed(RING));
        let new = all.begin(RING);
        assert_eq!(all.end(old, true), Ended::Late);
        assert_eq!(
            all.barrier(RING),
            Barrier::Pending,
            "the new one is missing"
        );
        assert_eq!(all.end(new, true), Ended::Wakes(RING));
        assert!(!all.take_failed(RING));
        assert_eq!(all.time_out(RING), (0, false), "nothing is missing");
    }

    #[test]
    fn law4_a_ring_that_begins_anew_has_lost_nothing() {
        let all = Outstanding::new();
        let old = all.begin(RING);
        all.end(all.begin(RING), false);
        all.forget(RING);
        assert_eq!(all.barrier(RING), Barrier::Done);
        assert!(!all.take_failed(RING));
        assert_eq!(all.end(old, false), Ended::Late);
        assert!(!all.take_failed(RING));
    }
}
