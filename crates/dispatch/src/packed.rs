//! A translation request in four words, for the coalescer.

use crate::batch::Rings;
use crate::costs::Costs;
use crate::invalidation::{Invalidation, Scope, Stage};
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
    use super::{Asid, Granule, Stage, TlbiRange, Vmid};

    pub(crate) const VMID: u64 = 0xFFFF << 16;
    pub(crate) const KIND: u64 = 7 << 32;
    pub(crate) const ADDRESSES: u64 = 0;
    pub(crate) const CONTEXT: u64 = 1 << 32;
    pub(crate) const CONTEXT_AND_GLOBALS: u64 = 2 << 32;
    pub(crate) const WHOLE_VMID: u64 = 3 << 32;
    pub(crate) const ALL: u64 = 4 << 32;
    pub(crate) const ANY_ASID: u64 = 1 << 37;
    pub(crate) const GRANULE: u64 = 3 << 38;
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
            _ => Stage::Both,
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

    #[inline]
    pub(crate) fn addresses(&self) -> Invalidation {
        Invalidation {
            vmid: key::vmid(self.key),
            stage: key::stage(self.key),
            scope: Scope::Addresses {
                asid: (self.key & key::ANY_ASID == 0).then(|| key::asid(self.key)),
                range: TlbiRange {
                    addr: self.addr,
                    bytes: self.bytes,
                    granule: key::granule(self.key),
                    ttl: (self.key >> 40 & 3) as u8,
                    leaf: self.key & key::LEAF != 0,
                },
            },
        }
    }

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
