//! One block fewer: requests that go with another one's entry.
//!
//! The driver waits for the hardware once per [`BLOCK`]. A guest's 64 invalidations would pay for a second
//! block with one command in it, so two that lie close to each other leave as one, whatever lies between
//! them. Nothing is looked for where no block can be saved.

use crate::encode::BLOCK;
use arrayvec::ArrayVec;
use dispatch::{Batch, Invalidation, Scope};
use smmu_core::Asid;
use smmu_core::range::{Granule, TlbiRange};
use std::ops::Range;

/// How many requests may be too many for the last block.
const MOST: usize = 4;
/// How many of the newest requests one is compared with, at most.
const REACH: usize = 4;
/// How many granules may lie between two ranges that become one: what the guest has to translate anew for
/// it costs less than a block.
const GAP: u64 = 16;

/// Which requests of a batch go with another one.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The later one, which is not sent, and the earlier one, which stands for both: as it leaves then.
    pairs: ArrayVec<Pair, MOST>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    early: usize,
    late: usize,
    both: Invalidation,
}

/// The newest requests of stage-1 addresses, each in the slot that its place has modulo their number, in a
/// form in which all of them are compared at once.
struct Newest {
    at: [usize; REACH],
    /// ASID and granule.
    alike: [u64; REACH],
    /// What a later one must touch to be close: not more than [`GAP`] granules lie between them then.
    first: [u64; REACH],
    last: [u64; REACH],
}

impl Newest {
    const NOBODY: Self = Self {
        at: [0; REACH],
        alike: [u64::MAX; REACH],
        first: [0; REACH],
        last: [0; REACH],
    };

    #[inline(always)]
    fn alike(asid: Option<Asid>, granule: Granule) -> u64 {
        let asid = asid.map_or(1 << 16, |asid| u64::from(asid.0));
        asid | u64::from(granule.shift()) << 20
    }

    /// The slot of one that is close.
    #[inline(always)]
    fn close_to(&self, alike: u64, range: &TlbiRange) -> Option<usize> {
        let (first, last) = (range.addr, range.last());
        let is_close = |slot: usize| {
            (self.alike[slot] == alike) & (first <= self.last[slot]) & (last >= self.first[slot])
        };
        let any = (0..REACH).fold(false, |any, slot| any | is_close(slot));
        if !any {
            return None;
        }
        (0..REACH).find(|slot| is_close(*slot))
    }

    #[inline(always)]
    fn keep(&mut self, at: usize, alike: u64, range: &TlbiRange, granule: Granule) {
        let (slot, gap) = (at % REACH, GAP << granule.shift());
        self.at[slot] = at;
        self.alike[slot] = alike;
        self.first[slot] = range.addr.saturating_sub(gap);
        self.last[slot] = range.last().saturating_add(gap);
    }
}

impl Joined {
    /// Looks for as many as a batch has too many, and joins none if there are not so many.
    pub(crate) fn of(batch: &Batch) -> Self {
        let over = batch.len() % BLOCK;
        if batch.len() < BLOCK || over == 0 || over > MOST {
            return Self::default();
        }
        Self::search(batch, over).unwrap_or_default()
    }

    fn search(batch: &Batch, over: usize) -> Option<Self> {
        let mut joined = Self::default();
        let mut newest = Newest::NOBODY;
        for (at, addresses) in batch.stage_one_addresses(0..batch.len()).enumerate() {
            let Some((asid, range)) = addresses else {
                continue;
            };
            let Some(granule) = range.granule else {
                continue;
            };
            let alike = Newest::alike(asid, granule);
            let Some(slot) = newest.close_to(alike, &range) else {
                newest.keep(at, alike, &range, granule);
                continue;
            };
            let early = newest.at[slot];
            joined.pairs.push(Pair {
                early,
                late: at,
                both: both(&batch.request(early), &batch.request(at))?,
            });
            // Neither is joined again.
            newest.alike[slot] = u64::MAX;
            if joined.pairs.len() == over {
                return Some(joined);
            }
        }
        None
    }

    /// How many requests go with others.
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The requests from `at` on, and before `end`, that leave as they are.
    pub(crate) fn own_from(&self, at: usize, end: usize) -> Range<usize> {
        let others = self.pairs.iter().flat_map(|pair| [pair.early, pair.late]);
        let next = others.filter(|other| *other >= at).min();
        at..next.unwrap_or(end)
    }

    /// What becomes of a request.
    #[inline]
    pub(crate) fn in_place_of(&self, at: usize) -> Place<'_> {
        for pair in &self.pairs {
            if pair.late == at {
                return Place::Elsewhere;
            }
            if pair.early == at {
                return Place::Both(&pair.both);
            }
        }
        Place::Own
    }
}

/// What leaves in the place of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// It does.
    Own,
    /// One that stands for a later one as well.
    Both(&'a Invalidation),
    /// Nothing: an earlier one stands for it.
    Elsewhere,
}

/// One request that removes what both remove, which are alike but for their addresses.
fn both(early: &Invalidation, late: &Invalidation) -> Option<Invalidation> {
    let (Scope::Addresses { asid, range: a }, Scope::Addresses { range: b, .. }) =
        (early.scope, late.scope)
    else {
        return None;
    };
    let addr = a.addr.min(b.addr);
    let last = a.last().max(b.last());
    let range = TlbiRange {
        addr,
        bytes: (last - addr).saturating_add(1),
        granule: a.granule,
        ttl: if a.ttl == b.ttl { a.ttl } else { 0 },
        leaf: a.leaf && b.leaf,
    };
    Some(Invalidation {
        scope: Scope::Addresses { asid, range },
        ..*early
    })
}
