//! The rules of the coalescer (law 7; its header says them in words): which request covers which, and
//! which two of addresses are one.

use crate::invalidation::{Invalidation, Scope, Stage};
use crate::packed::{Packed, key};

/// What covers a request of addresses without naming them.
pub(crate) fn wider(request: &Invalidation) -> Invalidation {
    let Scope::Addresses { asid, .. } = request.scope else {
        return *request;
    };
    match asid {
        _ if request.stage == Stage::El2 => Invalidation {
            scope: Scope::Vmid,
            ..*request
        },
        // Stage 2 alone has no request of its own for a whole VMID.
        _ if request.stage != Stage::One => Invalidation {
            stage: Stage::Both,
            scope: Scope::Vmid,
            ..*request
        },
        // law7a: an ASID alone, which leaves the globals that addresses would take.
        Some(asid) if vcmdq_sync::broken!(break_law7a) => Invalidation {
            scope: Scope::Context(asid),
            ..*request
        },
        Some(asid) => Invalidation {
            scope: Scope::ContextAndGlobals(asid),
            ..*request
        },
        None => Invalidation {
            scope: Scope::Vmid,
            ..*request
        },
    }
}

/// Whether `wide` removes everything that `narrow` must. Only scopes that are exact about it.
pub(crate) fn covers(wide: &Invalidation, narrow: &Invalidation) -> bool {
    match wide.scope {
        Scope::All => true,
        Scope::Vmid => {
            let both = wide.stage == Stage::Both && narrow.stage != Stage::El2;
            let stage = both || narrow.stage == wide.stage;
            stage && wide.vmid == narrow.vmid && narrow.scope != Scope::All
        }
        // law7a: an ASID alone, which leaves the globals that addresses would take.
        Scope::Context(asid) if vcmdq_sync::broken!(break_law7a) => {
            let of = |scope| match scope {
                Scope::Addresses { asid, .. } => asid,
                Scope::Context(asid) => Some(asid),
                _ => None,
            };
            wide.vmid == narrow.vmid && of(narrow.scope) == Some(asid)
        }
        Scope::Context(_) => wide == narrow,
        Scope::ContextAndGlobals(asid) => {
            let of = match narrow.scope {
                Scope::Context(own) | Scope::ContextAndGlobals(own) => Some(own),
                Scope::Addresses { asid, .. } => asid,
                _ => None,
            };
            wide.vmid == narrow.vmid && wide.stage == narrow.stage && of == Some(asid)
        }
        _ => false,
    }
}

/// Makes `kept` cover `new` as well, if one request of addresses can say both; `ranges`: also one that
/// is longer than either.
#[inline(always)]
pub(crate) fn merge(kept: &mut Packed, new: &Packed, ranges: bool) -> bool {
    if (kept.key ^ new.key) & key::IDENTITY != 0 {
        return false;
    }
    let identical = kept.addr == new.addr && kept.bytes == new.bytes;
    if !(identical || ranges && touch(kept, new)) {
        return false;
    }
    let end = kept.last().max(new.last());
    kept.addr = kept.addr.min(new.addr);
    kept.bytes = (end - kept.addr).saturating_add(1);
    kept.also(new.key);
    kept.rings |= new.rings;
    true
}

/// Whether two ranges overlap or lie side by side, so that their union is a range.
#[inline(always)]
fn touch(a: &Packed, b: &Packed) -> bool {
    let side_by_side = |low: &Packed, high: &Packed| {
        low.addr <= high.addr && high.addr <= low.last().saturating_add(1)
    };
    side_by_side(a, b) || side_by_side(b, a)
}
