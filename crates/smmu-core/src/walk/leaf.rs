//! What a walk finds.

use super::permissions::Permissions;
use crate::access::{Access, Operation};
use crate::attributes::StageAttributes;
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
    /// Valid for every ASID (nG clear).
    pub global: bool,
    /// A write may be allowed although [`permissions`](Self::permissions) has none: it makes the page
    /// dirty, for which the tables have to be walked again.
    pub clean: bool,
    /// What the descriptors say about the memory, of each stage that is in it.
    pub memory: StageAttributes,
}

impl Leaf {
    /// This stage 1 leaf with the stage 2 leaf that the output of `address` lies in: the smaller
    /// of both, with the rights that both give.
    #[must_use]
    #[inline(always)]
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
            memory: self.memory.with_stage2(stage2.memory),
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
const CLEAN_AT: u32 = 17;
const STAGE1_AT: u32 = 18;
const MEMORY_AT: u32 = 24;

impl Leaf {
    /// Two words that hold everything, for a cache: the output address, and the rest.
    #[must_use]
    #[inline(always)]
    pub fn pack(&self) -> [u64; 2] {
        let rest = u64::from(self.permissions.bits()) << PERMISSIONS_AT
            | u64::from(self.level & 3) << LEVEL_AT
            | u64::from(self.granule as u8) << GRANULE_AT
            | u64::from(self.global) << GLOBAL_AT
            | u64::from(self.clean) << CLEAN_AT
            | u64::from(self.stage1.bits()) << STAGE1_AT
            | u64::from(self.memory.bits()) << MEMORY_AT
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
            global: rest >> GLOBAL_AT & 1 != 0,
            clean: rest >> CLEAN_AT & 1 != 0,
            memory: StageAttributes::from_bits((rest >> MEMORY_AT) as u32),
        })
    }
}
