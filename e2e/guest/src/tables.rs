//! A guest's stage 1, written by hand: a stream table entry, a context descriptor, tables of 4 KiB with four
//! levels (IHI 0070, 5.2 and 5.4; Arm ARM, D8).

use crate::memory::{Memory, PAGE};
use anyhow::{Result, ensure};
use std::sync::atomic::Ordering;

/// The address space of the tables.
pub(crate) const ASID: u64 = 0x5A5;

/// A descriptor with an address: valid, and a table or a page.
const VALID: u64 = 0b11;
/// Used, inner shareable, unprivileged, not global; MAIR's first kind; no code.
const LEAF: u64 = VALID | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11 | 1 << 53 | 1 << 54;
/// Table descriptors at most: those of a few megabytes.
const TABLES: usize = 16;
/// Pages of memory: a descriptor, and tables.
pub(crate) const PAGES: usize = 1 + TABLES;

/// CMD_TLBI_NH_ASID and NH_VA. The VMID is for the kernel to say.
const NH_ASID: u64 = 0x11;
const NH_VA: u64 = 0x12;

/// Tables in [`PAGES`] pages of memory.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    memory: &'a Memory,
    /// The first of the pages, in memory and as the walker sees it.
    at: usize,
    ipa: u64,
    used: usize,
    root: usize,
}

impl<'a> Tables<'a> {
    /// Tables without any translation in the page `page` of memory and those behind it. The walker sees
    /// memory at `seen`.
    pub(crate) fn new(memory: &'a Memory, page: usize, seen: u64, asid: u64) -> Result<Self> {
        let at = page * PAGE;
        let mut tables = Self {
            memory,
            at,
            ipa: seen + at as u64,
            used: 0,
            root: 0,
        };
        memory.write(at, &vec![0; PAGES * PAGE])?;
        // The descriptor is the first page.
        tables.used = 1;
        tables.root = tables.another()?;
        let context = [
            // T0SZ=16, 4 KiB, write-back, inner shareable; no TTB1; IPS=48 bits; AArch64; R, A, ASET.
            16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 5 << 32 | 1 << 41 | 7 << 45 | asid << 48,
            tables.root(),
            0,
            0xFF,
        ];
        for (index, word) in context.into_iter().enumerate().rev() {
            let valid = if index == 0 { 1 << 31 } else { 0 };
            tables.store(at + 8 * index, word | valid)?;
        }
        Ok(tables)
    }

    /// Where a walk begins.
    pub(crate) fn root(&self) -> u64 {
        self.ipa + (self.root - self.at) as u64
    }

    /// Has walks that go by this context descriptor begin somewhere else.
    pub(crate) fn begin_at(&self, root: u64) -> Result<()> {
        self.store(self.at + 8, root)
    }

    /// The guest's stream table entry: stage 1, one context descriptor, found through write-back memory.
    pub(crate) fn entry(&self) -> [u64; 2] {
        [1 | 0b101 << 1 | self.ipa, 1 << 2 | 1 << 4 | 3 << 6]
    }

    /// Maps `bytes` bytes at `va` to `ipa`.
    pub(crate) fn map(&mut self, va: u64, ipa: u64, bytes: usize) -> Result<()> {
        for offset in (0..bytes as u64).step_by(PAGE) {
            let place = self.place(va + offset)?;
            self.store(place, (ipa + offset) | LEAF)?;
        }
        Ok(())
    }

    /// Takes translations away. They may be cached until they are invalidated.
    pub(crate) fn clear(&mut self, va: u64, bytes: usize) -> Result<()> {
        for offset in (0..bytes as u64).step_by(PAGE) {
            let place = self.place(va + offset)?;
            self.store(place, 0)?;
        }
        Ok(())
    }

    /// Has the table for the 2 MiB around `va` lie at `ipa`, where the walker looks for it.
    pub(crate) fn table_at(&mut self, va: u64, ipa: u64) -> Result<()> {
        let place = self.descend(va, 2)?;
        self.store(place, ipa | VALID)
    }

    /// Where the descriptor of the page at `va` lies.
    fn place(&mut self, va: u64) -> Result<usize> {
        self.descend(va, 3)
    }

    /// Where the descriptor of `va` in a table of that level lies; makes the tables above.
    fn descend(&mut self, va: u64, level: u32) -> Result<usize> {
        let mut table = self.at + PAGE;
        for above in 0..level {
            let place = table + 8 * index(va, above);
            let mut descriptor = self.memory.word(place)?.load(Ordering::Relaxed);
            if descriptor == 0 {
                let next = self.another()?;
                descriptor = (self.ipa + (next - self.at) as u64) | VALID;
                self.store(place, descriptor)?;
            }
            table = self.at + ((descriptor & !0xFFF) - self.ipa) as usize;
        }
        Ok(table + 8 * index(va, level))
    }

    fn another(&mut self) -> Result<usize> {
        ensure!(self.used < PAGES, "no room for tables");
        self.used += 1;
        Ok(self.at + (self.used - 1) * PAGE)
    }

    /// Release: a walker that sees it sees what it leads to.
    fn store(&self, at: usize, value: u64) -> Result<()> {
        self.memory
            .word(at)?
            .store(value.to_le(), Ordering::Release);
        Ok(())
    }
}

/// The index of `va` in a table of that level.
fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level)) as usize & 0x1FF
}

/// Commands that take the translations of `bytes` bytes at `va` from the caches, page by page.
pub(crate) fn forget_pages(va: u64, bytes: usize) -> Vec<[u64; 2]> {
    let leaf = 1;
    (0..bytes as u64)
        .step_by(PAGE)
        .map(|offset| [NH_VA | ASID << 48, (va + offset) | leaf])
        .collect()
}

/// The command that takes all of them.
pub(crate) fn forget_all() -> Vec<[u64; 2]> {
    vec![[NH_ASID | ASID << 48, 0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: u64 = 0x40_0000_0000;

    /// What a walker finds for `va`, or how many levels it came.
    fn walk(memory: &Memory, va: u64) -> Result<u64, u32> {
        let load = |at: u64| memory.word((at - SEEN) as usize).expect("inside");
        let load = |at: u64| load(at).load(Ordering::Relaxed);
        let mut table = load(SEEN + 8);
        for level in 0..4 {
            let descriptor = load(table + 8 * index(va, level) as u64);
            if descriptor & VALID != VALID {
                return Err(level);
            }
            table = descriptor & 0xFFFF_FFFF_F000;
        }
        Ok(table)
    }

    #[test]
    fn a_walk_ends_where_it_was_mapped_to() {
        let memory = Memory::new(PAGES).expect("memory");
        let mut tables = Tables::new(&memory, 0, SEEN, ASID).expect("room");
        let va = 0x1234_5677_F000;
        tables.map(va, 0x9_8000, 3 * PAGE).expect("room");
        for page in 0..3 {
            let page = page * PAGE as u64;
            assert_eq!(walk(&memory, va + page), Ok(0x9_8000 + page));
        }
        assert_eq!(walk(&memory, va + 0x3000), Err(3));
        assert_eq!(walk(&memory, !va & 0xFFFF_FFFF_F000), Err(0));
        tables.clear(va, PAGE).expect("it is there");
        assert_eq!(walk(&memory, va), Err(3));
        assert_eq!(walk(&memory, va + 0x1000), Ok(0x9_9000));
    }

    #[test]
    fn the_descriptor_is_valid_and_the_entry_leads_to_it() {
        let memory = Memory::new(PAGES + 1).expect("memory");
        let tables = Tables::new(&memory, 1, SEEN, ASID).expect("room");
        let word = memory.word(PAGE).expect("inside").load(Ordering::Relaxed);
        assert_eq!((word >> 31 & 1, word >> 48), (1, ASID));
        let [first, _] = tables.entry();
        assert_eq!((first & 0xF, first & !0xFFF), (0b1011, SEEN + PAGE as u64));
    }

    #[test]
    fn each_page_has_its_command() {
        let commands = forget_pages(0x7000, 2 * PAGE);
        let opcode = NH_VA | ASID << 48;
        assert_eq!(commands, [[opcode, 0x7001], [opcode, 0x8001]]);
    }
}
