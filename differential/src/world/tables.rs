//! Page tables that are written entry by entry.

use crate::layout::TABLES;
use smmu_core::range::Granule;
use std::collections::BTreeMap;

/// What the guest has written, by address: 64-bit words.
pub type Words = BTreeMap<u64, u64>;

/// Memory for tables, and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    next: u64,
    /// Every word that is not zero.
    pub words: Words,
    /// Tables: where, how long.
    pub tables: Vec<(u64, u64)>,
    /// Descriptors: where, at which level, whether the last one.
    pub descriptors: Vec<Descriptor>,
}

/// Which addresses tables translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The lower half of stage 1's.
    Lower,
    /// The upper half of stage 1's.
    Upper,
    /// Stage 2's.
    Intermediate,
}

/// A descriptor that has been written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    /// Where.
    pub at: u64,
    /// Whether it is a page or a block.
    pub leaf: bool,
    /// What it translates.
    pub input: Input,
    /// The first of these addresses.
    pub first: u64,
    /// Its level.
    pub level: u8,
    /// The granule of its tables.
    pub granule: Granule,
}

impl Descriptor {
    /// log2 of the bytes that it translates.
    pub(super) fn shift(&self) -> u32 {
        self.granule.leaf_shift(self.level)
    }

    /// Whether it is met on the way of an address of its input.
    pub(super) fn translates(&self, address: u64) -> bool {
        address >> self.shift() == self.first >> self.shift()
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            next: TABLES,
            words: Words::new(),
            tables: Vec::new(),
            descriptors: Vec::new(),
        }
    }
}

impl Arena {
    /// Room for so many bytes, a power of two, aligned to themselves.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let at = self.next.next_multiple_of(bytes);
        self.next = at + bytes;
        at
    }

    /// Writes several words.
    pub(super) fn write(&mut self, at: u64, words: &[u64]) {
        for (n, &word) in (0..).zip(words) {
            self.words.insert(at + 8 * n, word);
        }
    }

    pub(super) fn word(&self, at: u64) -> u64 {
        self.words.get(&at).copied().unwrap_or(0)
    }
}

/// The tables of one stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    /// Which addresses it translates.
    pub input: Input,
    /// The granule.
    pub granule: Granule,
    /// Where walks start.
    pub start_level: u8,
    /// Input addresses have so many bits.
    pub input_bits: u32,
    /// The table of the start level, as memory.
    pub root: u64,
    /// What a descriptor adds to the address of a table: not zero where stage 2 lies below.
    pub shift: u64,
}

/// A page or block to be mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    /// An address in it.
    pub input: u64,
    /// The level of its descriptor.
    pub level: u8,
    /// Where it leads.
    pub output: u64,
    /// The other bits of its descriptor, without \[1:0\].
    pub attributes: u64,
}

/// The address in a descriptor.
pub(super) const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;

impl Tree {
    /// With an empty table for the start.
    pub(super) fn new(
        arena: &mut Arena,
        input: Input,
        granule: Granule,
        start_level: u8,
        input_bits: u32,
        shift: u64,
    ) -> Self {
        let entry = granule.leaf_shift(start_level);
        let bytes = (8u64 << input_bits.saturating_sub(entry)).max(64);
        let root = arena.take(bytes);
        arena.tables.push((root, bytes));
        Self {
            input,
            granule,
            start_level,
            input_bits,
            root,
            shift,
        }
    }

    /// The table of the start level as a register or a structure names it.
    #[must_use]
    pub(super) fn named_root(&self) -> u64 {
        // Tables of the start level are aligned to themselves, and can be as small as 64 bytes.
        self.root.wrapping_add(self.shift) & (ADDRESS | 0xFC0)
    }

    /// Maps, with new tables where needed; `table_attributes` are asked for each of them. Nothing is
    /// changed below a block that is there.
    pub(super) fn map(
        &self,
        arena: &mut Arena,
        mapping: &Mapping,
        mut table_attributes: impl FnMut() -> u64,
    ) {
        let input = mapping.input & ((1 << self.input_bits) - 1);
        let stride = self.granule.shift() - 3;
        let mut table = self.root;
        for level in self.start_level..=mapping.level {
            let shift = self.granule.leaf_shift(level);
            let mut index = input >> shift;
            if level != self.start_level {
                index &= (1 << stride) - 1;
            }
            let at = table + 8 * index;
            if level == mapping.level {
                let kind = if level == 3 { 3 } else { 1 };
                let output = mapping.output & ADDRESS & !((1 << shift) - 1);
                arena.words.insert(at, output | mapping.attributes | kind);
                arena
                    .descriptors
                    .push(self.descriptor(at, input, level, true));
                return;
            }
            let found = arena.word(at);
            match found & 3 {
                3 => table = (found & ADDRESS).wrapping_sub(self.shift) & ADDRESS,
                1 => return,
                _ => {
                    let bytes = self.granule.bytes();
                    table = arena.take(bytes);
                    arena.tables.push((table, bytes));
                    let named = table.wrapping_add(self.shift) & ADDRESS;
                    arena.words.insert(at, named | table_attributes() | 3);
                    arena
                        .descriptors
                        .push(self.descriptor(at, input, level, false));
                }
            }
        }
    }

    fn descriptor(&self, at: u64, input: u64, level: u8, leaf: bool) -> Descriptor {
        let high = match self.input {
            Input::Upper => !0 << self.input_bits,
            Input::Lower | Input::Intermediate => 0,
        };
        Descriptor {
            at,
            leaf,
            input: self.input,
            first: (input | high) >> self.granule.leaf_shift(level)
                << self.granule.leaf_shift(level),
            level,
            granule: self.granule,
        }
    }
}
