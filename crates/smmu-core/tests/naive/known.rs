//! Tables that the obvious SMMU comes to, for who says that they could be kept.

use super::model::bit;
use super::tables::spans;

/// A table below the first one, as a walk finds it: it could be kept, and a later walk start from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) tag: Tag,
    /// KiB.
    pub(crate) granule: u64,
    /// Levels below it.
    pub(crate) depth: usize,
    /// The first address that it is for, and how many.
    pub(crate) first: u64,
    pub(crate) bytes: u64,
    /// Where it lies.
    pub(crate) at: u64,
    /// Every restriction of the descriptors on the way.
    pub(crate) restrictions: u64,
}

/// Whose a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) vmid: u64,
    /// None: of stage 2.
    pub(crate) asid: Option<u64>,
    /// Of stage 1: there is a stage 2 below it.
    pub(crate) nested: bool,
}

/// How a walk has come to a table.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) tag: Tag,
    pub(crate) granule: u64,
    /// The address that is walked.
    pub(crate) address: u64,
}

impl Way {
    /// The table at `at`.
    pub(crate) fn table(self, depth: usize, at: u64, restrictions: u64) -> Table {
        let bytes = 1u64 << spans(self.granule)[depth + 1];
        Table {
            tag: self.tag,
            granule: self.granule,
            depth,
            first: canonical(self.address) / bytes * bytes,
            bytes,
            at,
            restrictions,
        }
    }
}

/// Bits 63 to 56 as bit 55.
pub(crate) fn canonical(address: u64) -> u64 {
    if bit(address, 55) {
        address | 0xff << 56
    } else {
        address & !(0xff << 56)
    }
}
