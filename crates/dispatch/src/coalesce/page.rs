//! The coalescer's short way for single pages of 4 KiB.

use super::Coalescer;
use crate::invalidation::Stage;
use crate::packed::{Packed, key};
use crate::recent::LOOK_BACK;
use smmu_core::decode::SinglePage;
use smmu_core::range::{Granule, TlbiRange};

impl Coalescer {
    /// [`push`](Self::push) of what nearly all commands of a busy guest are. Whether commands of the
    /// same kind that come next can [`extend`](Self::extend) it.
    #[inline(always)]
    pub fn push_page(&mut self, page: &SinglePage, origin: u32) -> bool {
        let key = key::of_page(page);
        if !self.ranges || !self.wide.is_empty() {
            let range = TlbiRange {
                addr: page.addr,
                bytes: Granule::K4.bytes(),
                granule: Some(Granule::K4),
                ttl: page.ttl,
                leaf: page.leaf,
            };
            self.push_addresses(page.vmid, Stage::One, Some(page.asid), &range, origin);
            return self.ends_at(page.addr.checked_add(range.bytes));
        }
        let (identity, number) = (key & key::IDENTITY, page.addr >> 12);
        if let Some(slot) = self.recent.takes(identity, number) {
            return self.merge_page(slot, key, number);
        }
        let at = self.translations.len();
        self.newest = Some(at);
        self.recent.keep_page(at, identity, number);
        self.spent += self.page_ns;
        self.keep(Packed {
            key,
            addr: page.addr,
            bytes: Granule::K4.bytes(),
            origin,
            rings: self.ring,
        });
        true
    }

    #[inline(always)]
    fn merge_page(&mut self, slot: usize, key: u64, number: u64) -> bool {
        let newest = self.translations.len() - 1;
        let at = newest - newest.wrapping_sub(slot) % LOOK_BACK;
        let (first, last) = self.recent.take(slot, number);
        let kept = &mut self.translations[at];
        let before = kept.bytes;
        kept.addr = first << 12;
        // To the top of the address space at most: 2^64 is one too many.
        kept.bytes = ((last - first) << 12 | 0xFFF).saturating_add(1);
        kept.also(key);
        kept.rings |= self.ring;
        self.spent += kept.growth(before, &self.costs);
        self.newest = Some(at);
        last == number
    }
}
