//! What a command removes of what may be kept.

use super::Obvious;
use super::kept::Translation;
use crate::memory::Past;
use crate::naive::known::Table;
use crate::naive::model::{bit, bits};
use crate::naive::second::Page;

impl Obvious {
    /// Removes what a command (two raw words) demands.
    pub(crate) fn command(&mut self, [low, high]: [u64; 2]) {
        let stream = bits(low, 63, 32) as u32;
        let substream = bits(low, 31, 12) as u32;
        let (vmid, asid) = (self.vmid(bits(low, 47, 32)), bits(low, 63, 48));
        let (configured, translations) = (&mut self.configured, &mut self.translations);
        let Past { pages, tables } = &mut self.past;
        tables.retain(|table| !is_removed(table, vmid, asid, [low, high]));
        let of_vmid = |t: &Translation| t.vmid == vmid;
        if bits(low, 7, 0) == 0x28 {
            pages.retain(|kept| kept.vmid != vmid);
        }
        match bits(low, 7, 0) {
            0x03 => configured.retain(|c| c.stream != stream),
            0x04 => {
                let count = 1u64 << (bits(high, 4, 0) + 1);
                configured.retain(|c| u64::from(c.stream) / count != u64::from(stream) / count);
            }
            0x05 => {
                configured.retain(|c| c.stream != stream || c.substream.unwrap_or(0) != substream);
            }
            0x06 => configured.retain(|c| c.stream != stream),
            0x10 | 0x28 => translations.retain(|t| !of_vmid(t)),
            0x11 => translations.retain(|t| !(of_vmid(t) && t.asid == Some(asid))),
            0x12 => translations.retain(|t| {
                let mine = of_vmid(t) && t.asid.is_none_or(|own| own == asid);
                !(mine && t.is_in_range(low, high))
            }),
            0x13 => translations.retain(|t| !(of_vmid(t) && t.is_in_range(low, high))),
            0x30 => {
                translations.clear();
                pages.clear();
            }
            // What combines both stages may stay.
            0x2a => pages.retain(|kept| {
                let Page { bytes, granule, .. } = kept.page;
                kept.vmid != vmid || !is_in_range((kept.ipa, bytes, granule), low, high)
            }),
            other => panic!("{other:#x} is none of the commands"),
        }
    }
}

impl Translation {
    /// Whether a TLBI by address (4.4.1) has to remove it.
    fn is_in_range(&self, low: u64, high: u64) -> bool {
        is_in_range((self.base, self.bytes, self.granule), low, high)
    }
}

/// Whether a TLBI by address (4.4.1) names a page of so many bytes, of tables of so many KiB.
fn is_in_range((base, bytes, own_granule): (u64, u64, u64), low: u64, high: u64) -> bool {
    let address = bits(high, 63, 12) << 12;
    let (first, end) = (u128::from(base), u128::from(base) + u128::from(bytes));
    let granule = match bits(high, 11, 10) {
        0 => return (first..end).contains(&u128::from(address)),
        code => 1 << (2 * code),
    };
    let ttl = bits(high, 9, 8);
    let unit = granule * 1024;
    let from = u128::from(address / unit * unit);
    let length = (u128::from(bits(low, 16, 12) + 1) * u128::from(unit)) << bits(low, 24, 20);
    granule == own_granule
        && (ttl == 0 || ttl == level(bytes, own_granule))
        && first < from + length
        && from < end
}

/// Whether a command removes a table (Arm ARM D8.17): by address those on the way to it, whatever the level of
/// the page is said to be, but not with Leaf=1; of stage 1 an ASID's own, also where it has led to global pages.
fn is_removed(table: &Table, vmid: u64, asid: u64, [low, high]: [u64; 2]) -> bool {
    let is_first = table.tag.asid.is_some();
    let own = table.tag.asid == Some(asid);
    let level_unknown = high & !(3 << 8);
    let place = (table.first, table.bytes, table.granule);
    let on_the_way = !bit(high, 0) && is_in_range(place, low, level_unknown);
    let of_vmid = match bits(low, 7, 0) {
        0x10 => is_first,
        0x11 => is_first && own,
        0x12 => is_first && own && on_the_way,
        0x13 => is_first && on_the_way,
        0x28 => true,
        0x2a => !is_first && on_the_way,
        0x30 => return true,
        _ => false,
    };
    of_vmid && table.tag.vmid == vmid
}

/// The level of the descriptor of such a page.
fn level(bytes: u64, granule: u64) -> u64 {
    let stride = (granule * 1024 / 8).trailing_zeros();
    let above_a_page = (bytes / (granule * 1024)).trailing_zeros();
    3 - u64::from(above_a_page / stride)
}
