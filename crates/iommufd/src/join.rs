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

/// A request of addresses, as far as it matters who is close to it.
#[derive(Clone, Copy)]
struct Near {
    at: usize,
    /// Stage, ASID and granule.
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

    #[inline]
    fn of(at: usize, request: &Invalidation) -> Option<Self> {
        let Scope::Addresses { asid, ref range } = request.scope else {
            return None;
        };
        let granule = range.granule? as u64;
        let asid = asid.map_or(1 << 16, |asid| u64::from(asid.0));
        Some(Self {
            at,
            alike: asid | granule << 20 | (request.stage as u64) << 24,
            first: range.addr,
            last: range.last(),
        })
    }

    /// Not more than [`GAP`] granules lie between them.
    #[inline]
    fn is_close(&self, other: &Self, gap: u64) -> bool {
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
        for (at, request) in batch.requests().enumerate() {
            let Some(late) = Near::of(at, &request) else {
                continue;
            };
            let gap = request
                .granule()
                .map_or(0, |granule| GAP << granule.shift());
            let close = newest.iter_mut().find(|early| early.is_close(&late, gap));
            let Some(early) = close else {
                newest[at % REACH] = late;
                continue;
            };
            joined.pairs.push(Pair {
                early: early.at,
                late: at,
                both: both(&batch.request(early.at), &request)?,
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

    /// What leaves in the place of a request; `None` if it goes with an earlier one.
    #[inline]
    pub(crate) fn in_place_of(&self, at: usize, request: Invalidation) -> Option<Invalidation> {
        for pair in &self.pairs {
            if pair.late == at {
                return None;
            }
            if pair.early == at {
                return Some(pair.both);
            }
        }
        Some(request)
    }
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
