//! Which rings have work, in three levels of bits.
//!
//! | level | one bit for each | words |
//! |---|---|---|
//! | share | ring of one frame, up to 64 | one for each share |
//! | group | share with something in it, 64 | one for each group |
//! | top | group with something in it, up to 64 | one |
//!
//! A *share* is what is served by turns: whoever takes goes on with the share behind the last one,
//! so a frame with 64 busy rings is served as often as a frame with one. (A frame with more than 64
//! rings has more shares.) Inside a share the rings are served by turns, too.
//!
//! Marking writes one word of each level, from the share up. Taking clears one bit of each, from the
//! top down, and marks upwards again what is left, before the ring is served: another worker can
//! take another ring of the same share at once. Neither looks at rings without work, however many
//! there are.
//!
//! No mark is lost: whoever clears a bit looks at the level below afterwards, by a read-modify-write
//! or behind an acquire of the mark. So it sees what was marked before its bit was set, and what
//! comes later sets the bit anew. Models: `loom-tests/tests/ready.rs`.

use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU8, AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, taken};

/// Rings of a share, shares of a group, groups.
pub(crate) const FAN: u32 = 64;

#[derive(Debug)]
struct Share {
    rings: AtomicU64,
    /// The ring that was taken last. Relaxed and not exact: who takes at the same time may go by
    /// the same turn.
    turn: AtomicU8,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            rings: AtomicU64::new(0),
            turn: AtomicU8::new(FAN as u8 - 1),
        }
    }
}

/// See the [module](self). A ring's place in it is its *slot*: share × 64 + bit.
#[derive(Debug)]
pub(crate) struct ReadySet {
    top: CachePadded<AtomicU64>,
    groups: Box<[AtomicU64]>,
    shares: Box<[Share]>,
}

impl ReadySet {
    /// For so many shares, at most 4096.
    pub(crate) fn new(shares: usize) -> Self {
        let shares = shares.clamp(1, (FAN * FAN) as usize);
        let groups = shares.div_ceil(FAN as usize);
        Self {
            top: CachePadded::new(AtomicU64::new(0)),
            groups: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            shares: (0..shares).map(|_| Share::default()).collect(),
        }
    }

    /// The ring has work. Release pairs with the acquire in `take`: what made the caller come (a
    /// PROD, an acknowledgement) is seen by who takes the ring.
    #[inline]
    pub(crate) fn mark(&self, slot: u32) {
        let (share, bit) = (slot / FAN, slot % FAN);
        let Some(word) = self.shares.get(share as usize) else {
            return;
        };
        word.rings.fetch_or(1 << bit, Ordering::Release);
        self.show(share);
    }

    /// A share has something in it, as the levels above show from now on.
    #[inline]
    fn show(&self, share: u32) {
        let group = share / FAN;
        self.groups[group as usize].fetch_or(1 << (share % FAN), Ordering::Release);
        self.top.fetch_or(1 << group, Ordering::Release);
    }

    /// A ring that has work, which from now on is the caller's to serve: of the first share behind
    /// that of `after` that has any, round and round.
    #[inline]
    pub(crate) fn take(&self, after: u32) -> Option<u32> {
        while let Some(share) = self.next_share(after / FAN) {
            if let Some(bit) = self.take_from(share) {
                return Some(share * FAN + bit);
            }
        }
        None
    }

    /// The first share behind `after`, round and round, of which the levels above show something.
    #[inline]
    fn next_share(&self, after: u32) -> Option<u32> {
        let top = self.top.load(Ordering::Relaxed);
        if top == 0 {
            return None;
        }
        let own = after / FAN;
        if top >> own & 1 != 0 {
            let later = self.groups[own as usize].load(Ordering::Relaxed) & above(after % FAN);
            if later != 0 {
                return Some(own * FAN + later.trailing_zeros());
            }
        }
        let group = first_behind(top, own);
        let shares = self.groups[group as usize].load(Ordering::Relaxed);
        // An empty one is shown for a moment, or by a mark that came between two levels of a
        // taking: clearing it is `take_from`'s.
        let share = shares.trailing_zeros() % FAN;
        Some(group * FAN + share)
    }

    /// A ring of the share, if it has one; clears what the levels above show of it, and shows what
    /// is left.
    #[inline]
    fn take_from(&self, share: u32) -> Option<u32> {
        let group = share / FAN;
        let (in_top, in_group) = (1 << group, 1 << (share % FAN));
        // Acquire pairs with `show`: what was marked before is seen below.
        self.top.fetch_and(!in_top, Ordering::AcqRel);
        let beside = self.groups[group as usize].fetch_and(!in_group, Ordering::AcqRel) & !in_group;
        let Share { rings, turn } = &self.shares[share as usize];
        let marked = rings.load(Ordering::Relaxed);
        let (mut bit, mut left) = (None, 0);
        if marked != 0 {
            let next = first_behind(marked, turn.load(Ordering::Relaxed).into());
            // Acquire pairs with `mark`. Somebody else may have been faster.
            let before = rings.fetch_and(!(1 << next), Ordering::AcqRel);
            left = before & !(1 << next);
            if before & 1 << next != 0 {
                turn.store(next as u8, Ordering::Relaxed);
                bit = Some(next);
            }
        }
        if left != 0 && taken(Site::ReadyLeft) {
            self.show(share);
        } else if beside != 0 {
            self.top.fetch_or(in_top, Ordering::Release);
        }
        bit
    }

    /// All rings of a share that have work, as bits; they are the caller's to serve.
    pub(crate) fn take_share(&self, share: u32) -> u64 {
        let group = share / FAN;
        let (in_top, in_group) = (1 << group, 1 << (share % FAN));
        self.top.fetch_and(!in_top, Ordering::AcqRel);
        let beside = self.groups[group as usize].fetch_and(!in_group, Ordering::AcqRel) & !in_group;
        if beside != 0 {
            self.top.fetch_or(in_top, Ordering::Release);
        }
        self.shares[share as usize].rings.swap(0, Ordering::AcqRel)
    }

    /// Whether nothing is marked; exact behind a full fence, but for what a worker that is just
    /// taking is about to show again.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.top.load(Ordering::Relaxed) == 0
    }
}

/// The bits above `bit`.
#[inline]
pub(crate) fn above(bit: u32) -> u64 {
    (u64::MAX << bit) << 1
}

/// The first set bit above `bit`, or the first of all. `bits` is not zero.
#[inline]
pub(crate) fn first_behind(bits: u64, bit: u32) -> u32 {
    let later = bits & above(bit % FAN);
    if later != 0 {
        later.trailing_zeros()
    } else {
        bits.trailing_zeros()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn all(set: &ReadySet, mut after: u32) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(slot) = set.take(after) {
            order.push(slot);
            after = slot;
        }
        order
    }

    #[test]
    fn every_marked_ring_is_taken_once_and_in_turn() {
        let set = ReadySet::new(4096);
        for slot in [3, 64, 65, 199, 3, 200_000] {
            set.mark(slot);
        }
        assert_eq!(all(&set, 64), [199, 200_000, 3, 64, 65]);
        assert!(set.is_empty());
    }

    #[test]
    fn law8_a_share_with_64_rings_has_as_many_turns_as_one_with_a_single_ring() {
        let set = ReadySet::new(130);
        (0..64).for_each(|ring| set.mark(ring));
        let mut turns = [0; 2];
        let mut last = 0;
        for _ in 0..20 {
            // Both are busy all the time.
            set.mark(129 * 64);
            last = set.take(last).expect("marked");
            turns[usize::from(last >= 64)] += 1;
            set.mark(last);
        }
        assert_eq!(turns, [10, 10]);
    }

    #[test]
    fn law8_rings_of_a_share_are_served_by_turns() {
        let set = ReadySet::new(1);
        let mut taken = [0; 3];
        for _ in 0..30 {
            (0..3).for_each(|ring| set.mark(ring));
            taken[set.take(0).expect("marked") as usize] += 1;
        }
        assert_eq!(taken, [10, 10, 10]);
    }

    #[test]
    fn a_slot_that_is_not_there_is_not_marked() {
        let set = ReadySet::new(1);
        set.mark(64);
        assert_eq!((set.take(0), set.is_empty()), (None, true));
    }
}
