//! A translation request in four words, for the coalescer.

use crate::batch::Rings;
use crate::costs::Costs;
use crate::invalidation::{Invalidation, Scope, Stage};
use smmu_core::decode::SinglePage;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, Vmid};

/// A translation request in registers. Building an [`Invalidation`] from narrow fields and moving
/// it at once makes the processor wait until the fields have left its store buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    pub(crate) key: u64,
    pub(crate) addr: u64,
    pub(crate) bytes: u64,
    pub(crate) origin: u32,
    /// The rings that need it.
    pub(crate) rings: Rings,
}

/// The word that tells requests apart.
///
/// ```text
/// 42   41..40 39..38  37       36..35 34..32 31..16 15..0
/// leaf TTL    granule any ASID stage  kind   VMID   ASID
/// ```
pub(crate) mod key {
    use super::{Asid, Granule, SinglePage, Stage, TlbiRange, Vmid};

    pub(crate) const VMID: u64 = 0xFFFF << 16;
    pub(crate) const KIND: u64 = 7 << 32;
    pub(crate) const ADDRESSES: u64 = 0;
    pub(crate) const CONTEXT: u64 = 1 << 32;
    pub(crate) const CONTEXT_AND_GLOBALS: u64 = 2 << 32;
    pub(crate) const WHOLE_VMID: u64 = 3 << 32;
    pub(crate) const ALL: u64 = 4 << 32;
    /// What names a stream does not fit; its place is where an address would be.
    pub(crate) const ELSEWHERE: u64 = 5 << 32;
    pub(crate) const STAGE: u64 = 3 << 35;
    pub(crate) const ANY_ASID: u64 = 1 << 37;
    pub(crate) const GRANULE: u64 = 3 << 38;
    pub(crate) const K4: u64 = 1 << 38;
    pub(crate) const TTL: u64 = 3 << 40;
    pub(crate) const LEAF: u64 = 1 << 42;
    /// What two requests must have in common to become one.
    pub(crate) const IDENTITY: u64 = !(TTL | LEAF);

    #[inline]
    pub(crate) fn of(vmid: Vmid, stage: Stage) -> u64 {
        u64::from(vmid.0) << 16 | (stage as u64) << 35
    }

    #[inline]
    pub(crate) fn of_addresses(
        vmid: Vmid,
        stage: Stage,
        asid: Option<Asid>,
        range: &TlbiRange,
    ) -> u64 {
        of(vmid, stage)
            | asid.map_or(ANY_ASID, |asid| u64::from(asid.0))
            | range.granule.map_or(0, |granule| granule as u64) << 38
            | u64::from(range.ttl & 3) << 40
            | u64::from(range.leaf) << 42
    }

    #[inline(always)]
    pub(crate) fn of_page(page: &SinglePage) -> u64 {
        of(page.vmid, Stage::One)
            | K4
            | u64::from(page.asid.0)
            | u64::from(page.ttl & 3) << 40
            | u64::from(page.leaf) << 42
    }

    #[inline]
    pub(crate) fn vmid(key: u64) -> Vmid {
        Vmid((key >> 16) as u16)
    }

    #[inline]
    pub(crate) fn asid(key: u64) -> Asid {
        Asid(key as u16)
    }

    #[inline]
    pub(crate) fn stage(key: u64) -> Stage {
        match key >> 35 & 3 {
            0 => Stage::One,
            1 => Stage::Two,
            2 => Stage::Both,
            _ => Stage::El2,
        }
    }

    #[inline]
    pub(crate) fn granule(key: u64) -> Option<Granule> {
        Granule::from_tg((key >> 38 & 3) as u8)
    }
}

impl Packed {
    pub(crate) fn wide(request: &Invalidation, origin: u32, rings: Rings) -> Self {
        let scope = match request.scope {
            Scope::Context(asid) => key::CONTEXT | u64::from(asid.0),
            Scope::ContextAndGlobals(asid) => key::CONTEXT_AND_GLOBALS | u64::from(asid.0),
            Scope::Vmid => key::WHOLE_VMID,
            // What names addresses or a stream is not kept here.
            _ => key::ALL,
        };
        Self {
            key: key::of(request.vmid, request.stage) | scope,
            addr: 0,
            bytes: 0,
            origin,
            rings,
        }
    }

    /// Of anything but what names a stream.
    pub(crate) fn of(request: &Invalidation, origin: u32, rings: Rings) -> Self {
        let Scope::Addresses { asid, ref range } = request.scope else {
            return Self::wide(request, origin, rings);
        };
        Self {
            key: key::of_addresses(request.vmid, request.stage, asid, range),
            addr: range.addr,
            bytes: range.bytes,
            origin,
            rings,
        }
    }

    /// One page of 4 KiB of one ASID, which nearly all are.
    #[inline(always)]
    pub(crate) fn is_page(&self) -> bool {
        let kind = self.key & (key::KIND | key::STAGE | key::ANY_ASID | key::GRANULE);
        kind == key::ADDRESSES | key::K4 && self.bytes == 4096
    }

    /// The ASID of stage 1 addresses that have one.
    #[inline(always)]
    pub(crate) fn asid_of_addresses(&self) -> Option<Asid> {
        let kind = self.key & (key::KIND | key::STAGE | key::ANY_ASID);
        (kind == key::ADDRESSES).then(|| key::asid(self.key))
    }

    #[inline]
    pub(crate) fn addresses(&self) -> Invalidation {
        let (asid, range) = self.asid_and_range();
        Invalidation {
            vmid: key::vmid(self.key),
            stage: key::stage(self.key),
            scope: Scope::Addresses { asid, range },
        }
    }

    /// Of what names addresses.
    #[inline(always)]
    pub(crate) fn asid_and_range(&self) -> (Option<Asid>, TlbiRange) {
        let range = TlbiRange {
            addr: self.addr,
            bytes: self.bytes,
            granule: key::granule(self.key),
            ttl: (self.key >> 40 & 3) as u8,
            leaf: self.key & key::LEAF != 0,
        };
        let asid = (self.key & key::ANY_ASID == 0).then(|| key::asid(self.key));
        (asid, range)
    }

    #[inline]
    pub(crate) fn unpack(&self) -> Invalidation {
        let scope = match self.key & key::KIND {
            key::ADDRESSES => return self.addresses(),
            key::CONTEXT => Scope::Context(key::asid(self.key)),
            key::CONTEXT_AND_GLOBALS => Scope::ContextAndGlobals(key::asid(self.key)),
            key::WHOLE_VMID => Scope::Vmid,
            _ => Scope::All,
        };
        Invalidation {
            vmid: key::vmid(self.key),
            stage: key::stage(self.key),
            scope,
        }
    }

    /// It covers what has `key`, too, which differs in level hint and Leaf at most.
    #[inline(always)]
    pub(crate) fn also(&mut self, key: u64) {
        if (self.key ^ key) & key::TTL != 0 {
            self.key &= !key::TTL;
        }
        self.key &= key | !key::LEAF;
    }

    /// What it costs more than when it had `before` bytes, in nanoseconds.
    #[inline]
    pub(crate) fn growth(&self, before: u64, costs: &Costs) -> u64 {
        // Eight pages of 4 KiB cost what one does.
        if (before ^ self.bytes) >> 15 == 0 {
            return 0;
        }
        // A range beyond the last address ends there when another one is merged with it.
        let earlier = Self {
            bytes: before,
            ..*self
        };
        self.cost(costs).saturating_sub(earlier.cost(costs))
    }

    /// In nanoseconds.
    #[inline]
    pub(crate) fn cost(&self, costs: &Costs) -> u64 {
        let request = u64::from(costs.request);
        if self.key & key::KIND != key::ADDRESSES {
            return request;
        }
        let every = self.key & key::ANY_ASID != 0;
        request + costs.of_addresses(every, key::granule(self.key), self.bytes)
    }

    #[inline]
    pub(crate) fn last(&self) -> u64 {
        self.addr.saturating_add(self.bytes - 1)
    }
}
