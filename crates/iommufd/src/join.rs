//! One block fewer: requests that go with another one's entry.
//!
//! The driver waits for the hardware once per [`BLOCK`]. A guest's 64 invalidations would pay for a second
//! block with one command in it, so two that lie close to each other leave as one, whatever lies between
//! them. Nothing is looked for where no block can be saved.

use crate::encode::BLOCK;
use arrayvec::ArrayVec;
use dispatch::{Batch, Invalidation, Scope};
use smmu_core::range::TlbiRange;

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

/// A request of stage-1 addresses, as far as it matters who is close to it.
#[derive(Clone, Copy)]
struct Near {
    at: usize,
    /// ASID and granule.
    alike: u64,
    first: u64,
    last: u64,
}

impl Near {
    const NOBODY: Self = Self {
        at: usize::MAX,
        alike: u64::MAX,
        first: 0,
        last: 0,
    };

    #[inline(always)]
    fn of(batch: &Batch, at: usize) -> Option<Self> {
        let (asid, range) = batch.stage_one_addresses(at)?;
        let granule = range.granule?;
        let asid = asid.map_or(1 << 16, |asid| u64::from(asid.0));
        Some(Self {
            at,
            alike: asid | u64::from(granule.shift()) << 20,
            first: range.addr,
            last: range.last(),
        })
    }

    /// Not more than [`GAP`] granules lie between them.
    #[inline(always)]
    fn is_close(&self, other: &Self) -> bool {
        let gap = GAP << (other.alike >> 20);
        self.alike == other.alike
            && self.first <= other.last.saturating_add(gap)
            && other.first <= self.last.saturating_add(gap)
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
        let mut newest = [Near::NOBODY; REACH];
        for at in 0..batch.len() {
            let Some(late) = Near::of(batch, at) else {
                continue;
            };
            let close = newest.iter_mut().find(|early| early.is_close(&late));
            let Some(early) = close else {
                newest[at % REACH] = late;
                continue;
            };
            joined.pairs.push(Pair {
                early: early.at,
                late: at,
                both: both(&batch.request(early.at), &batch.request(at))?,
            });
            // Neither is joined again.
            *early = Near::NOBODY;
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
