//! What a walk finds.

use super::permissions::Permissions;
use crate::access::{Access, Operation};
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
    /// What stage 1 alone allows: the same, unless stage 2 is combined with it.
    pub stage1: Permissions,
    /// Of a leaf of stage 2: it makes the page Device memory.
    pub device: bool,
    /// Valid for every ASID (nG clear).
    pub global: bool,
    /// A write may be allowed although [`permissions`](Self::permissions) has none: it makes the page
    /// dirty, for which the tables have to be walked again.
    pub clean: bool,
    /// Memory type and shareability as stage 1 gives them; stage 2's are not combined with them,
    /// because nothing behind a software SMMU tells memory types apart.
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
    /// This stage 1 leaf with the stage 2 leaf that the output of `address` lies in: the smaller
    /// of both, with the rights that both give.
    #[must_use]
    pub fn combined(&self, stage2: &Self, address: u64) -> Self {
        let shift = self.shift.min(stage2.shift);
        Self {
            base: stage2.output(self.output(address)) & !((1 << shift) - 1),
            shift,
            level: if stage2.shift < self.shift {
                stage2.level
            } else {
                self.level
            },
            granule: if stage2.shift < self.shift {
                stage2.granule
            } else {
                self.granule
            },
            permissions: self.permissions.and(stage2.permissions),
            clean: self.clean || stage2.clean,
            ..*self
        }
    }

    /// This stage 1 leaf as a cache keeps it where stage 2 maps smaller pages: its output is an
    /// intermediate address, and nobody may do anything before stage 2 has been asked. So a page is cached
    /// once, under the size and level by which the guest invalidates it.
    #[must_use]
    pub fn before_stage2(&self) -> Self {
        Self {
            permissions: Permissions::default(),
            ..*self
        }
    }

    /// Whether it is one of those.
    #[must_use]
    #[inline]
    pub fn is_before_stage2(&self) -> bool {
        self.permissions == Permissions::default() && self.stage1 != Permissions::default()
    }

    /// Whether an access that the permissions deny has to walk the tables before that is a fault.
    #[must_use]
    #[inline]
    pub fn asks_again(&self, access: &Access) -> bool {
        self.clean && access.operation == Operation::Write
    }

    /// Where an input address inside the page or block ends up.
    #[must_use]
    #[inline]
    pub fn output(&self, address: u64) -> u64 {
        self.base | (address & ((1 << self.shift) - 1))
    }
}

/// Where the fields of a packed leaf lie, from bit 0 of word 1 on.
/// The shift is the lowest: a hit needs it first.
const SHIFT_AT: u32 = 0;
const PERMISSIONS_AT: u32 = 6;
const LEVEL_AT: u32 = 12;
const GRANULE_AT: u32 = 14;
const GLOBAL_AT: u32 = 16;
const SHAREABILITY_AT: u32 = 17;
const MAIR_AT: u32 = 19;
const STAGE1_AT: u32 = 27;
const DEVICE_AT: u32 = 33;
const CLEAN_AT: u32 = 34;

impl Leaf {
    /// Two words that hold everything, for a cache: the output address, and the rest.
    #[must_use]
    pub fn pack(&self) -> [u64; 2] {
        let rest = u64::from(self.permissions.bits()) << PERMISSIONS_AT
            | u64::from(self.level & 3) << LEVEL_AT
            | u64::from(self.granule as u8) << GRANULE_AT
            | u64::from(self.global) << GLOBAL_AT
            | u64::from(self.memory.shareability & 3) << SHAREABILITY_AT
            | u64::from(self.memory.mair) << MAIR_AT
            | u64::from(self.stage1.bits()) << STAGE1_AT
            | u64::from(self.device) << DEVICE_AT
            | u64::from(self.clean) << CLEAN_AT
            | u64::from(self.shift & 63) << SHIFT_AT;
        [self.base, rest]
    }

    /// What [`pack`](Self::pack) made two words of; `None` of other words.
    #[must_use]
    #[inline]
    pub fn unpack([base, rest]: [u64; 2]) -> Option<Self> {
        Some(Self {
            base,
            shift: (rest >> SHIFT_AT) as u32 & 63,
            level: (rest >> LEVEL_AT) as u8 & 3,
            granule: Granule::from_tg((rest >> GRANULE_AT) as u8 & 3)?,
            permissions: Permissions::from_bits((rest >> PERMISSIONS_AT) as u8),
            stage1: Permissions::from_bits((rest >> STAGE1_AT) as u8),
            device: rest >> DEVICE_AT & 1 != 0,
            global: rest >> GLOBAL_AT & 1 != 0,
            clean: rest >> CLEAN_AT & 1 != 0,
            memory: MemoryAttributes {
                mair: (rest >> MAIR_AT) as u8,
                shareability: (rest >> SHAREABILITY_AT) as u8 & 3,
            },
        })
    }
}
