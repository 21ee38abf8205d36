//! Entries of the kernel's own mock IOMMU (`CONFIG_IOMMUFD_TEST`), which caches numbers.
//!
//! A device of the mock has four cached numbers. Here they stand for its pages: page `n` for number `n`
//! modulo four. So a request by address removes at most what its pages stand for, of every device.

use super::{Encoder, Entries, NotEncodable};
use dispatch::{BackendCapabilities, Batch, Invalidation, Scope};
use std::ops::Range;

/// `IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST`.
const DATA_TYPE: u32 = 0xdead_beef;
const ALL: u32 = 1;
const SLOTS: u64 = 4;

/// Entries of `iommu_viommu_invalidate_selftest`, for a vIOMMU with these devices.
#[derive(Clone, Debug)]
pub struct Selftest {
    vsids: Vec<u32>,
}

impl Selftest {
    /// For a vIOMMU with vdevices of these vSIDs.
    #[must_use]
    pub fn new(vsids: impl IntoIterator<Item = u32>) -> Self {
        Self {
            vsids: vsids.into_iter().collect(),
        }
    }
}

impl Encoder for Selftest {
    fn data_type(&self) -> u32 {
        DATA_TYPE
    }

    fn entry_len(&self) -> usize {
        12
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: true,
            caches_contexts: true,
            may_block: true,
            widen_above: u64::MAX,
        }
    }

    fn encode_run(&self, batch: &Batch, part: Range<usize>, entries: &mut Entries) -> usize {
        let &[vsid] = &self.vsids[..] else {
            return 0;
        };
        let first = part.start;
        let single = batch.stage_one_addresses(part).map_while(|addresses| {
            let (_, range) = addresses?;
            let page = range.addr >> 12;
            (page == range.last() >> 12).then(|| entry(0, vsid, (page % SLOTS) as u32))
        });
        entries.push_run(first, single)
    }

    fn encode(&self, request: &Invalidation, entries: &mut Entries) -> Result<(), NotEncodable> {
        let (first, last) = match request.scope {
            Scope::Addresses { range, .. } => (range.addr >> 12, range.last() >> 12),
            Scope::DeviceTlb { addr, size: 0, .. } => (addr >> 12, addr >> 12),
            _ => (0, SLOTS),
        };
        let named = request.stream().map(|stream| stream.0);
        let vsids = match &named {
            Some(vsid) => std::slice::from_ref(vsid),
            None => &self.vsids[..],
        };
        for vsid in vsids {
            if last - first >= SLOTS - 1 {
                push(entries, ALL, *vsid, 0);
            } else {
                (first..=last).for_each(|page| push(entries, 0, *vsid, (page % SLOTS) as u32));
            }
        }
        Ok(())
    }
}

fn push(entries: &mut Entries, flags: u32, vsid: u32, slot: u32) {
    entries.push(&entry(flags, vsid, slot));
}

#[inline(always)]
fn entry(flags: u32, vsid: u32, slot: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (word, at) in [flags, vsid, slot].into_iter().zip([0, 4, 8]) {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
