//! What a walk finds.

use super::permissions::Permissions;
use crate::range::Granule;

/// A translation of one page or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Output address of the first byte of the page or block.
    pub base: u64,
    /// log2 of its size in bytes.
    pub shift: u32,
    /// Level of the descriptor, 0 to 3.
    pub level: u8,
    /// Granule of the tables.
    pub granule: Granule,
    /// Who may do what.
    pub permissions: Permissions,
    /// Valid for every ASID (nG clear).
    pub global: bool,
    /// Memory type and shareability.
    pub memory: MemoryAttributes,
}

/// Attributes of memory as stage 1 gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemoryAttributes {
    /// The byte of MAIR that AttrIndx selects.
    pub mair: u8,
    /// SH: 0 none, 2 outer, 3 inner.
    pub shareability: u8,
}

impl Leaf {
    /// Where an input address inside the page or block ends up.
    #[must_use]
    #[inline]
    pub fn output(&self, address: u64) -> u64 {
        self.base | (address & ((1 << self.shift) - 1))
    }
}
