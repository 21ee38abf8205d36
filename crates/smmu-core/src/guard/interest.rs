//! Whose translations a guard may use, and whose an invalidation may remove, in one word.

use crate::ids::{Asid, Vmid};

/// A set of address spaces, and whether global entries belong to it. It may contain more than it was
/// told, never less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(u64);

/// Bits for ASIDs; the one above them is for global entries.
const ASIDS: u32 = 62;
const GLOBALS: u64 = 1 << ASIDS;

impl Interest {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// Whatever there is.
    pub const EVERYTHING: Self = Self(GLOBALS | (GLOBALS - 1));

    /// The own entries of an ASID.
    #[must_use]
    #[inline]
    pub fn of(vmid: Vmid, asid: Asid) -> Self {
        let mixed = (asid.0 ^ vmid.0.rotate_left(8)).wrapping_mul(0x9E37);
        Self(1 << ((u32::from(mixed) * ASIDS) >> 16))
    }

    /// And the global entries.
    #[must_use]
    #[inline]
    pub fn and_globals(self) -> Self {
        Self(self.0 | GLOBALS)
    }

    /// Both.
    #[must_use]
    #[inline]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether something may belong to both.
    #[must_use]
    #[inline]
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it may stay as it is for a use with the interest `now`: it contains that, and is not
    /// everything without need, which nobody's invalidation would pass by.
    #[inline]
    pub(super) fn does_for(self, now: Self) -> bool {
        self.0 & now.0 == now.0 && (self != Self::EVERYTHING || now == Self::EVERYTHING)
    }

    /// This and what was said before, as long as that is not so much that it says nothing.
    pub(super) fn grown_from(self, before: Self) -> Self {
        // Under loom it never grows, so that the models see it exchanged.
        let most = if cfg!(loom) { 0 } else { 8 };
        if before.0.count_ones() < most {
            self.or(before)
        } else {
            self
        }
    }

    /// Whether all of `other` belongs to it.
    #[must_use]
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// From what [`word`](Self::word) gave.
    #[must_use]
    #[inline]
    pub fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As a word that threads can share.
    #[must_use]
    #[inline]
    pub fn word(self) -> u64 {
        self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::StreamId;
    use crate::guard::{Guards, Mark, Use};
    use alloc::vec::Vec;

    const VMID: Vmid = Vmid(0);

    fn using(asid: Option<Asid>) -> Use {
        Use {
            asid,
            first: 0x1000,
            last: 0x1FFF,
            ..Use::untranslated(StreamId(1), VMID)
        }
    }

    /// How many guards are looked at for an invalidation.
    fn looked_at(guards: &Guards, whom: Interest) -> usize {
        let mut count = 0;
        guards.mark(Mark::of(0), whom, |_| {
            count += 1;
            true
        });
        count
    }

    #[test]
    fn law3_a_guard_is_looked_at_for_its_own_asid_and_for_no_other() {
        let guards = Guards::new(40);
        let slots: Vec<_> = (0..40).map(|_| guards.lease().expect("a slot")).collect();
        let [own, other] = [1, 2].map(|asid| Interest::of(VMID, Asid(asid)));
        for slot in &slots {
            // Before the context is known, a guard says "any": that must not stay.
            guards.open(slot, &using(None));
            assert!(!guards.close(slot), "nobody waits");
            guards.open(slot, &using(Some(Asid(1))));
        }
        assert_eq!(looked_at(&guards, other), 0);
        assert!(guards.quiesced(Mark::of(0)));
        guards.restate(&slots[37], &using(None));
        assert_eq!(looked_at(&guards, other), 1);
        assert!(!guards.quiesced(Mark::of(0)), "the one that says more");
        assert!(guards.close(&slots[37]), "which is asked to wake");
        assert!(guards.quiesced(Mark::of(0)));
        assert_eq!(looked_at(&guards, own), 39);
        assert!(!guards.quiesced(Mark::of(0)));
    }

    #[test]
    fn a_known_asid_replaces_everything() {
        let own = Interest::of(VMID, Asid(1));
        assert!(!Interest::EVERYTHING.does_for(own));
        assert_eq!(own.grown_from(Interest::EVERYTHING), own);
        assert!(own.does_for(own) && Interest::EVERYTHING.does_for(Interest::EVERYTHING));
    }

    #[test]
    fn a_few_asids_in_turn_stay_said_and_many_do_not_pile_up() {
        let mut said = Interest::NOTHING;
        for asid in (0..4).map(Asid) {
            said = Interest::of(VMID, asid).grown_from(said);
        }
        assert!((0..4).all(|asid| said.does_for(Interest::of(VMID, Asid(asid)))));
        for asid in (0..1000).map(Asid) {
            let now = Interest::of(VMID, asid);
            said = now.grown_from(said);
            assert!(said.meets(now) && said != Interest::EVERYTHING);
        }
        assert!(said.word().count_ones() <= 9);
    }
}
