//! Stages 2 of the guest's own, of every granule, and random changes of them.

use crate::memory::Memory;
use crate::world::{CONFIGURATION_END, Change, Dice, FIRST_OUTPUT, OUTPUTS, PAGES, RAM_BYTES};
use std::collections::BTreeMap;

/// Sizes of pages and blocks of stage 1.
const SIZES: [u32; 6] = [12, 14, 16, 21, 25, 29];

/// An entry of a table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    /// The first intermediate address of which it is in charge.
    first: u64,
    span: u32,
    /// The table below, if there is one.
    next: Option<u64>,
    /// It may map all of that itself.
    is_leaf: bool,
}

/// The start of a tree of 39 bits.
#[derive(Clone, Copy, Debug)]
struct Root {
    at: u64,
    /// What S2TG and S2SL0 say of it.
    codes: (u64, u64),
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    roots: Vec<Root>,
    entries: Vec<Entry>,
    /// Where the tables of stage 1 end.
    tables_end: u64,
}

impl Second {
    /// Places trees from `free` on: two of 4 KiB, one each of 16 and 64 KiB.
    pub(crate) fn lay_out(mut free: u64) -> Self {
        let mut second = Self {
            tables_end: free,
            ..Self::default()
        };
        let mut take = |bytes: u64| {
            let at = free.next_multiple_of(bytes);
            free = at + bytes;
            at
        };
        for (granule, codes, spans) in [
            (4, (0, 1), &[30, 21, 12][..]),
            (4, (0, 1), &[30, 21, 12]),
            (16, (2, 2), &[36, 25, 14]),
            (64, (1, 1), &[29, 16]),
        ] {
            let root = take((8u64 << (39 - spans[0])).max(64));
            second.roots.push(Root { at: root, codes });
            let mut known: BTreeMap<u64, Option<u64>> = BTreeMap::new();
            for (ipa, in_pages) in interesting() {
                let mut table = root;
                for (depth, &span) in spans.iter().enumerate() {
                    let is_last = depth + 1 == spans.len();
                    let is_leaf = is_last || span <= 30;
                    let index = if table == root {
                        ipa >> span
                    } else {
                        (ipa >> span) % (granule * 128)
                    };
                    let at = table + 8 * index;
                    let ends = is_last || is_leaf && !in_pages;
                    let entry = known.get(&at).copied();
                    let next = entry.unwrap_or_else(|| {
                        let next = (!ends).then(|| take(granule * 1024));
                        known.insert(at, next);
                        second.entries.push(Entry {
                            at,
                            first: ipa >> span << span,
                            span,
                            next,
                            is_leaf,
                        });
                        next
                    });
                    match next {
                        Some(next) => table = next,
                        None => break,
                    }
                }
            }
        }
        assert!(free <= RAM_BYTES, "{free:#x}");
        second
    }

    pub(crate) fn fill(&self, dice: &mut Dice, memory: &Memory) {
        for entry in &self.entries {
            memory.set(entry.at, self.descriptor(dice, entry));
        }
    }

    pub(crate) fn change(&self, dice: &mut Dice) -> Change {
        // Those on the way to everything would hide what is below too often.
        let entry = loop {
            let entry = dice.pick(&self.entries);
            if entry.next.is_none() || dice.percent(20) {
                break entry;
            }
        };
        vec![(entry.at, self.descriptor(dice, &entry))]
    }

    pub(crate) fn ipa_at(&self, at: u64) -> Option<u64> {
        let entry = self.entries.iter().find(|entry| entry.at == at)?;
        Some(entry.first)
    }

    /// Another value for an entry, and its first intermediate address.
    pub(crate) fn change_at(&self, dice: &mut Dice, at: u64) -> Option<(Change, u64)> {
        let entry = self.entries.iter().find(|entry| entry.at == at)?;
        Some((vec![(at, self.descriptor(dice, entry))], entry.first))
    }

    /// The words of stage 2 in an STE, without VMID.
    pub(crate) fn ste(&self, dice: &mut Dice) -> [u64; 2] {
        let Root {
            at,
            codes: (granule, level),
        } = dice.pick(&self.roots);
        // T0SZ=25, S2PS=48 bits, AA64, S2R.
        let word = 25 << 32 | level << 38 | granule << 46 | 5 << 48 | 1 << 51 | 1 << 58;
        [word | dice.flag(53, 10) | dice.flag(54, 20), at]
    }

    /// Entries by which CDs are found, and nothing but CDs.
    pub(crate) fn places_of_cds(&self) -> Vec<u64> {
        let of_cds = |entry: &&Entry| entry.next.is_none() && entry.first < CONFIGURATION_END;
        self.entries
            .iter()
            .filter(of_cds)
            .map(|entry| entry.at)
            .collect()
    }

    pub(crate) fn ipa(&self, dice: &mut Dice) -> u64 {
        let entry = dice.pick(&self.entries);
        entry.first | dice.below(1 << (entry.span - 12)) << 12
    }

    fn descriptor(&self, dice: &mut Dice, entry: &Entry) -> u64 {
        let leads_to_cds = entry.first < CONFIGURATION_END;
        if let Some(next) = entry.next {
            if leads_to_cds || !entry.is_leaf || dice.percent(85) {
                return next | 3;
            }
        }
        if dice.percent(3) {
            return dice.pick(&[0, 2]);
        }
        let chunk = 1 << entry.span;
        let output = if leads_to_cds {
            entry.first
        } else if entry.first >= self.tables_end {
            // Far beyond the memory.
            dice.pick(&[1, 1, 2, 3]) << 40 | entry.first
        } else if dice.percent(88) {
            entry.first
        } else {
            let chunks = (self.tables_end - CONFIGURATION_END) / chunk;
            CONFIGURATION_END + dice.below(chunks.max(1)) * chunk
        };
        let kind = if entry.span <= 16 { 3 } else { 1 };
        let rights =
            dice.flag(6, 93) | dice.flag(7, 75) | dice.flag(10, 97) | dice.pick(&[3, 3, 2, 0]) << 8;
        let memory = dice.pick(&[15, 15, 15, 15, 6, 7, 5, 10, 1]) << 2;
        output | kind | rights | memory | dice.flag(54, 12) | dice.flag(53, 5)
    }
}

/// Intermediate addresses that something uses, and whether pages map them, or a block if there is one.
fn interesting() -> Vec<(u64, bool)> {
    let pages = (0..RAM_BYTES >> 12).map(|page| (page << 12, true));
    let mut all: Vec<(u64, bool)> = pages.collect();
    for size in SIZES {
        for n in FIRST_OUTPUT..FIRST_OUTPUT + OUTPUTS {
            let first = n << size;
            if size > 16 {
                // A block of stage 1, once in pieces.
                let pieces = PAGES.iter().filter(|_| n == FIRST_OUTPUT && size == 21);
                all.extend(pieces.map(|page| (first | page << 12, true)));
                all.push((first, false));
            } else {
                all.extend((0..1 << (size - 12)).map(|page| (first | page << 12, true)));
            }
        }
    }
    all.extend((FIRST_OUTPUT..FIRST_OUTPUT + OUTPUTS).map(|n| (n << 30, false)));
    // What a device asks for without stage 1.
    all.extend([1 << 30, 1 << 21, 1 << 30 | 1 << 21].map(|ipa| (ipa, false)));
    all
}
