//! What could be cached, and which request removes it.

use dispatch::{Invalidation, Scope, Stage};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, Vmid};

/// Something that an SMMU may have cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached {
    pub(crate) vmid: Vmid,
    pub(crate) stage_two: bool,
    /// Of EL2, in VMID 0.
    pub(crate) el2: bool,
    /// `None` is global.
    pub(crate) asid: Option<Asid>,
    pub(crate) granule: Granule,
    /// Level of the leaf, or of the table descriptor.
    pub(crate) level: u8,
    pub(crate) table: bool,
    pub(crate) va: u64,
}

impl Cached {
    fn base_and_last(&self) -> (u64, u64) {
        // A table descriptor at level n stands for what a leaf there would map.
        let span = 1u64 << self.granule.leaf_shift(self.level);
        let base = self.va & !(span - 1);
        (base, base + (span - 1))
    }
}

/// IHI 0070, 4.4.1 and 4.4.2, and our own `ContextAndGlobals`: what *must* go.
pub(crate) fn must_go(request: &Invalidation, cached: &Cached) -> bool {
    goes(request, cached, false)
}

/// What a backend removes; one that takes no ranges without a granule knows their first page only.
pub(crate) fn goes(request: &Invalidation, cached: &Cached, any_granule: bool) -> bool {
    let stage = match request.stage {
        Stage::One => !cached.stage_two,
        Stage::Two => cached.stage_two,
        Stage::Both => !cached.el2,
        Stage::El2 => true,
    } && cached.el2 == (request.stage == Stage::El2);
    let vmid = request.vmid == cached.vmid;
    match request.scope {
        Scope::All => true,
        Scope::Vmid => stage && vmid,
        Scope::Context(asid) => stage && vmid && cached.asid == Some(asid),
        Scope::ContextAndGlobals(asid) => {
            stage && vmid && (cached.asid.is_none() || cached.asid == Some(asid))
        }
        Scope::Addresses { asid, range } => {
            let whose = asid.is_none() || cached.asid.is_none() || cached.asid == asid;
            stage && vmid && whose && addressed(&range, cached, any_granule)
        }
        Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => false,
    }
}

fn addressed(range: &TlbiRange, cached: &Cached, any_granule: bool) -> bool {
    let (base, last) = cached.base_and_last();
    if cached.table && range.leaf {
        return false;
    }
    match range.granule {
        None if any_granule => base <= range.last() && range.addr <= last,
        None => base <= range.addr && range.addr <= last,
        Some(granule) => {
            let level = match (range.ttl, cached.table) {
                (0, _) => true,
                (ttl, false) => cached.level == ttl,
                (ttl, true) => cached.level < ttl,
            };
            level && granule == cached.granule && base <= range.last() && range.addr <= last
        }
    }
}
