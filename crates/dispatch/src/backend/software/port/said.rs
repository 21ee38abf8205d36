//! What a port's guard says that is used.

use super::super::context::{Kept, Route};
use smmu_core::access::Access;
use smmu_core::guard::Use;
use smmu_core::{StreamId, SubstreamId, Vmid};

/// What a guard says before the context is known: the kept one's ASID, or any.
#[inline]
pub(super) fn expected(
    stream: StreamId,
    kept: Option<&Kept>,
    substream: Option<SubstreamId>,
    access: &Access,
) -> Use {
    let (first, last) = page(access.address);
    let Some(kept) = kept else {
        return Use::anything(stream, Vmid(0));
    };
    let vmid = kept.vmid();
    match kept.route() {
        Route::Stage1(context, _) | Route::El2(context, _) if kept.is_of(substream) => {
            let asid = Some(context.asid);
            Use {
                stream,
                vmid,
                asid,
                global: false,
                first,
                last,
            }
        }
        // No address of stage 1 is used, and what concerns stage 2 asks for the VMID.
        Route::Bypass(_) | Route::Disabled(_) | Route::Stage2(_) => Use::untranslated(stream, vmid),
        _ => Use::anything(stream, vmid),
    }
}

/// The 4 KiB page of an address: the least that a translation covers. Not more, however long the
/// access is: a guard is for one translation, and pages further on may lie beyond the top byte.
#[inline]
fn page(address: u64) -> (u64, u64) {
    (address & !0xFFF, address | 0xFFF)
}

pub(in super::super) fn union(a: &Use, b: &Use) -> Use {
    Use {
        asid: if a.asid == b.asid { a.asid } else { None },
        vmid: b.vmid,
        global: a.global || b.global,
        first: a.first.min(b.first),
        last: a.last.max(b.last),
        stream: a.stream,
    }
}
