//! Where the entries lie: sets of eight, tags in one cache line, leaves beside them.
//!
//! Eight neighbouring pages share a set, and neighbouring groups of eight are neighbouring
//! sets, so a range is a short forward read. The sets are divided into banks; an ASID's
//! entries lie in one bank (processes map the same addresses: without banks they would
//! evict each other), a VMID's global entries in one too. An invalidation for every ASID
//! reads the same sets of every bank.
//!
//! The protocol of a slot, rules that every function here keeps:
//!
//! 1. A slot is filled by whoever moves its `version` from even to odd. Until it is even again
//!    nobody else writes the leaf.
//! 2. The filler stores the tag as `Filling`, then the leaf, fences, checks that its walk is
//!    still true, and moves the tag to `Valid` by compare-and-swap.
//! 3. An invalidation stores `Empty` over any tag that it takes, `Filling` ones too. It never
//!    looks at the version, never writes a leaf and never waits.
//! 4. A lookup reads tag, version, leaf, tag, version, in this order, and believes the leaf only
//!    if the tag was `Valid` and the same, and the version even and the same.

use super::tag::{Matcher, State, Tag};
use super::{PageClass, Space};
use crate::ids::Vmid;
use alloc::boxed::Box;
use vcmdq_sync::atomic::{AtomicU64, Ordering, fence};
use vcmdq_sync::weak::{Site, full_fence};

#[cfg(not(loom))]
const WAYS: usize = 8;
#[cfg(loom)]
const WAYS: usize = 1;
#[cfg(not(loom))]
const BANKS: u64 = 16;
#[cfg(loom)]
const BANKS: u64 = 2;

#[derive(Debug)]
pub(super) struct Table {
    tags: Box<[Set]>,
    leaves: Box<[Slot]>,
    bank_mask: u64,
}

/// The tags of a set: one cache line. Not padded to two, as what one thread writes often is:
/// that doubles what an invalidation finds outside of the second-level cache.
#[derive(Debug)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The part of an entry that is read only when the tag matches.
#[derive(Debug)]
struct Slot {
    /// Even: at rest. Odd: being filled. The VMID is in the low 16 bits.
    version: AtomicU64,
    stamp: AtomicU64,
    payload: [AtomicU64; 2],
}

/// Bit of the version that says "being filled"; the VMID is below it.
const BUSY: u64 = 1 << 16;

/// What a lookup reads of a matching slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) stamp: u64,
    pub(super) payload: [u64; 2],
}

impl Table {
    pub(super) fn new(log2_entries: u8) -> Self {
        let sets = if cfg!(loom) {
            BANKS as usize
        } else {
            (1usize << log2_entries) / WAYS
        };
        let zero = || AtomicU64::new(0);
        let slot = || Slot {
            version: zero(),
            stamp: zero(),
            payload: [zero(), zero()],
        };
        Self {
            tags: (0..sets)
                .map(|_| Set(core::array::from_fn(|_| zero())))
                .collect(),
            leaves: (0..sets * WAYS).map(|_| slot()).collect(),
            bank_mask: sets as u64 / BANKS - 1,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.leaves.len()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tags) + size_of_val(&*self.leaves)
    }

    pub(super) fn sets_in_a_bank(&self) -> u64 {
        self.bank_mask + 1
    }

    /// The set of a group of eight pages in a bank. Blocks of different sizes are salted apart.
    #[inline]
    fn set(&self, bank: u64, class: PageClass, group: u64) -> usize {
        let salted = group.wrapping_add((class as u64).wrapping_mul(0x9E37_79B9));
        (bank * (self.bank_mask + 1) + (salted & self.bank_mask)) as usize
    }

    #[inline]
    fn bank(vmid: Vmid, space: Space) -> u64 {
        let mixed = match space {
            Space::Asid(asid) => asid.0.wrapping_mul(0x9E37) >> 8 ^ asid.0,
            Space::Global => 0,
        };
        (u64::from(mixed ^ vmid.0)) % BANKS
    }

    #[inline]
    fn home(&self, vmid: Vmid, tag: Tag) -> usize {
        self.set(Self::bank(vmid, tag.space()), tag.class(), tag.page() / 8)
    }

    /// The way that an entry takes if it is free: neighbours each have one of their own, so a lookup
    /// rarely looks at a second.
    #[inline]
    fn preferred(tag: Tag) -> usize {
        (tag.page() % WAYS as u64) as usize
    }

    /// Rule 4.
    #[inline(always)]
    pub(super) fn find(&self, vmid: Vmid, tag: Tag) -> Option<Leaf> {
        let set = self.home(vmid, tag);
        let wanted = tag.with(State::Valid);
        let tags = &self.tags[set].0;
        let at = |way: usize| tags[way].load(Ordering::Relaxed) == wanted;
        let preferred = Self::preferred(tag);
        let way = if at(preferred) {
            preferred
        } else {
            (0..WAYS).find(|way| at(*way))?
        };
        // The fence makes the tag's load an acquire without making seven others one.
        fence(Ordering::Acquire);
        let slot = &self.leaves[set * WAYS + way];
        let version = slot.version.load(Ordering::Acquire);
        if version & BUSY != 0 || version as u16 != vmid.0 {
            return None;
        }
        let leaf = Leaf {
            stamp: slot.stamp.load(Ordering::Relaxed),
            payload: [
                slot.payload[0].load(Ordering::Relaxed),
                slot.payload[1].load(Ordering::Relaxed),
            ],
        };
        // Orders the leaf's loads before the second look at tag and version. The tag is
        // acquired first: if it was taken away and filled again meanwhile, the version that
        // belongs to the refill is seen behind it.
        fence(Ordering::Acquire);
        let same = tags[way].load(Ordering::Acquire) == wanted
            && slot.version.load(Ordering::Relaxed) == version;
        same.then_some(leaf)
    }

    /// Rules 1 and 2. Gives up, without harm, where another filler is at work.
    pub(super) fn publish(
        &self,
        vmid: Vmid,
        tag: Tag,
        stamp: u64,
        payload: [u64; 2],
        still_true: impl FnOnce() -> bool,
    ) -> bool {
        let set = self.home(vmid, tag);
        let way = self.victim(set, tag, stamp);
        let (word, slot) = (&self.tags[set].0[way], &self.leaves[set * WAYS + way]);
        let version = slot.version.load(Ordering::Relaxed);
        if version & BUSY != 0 {
            return false;
        }
        // Acquire pairs with the Release that made it even: this filler's stores follow the
        // last one's.
        let busy = version | BUSY;
        if slot
            .version
            .compare_exchange(version, busy, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // A lookup that sees any of the stores below sees the version odd as well.
        fence(Ordering::Release);
        word.store(tag.with(State::Filling), Ordering::Relaxed);
        slot.stamp.store(stamp, Ordering::Relaxed);
        slot.payload[0].store(payload[0], Ordering::Relaxed);
        slot.payload[1].store(payload[1], Ordering::Relaxed);
        // Pairs with the fence in `Sweep::begin`: either this filler sees the sweep in the log,
        // or the sweep sees the tag and takes it. Model: `tlb_fill_against_sweep`.
        full_fence(Site::FillFence);
        let (filling, valid) = (tag.with(State::Filling), tag.with(State::Valid));
        let done = still_true()
            && word
                .compare_exchange(filling, valid, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !done {
            word.store(0, Ordering::Relaxed);
        }
        // Even again, one further, with this entry's VMID.
        let rest = (version & !0xFFFF).wrapping_add(2 * BUSY) | u64::from(vmid.0);
        slot.version.store(rest, Ordering::Release);
        done
    }

    /// The same entry's slot, an empty one, or one that the new entry's numbers choose.
    fn victim(&self, set: usize, tag: Tag, stamp: u64) -> usize {
        let tags = &self.tags[set].0;
        let find = |word: u64| tags.iter().position(|t| t.load(Ordering::Relaxed) == word);
        let preferred = Self::preferred(tag);
        let free = |way: &usize| tags[*way].load(Ordering::Relaxed) == 0;
        find(tag.with(State::Valid))
            .or_else(|| Some(preferred).filter(free))
            .or_else(|| find(0))
            .unwrap_or_else(|| {
                let mixed = (tag.page() ^ stamp).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                let turn = self.leaves[set * WAYS].version.load(Ordering::Relaxed) >> 17;
                (mixed.wrapping_add(turn) % WAYS as u64) as usize
            })
    }

    /// Rule 3: takes out of the sets that can hold them the entries that `matcher` names. `space`
    /// says in which bank they lie; `None` is all banks.
    #[inline]
    pub(super) fn take(
        &self,
        vmid: Vmid,
        space: Option<Space>,
        class: PageClass,
        matcher: &Matcher,
    ) {
        let groups = matcher.first / 8..=(matcher.first + matcher.more) / 8;
        match space {
            Some(space) => {
                let bank = Self::bank(vmid, space);
                groups.for_each(|group| self.take_in(self.set(bank, class, group), matcher));
            }
            None => {
                for group in groups {
                    (0..BANKS).for_each(|b| self.take_in(self.set(b, class, group), matcher));
                }
            }
        }
    }

    #[inline]
    fn take_in(&self, set: usize, matcher: &Matcher) {
        for word in &self.tags[set].0 {
            if matcher.takes(word.load(Ordering::Relaxed)) {
                // No comparison: if a filler has moved on meanwhile, its entry goes too, which is
                // allowed; rule 1 keeps the leaf whole. A swap, because it cannot fall between a
                // filler's `Filling` and `Valid`.
                word.swap(0, Ordering::Release);
            }
        }
    }
}
