//! Where the entries lie: sets of eight, tags in one cache line, leaves beside them.
//!
//! Eight neighbouring pages share a set, and neighbouring groups of eight are neighbouring sets,
//! so a range is a short forward read. An address space begins at the head of one of 64 *lanes*,
//! which are evenly spaced over all sets, and goes on from there round the whole table: one space
//! can fill it, and 64 devices or processes that use the same few addresses do not meet. An
//! invalidation for every ASID reads the same place in each lane.
//!
//! The protocol of a slot, rules that every function here keeps:
//!
//! 1. A slot is filled by whoever moves its `version` from even to odd. Until it is even again
//!    nobody else writes the leaf.
//! 2. The filler stores the tag as `Filling`, then the leaf, fences, checks that its walk is
//!    still true, and moves the tag to `Valid` by compare-and-swap.
//! 3. An invalidation stores `Empty` over any tag that it takes, `Filling` ones too. It never
//!    looks at the version, never writes a leaf and never waits.
//! 4. A lookup reads version, tag, leaf, version, in this order, and believes the leaf only
//!    if the tag was `Valid`, and the version even and the same: then nobody has filled the slot
//!    in between, and the leaf is the tag's.

use super::slot::{Filled, Leaf, Owner, Slot, Version};
use super::tag::{Matcher, STATE_BITS, SpaceBits, State, Tag, page_number};
use super::{PageClass, Space};
use crate::ids::Vmid;
use alloc::boxed::Box;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

#[cfg(not(loom))]
const WAYS: usize = 8;
#[cfg(loom)]
const WAYS: usize = 1;
/// The most lanes; a small table has as many as sets.
const LANES: u64 = 64;

#[derive(Debug)]
pub(super) struct Table {
    tags: Box<[Tags]>,
    leaves: Box<[Leaves]>,
    set_mask: u64,
    log2_sets: u32,
    lanes: u64,
    /// Sets from the beginning of a lane to that of the next.
    between_lanes: u64,
}

/// The tags of a set: one cache line. Not padded to two, as what one thread writes often is:
/// that doubles what an invalidation finds outside of the second-level cache.
#[derive(Debug)]
#[repr(align(64))]
struct Tags([AtomicU64; WAYS]);

impl Tags {
    /// The way of a tag. Not inlined, and no more than a number comes back, so that what a hit in the
    /// preferred way has found stays in registers.
    #[inline(never)]
    fn find(&self, wanted: u64) -> Option<usize> {
        self.0
            .iter()
            .position(|tag| tag.load(Ordering::Relaxed) == wanted)
    }
}

/// The leaves of a set.
#[derive(Debug)]
struct Leaves([Slot; WAYS]);

/// Where the entries of a space begin, and what is the same in all their tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    owner: Owner,
    space: SpaceBits,
    begin: u64,
}

impl Home {
    /// The same place, of entries under stage 2.
    #[inline(always)]
    pub(super) fn nested(self) -> Self {
        let owner = self.owner.nested();
        Self { owner, ..self }
    }

    /// The same place, of what `other` is of.
    #[inline(always)]
    pub(super) fn as_of(self, other: &Self) -> Self {
        let owner = other.owner;
        Self { owner, ..self }
    }
}

/// Where a new entry goes.
struct Place {
    way: usize,
    /// Fills of the set so far.
    count: u64,
}

impl Table {
    pub(super) fn new(log2_entries: u8) -> Self {
        let log2_sets = if cfg!(loom) {
            1
        } else {
            u32::from(log2_entries) - WAYS.trailing_zeros()
        };
        let sets = 1 << log2_sets;
        let lanes = LANES.min(sets);
        Self {
            tags: (0..sets)
                .map(|_| Tags(core::array::from_fn(|_| AtomicU64::new(0))))
                .collect(),
            leaves: (0..sets)
                .map(|_| Leaves(core::array::from_fn(|_| Slot::empty())))
                .collect(),
            set_mask: sets - 1,
            log2_sets,
            lanes,
            between_lanes: sets / lanes,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.leaves.len() * WAYS
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tags) + size_of_val(&*self.leaves)
    }

    pub(super) fn sets(&self) -> u64 {
        self.set_mask + 1
    }

    pub(super) fn lanes(&self) -> u64 {
        self.lanes
    }

    /// Where the entries of a space begin. Neighbouring ASIDs begin far from each other, and 64 of
    /// them in as many lanes.
    #[inline(always)]
    pub(super) fn home(&self, vmid: Vmid, space: Space) -> Home {
        let space_number = match space {
            Space::Asid(asid) => asid.0 ^ asid.0 >> 6 ^ asid.0 >> 12,
            Space::Global => 42,
            Space::Stage2 => 21,
        };
        let lane = u64::from(space_number ^ vmid.0).wrapping_mul(39) & (self.lanes - 1);
        Home {
            owner: Owner::of(vmid),
            space: Tag::of_space(space),
            begin: lane * self.between_lanes,
        }
    }

    /// The set of a group of eight pages. Groups as far from each other as the table is long are
    /// neighbours, and blocks of different sizes are salted apart.
    #[inline(always)]
    fn set(&self, begin: u64, class: PageClass, group: u64) -> usize {
        let along = group + (group >> self.log2_sets);
        (begin.wrapping_add(class.salt()).wrapping_add(along) & self.set_mask) as usize
    }

    /// The way that a page's entry takes if it is free: neighbours each have one of their own, so a
    /// lookup rarely looks at a second.
    #[inline(always)]
    fn preferred(page: u64) -> usize {
        (page % WAYS as u64) as usize
    }

    /// Rule 4.
    #[inline(always)]
    pub(super) fn find(&self, home: &Home, class: PageClass, va: u64) -> Option<Leaf> {
        let page = page_number(va, class);
        let set = self.set(home.begin, class, page / 8);
        let (tags, leaves) = (&self.tags[set], &self.leaves[set]);
        let mut way = Self::preferred(page);
        let wanted = home.space.tag(class, page).with(State::Valid);
        let mut version = leaves.0[way].begin();
        if tags.0[way].load(Ordering::Relaxed) != wanted {
            // Another entry lies where this one would.
            way = tags.find(wanted)?;
            version = leaves.0[way].begin();
            // Once more, now that the version is known.
            if tags.0[way].load(Ordering::Relaxed) != wanted {
                return None;
            }
        }
        leaves.0[way].read(home.owner, version)
    }

    /// Rules 1 and 2. `stamp_of` says what an entry has to carry now.
    pub(super) fn publish(
        &self,
        filled: &Filled,
        stamp_of: impl Fn(Vmid, Space) -> u64,
        still_true: impl FnOnce() -> bool,
    ) -> bool {
        let Filled { owner, tag, .. } = *filled;
        let home = self.home(owner.vmid(), tag.space());
        let set = self.set(home.begin, tag.class(), tag.page() / 8);
        let Place { way, count } = self.place(set, tag, stamp_of);
        let (word, slot) = (&self.tags[set].0[way], &self.leaves[set].0[way]);
        slot.fill(word, count, filled, still_true)
    }

    /// Rule 3: takes out of the sets that can hold them the entries that `matcher` names. `space`
    /// says in which lane they begin; `None` is in every lane.
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
                let begin = self.home(vmid, space).begin;
                groups.for_each(|group| self.take_in(self.set(begin, class, group), matcher));
            }
            None => {
                for group in groups {
                    for lane in 0..self.lanes {
                        let begin = lane * self.between_lanes;
                        self.take_in(self.set(begin, class, group), matcher);
                    }
                }
            }
        }
    }

    #[inline]
    fn take_in(&self, set: usize, matcher: &Matcher) {
        for word in &self.tags[set].0 {
            if matcher.takes(word.load(Ordering::Relaxed)) {
                Self::empty(word);
            }
        }
    }

    /// No comparison: if a filler has moved on meanwhile, its entry goes too, which is allowed; rule 1
    /// keeps the leaf whole. A swap, because it cannot fall between a filler's `Filling` and `Valid`.
    #[inline(always)]
    fn empty(word: &AtomicU64) {
        word.swap(0, Ordering::Release);
    }

    /// [`take`](Self::take) of one page of a space.
    #[inline(always)]
    pub(super) fn take_page(&self, home: &Home, class: PageClass, page: u64) {
        let set = self.set(home.begin, class, page / 8);
        // Valid or just being filled. The tag of nothing may match, and is nothing afterwards.
        let wanted = home.space.tag(class, page).with(State::Empty) << STATE_BITS;
        for word in &self.tags[set].0 {
            if word.load(Ordering::Relaxed) << STATE_BITS == wanted {
                Self::empty(word);
            }
        }
    }

    /// Begins to fetch a set that [`take_page`](Self::take_page) is going to look at.
    #[inline(always)]
    pub(super) fn touch(&self, home: &Home, class: PageClass, page: u64) -> u64 {
        let set = self.set(home.begin, class, page / 8);
        self.tags[set].0[0].load(Ordering::Relaxed)
    }
}

/// The choice of a slot. Nothing here is ordered against anything: what it reads may be old, and
/// then an entry is evicted that could have stayed.
impl Table {
    /// The same entry's slot; an empty one; one whose entry has been invalidated by counting; the one
    /// that was filled longest ago.
    #[inline]
    fn place(&self, set: usize, tag: Tag, stamp_of: impl Fn(Vmid, Space) -> u64) -> Place {
        let (tags, slots) = (&self.tags[set].0, &self.leaves[set].0);
        let newest = slots.iter().map(Slot::version_now).max();
        let preferred = Self::preferred(tag.page());
        // In the order in which a lookup tries the ways: of two that have the tag, as two walkers at
        // the same time leave them, it must be the one that lookups read.
        let way = if tags[preferred].load(Ordering::Relaxed) == tag.with(State::Valid) {
            preferred
        } else {
            self.other_place(set, tag, stamp_of)
        };
        Place {
            way,
            count: newest.map_or(0, Version::count),
        }
    }

    /// Where an entry goes that does not lie in the preferred way.
    #[inline(never)]
    fn other_place(&self, set: usize, tag: Tag, stamp_of: impl Fn(Vmid, Space) -> u64) -> usize {
        let (tags, slots) = (&self.tags[set].0, &self.leaves[set].0);
        let find = |word| self.tags[set].find(word);
        let free = |way: &usize| tags[*way].load(Ordering::Relaxed) == 0;
        let dead = |slot: &Slot, tag: &AtomicU64| {
            let vmid = slot.version_now().vmid();
            let space = Tag::of_word(tag.load(Ordering::Relaxed)).space();
            slot.stamp_now() != stamp_of(vmid, space)
        };
        let oldest = || {
            let versions = slots.iter().map(Slot::version_now);
            let oldest = versions.enumerate().min_by_key(|(_, version)| *version);
            oldest.map(|(way, _)| way)
        };
        find(tag.with(State::Valid))
            .or_else(|| Some(Self::preferred(tag.page())).filter(free))
            .or_else(|| find(0))
            .or_else(|| {
                let mut entries = slots.iter().zip(tags);
                entries.position(|(slot, tag)| dead(slot, tag))
            })
            .or_else(oldest)
            .unwrap_or(0)
    }
}
