//! Pages of a VT-d first stage, for a nested page table (`IOMMU_HWPT_INVALIDATE_DATA_VTD_S1`).
//!
//! An entry names addresses of the page table that the call is for, and the kernel also invalidates the
//! caches of the devices that use it. So there are no ASIDs in it, nor devices. PASID entries are the
//! kernel's own.

use super::{Encoder, Entries, NotEncodable};
use crate::uapi::{kind, raw};
use dispatch::{BackendCapabilities, Batch, Invalidation, Scope};
use smmu_core::range::TlbiRange;
use std::ops::Range;

const PAGE_SHIFT: u32 = 12;
const LEAF: u32 = raw::iommu_hwpt_vtd_s1_invalidate_flags_IOMMU_VTD_INV_FLAGS_LEAF;

/// Entries of `iommu_hwpt_vtd_s1_invalidate`, for the page table of one address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VtdFirstStage;

impl Encoder for VtdFirstStage {
    fn data_type(&self) -> u32 {
        kind::INVALIDATE_VTD_S1
    }

    fn entry_len(&self) -> usize {
        std::mem::size_of::<raw::iommu_hwpt_vtd_s1_invalidate>()
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            // Whatever overlaps the pages goes, of whatever size it is.
            ranges_of_any_granule: true,
            caches_contexts: false,
            may_block: true,
            widen_above: u64::MAX,
        }
    }

    fn encode_run(&self, batch: &Batch, part: Range<usize>, entries: &mut Entries) -> usize {
        let first = part.start;
        let addresses = batch.stage_one_addresses(part);
        let of_range = |addresses: Option<(_, TlbiRange)>| Some(range(&addresses?.1).bytes());
        entries.push_run(first, addresses.map_while(of_range))
    }

    fn encode(&self, request: &Invalidation, entries: &mut Entries) -> Result<(), NotEncodable> {
        let entry = match request.scope {
            Scope::Addresses { range: ref all, .. } => range(all),
            Scope::DeviceTlb { addr, size, .. } if size < 52 => {
                let span = 1u64 << (PAGE_SHIFT + u32::from(size));
                let first = addr & !(span - 1);
                pages(first, first | (span - 1), true)
            }
            _ => Entry::EVERYTHING,
        };
        entries.push(&entry.bytes());
        Ok(())
    }
}

struct Entry {
    addr: u64,
    npages: u64,
    flags: u32,
}

impl Entry {
    /// How the interface says it.
    const EVERYTHING: Self = Self {
        addr: 0,
        npages: u64::MAX,
        flags: 0,
    };

    fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.npages.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

#[inline(always)]
fn range(range: &TlbiRange) -> Entry {
    // An empty range is the page that it begins in.
    let last = range.addr.saturating_add(range.bytes.saturating_sub(1));
    pages(range.addr, last, range.leaf)
}

/// Never past the top of the address space, where the kernel's sum would begin anew.
fn pages(first: u64, last: u64, leaf: bool) -> Entry {
    let (first, last) = (first >> PAGE_SHIFT, last >> PAGE_SHIFT);
    Entry {
        addr: first << PAGE_SHIFT,
        npages: last - first + 1,
        flags: if leaf { LEAF } else { 0 },
    }
}
