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
/// How many requests behind it one is compared with.
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

impl Joined {
    /// Looks for as many as a batch has too many, and joins none if there are not so many.
    pub(crate) fn of(batch: &Batch) -> Self {
        let over = batch.len() % BLOCK;
        if batch.len() < BLOCK || over == 0 || over > MOST {
            return Self::default();
        }
        let mut joined = Self::default();
        let mut newest: ArrayVec<(usize, Invalidation), REACH> = ArrayVec::new();
        for (late, request) in batch.requests().enumerate() {
            let fits = |&(at, (early, kept)): &(usize, &(usize, Invalidation))| {
                let same_rings = batch.rings_of(*early) == batch.rings_of(late);
                let ours = request.stream().is_none() || same_rings;
                let both = ours.then(|| both(kept, &request)).flatten()?;
                Some((at, *early, both))
            };
            let found = newest.iter().enumerate().rev().find_map(|kept| fits(&kept));
            if let Some((at, early, both)) = found {
                joined.pairs.push(Pair { early, late, both });
                if joined.pairs.len() == over {
                    return joined;
                }
                // Neither is joined again.
                newest.remove(at);
                continue;
            }
            if newest.is_full() {
                newest.remove(0);
            }
            newest.push((late, request));
        }
        Self::default()
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

/// One request that removes what both remove, if it removes little more.
fn both(early: &Invalidation, late: &Invalidation) -> Option<Invalidation> {
    if early == late {
        return Some(*early);
    }
    let (
        Scope::Addresses { asid, range: a },
        Scope::Addresses {
            asid: other,
            range: b,
        },
    ) = (early.scope, late.scope)
    else {
        return None;
    };
    let granule = a.granule?;
    let alike = early.vmid == late.vmid && early.stage == late.stage && asid == other;
    if !alike || b.granule != Some(granule) {
        return None;
    }
    let (low, high) = if a.addr <= b.addr { (a, b) } else { (b, a) };
    if high.addr.saturating_sub(low.last()) > GAP << granule.shift() {
        return None;
    }
    let last = low.last().max(high.last());
    let range = TlbiRange {
        addr: low.addr,
        bytes: (last - low.addr).saturating_add(1),
        granule: Some(granule),
        ttl: if a.ttl == b.ttl { a.ttl } else { 0 },
        leaf: a.leaf && b.leaf,
    };
    Some(Invalidation {
        scope: Scope::Addresses { asid, range },
        ..*early
    })
}
