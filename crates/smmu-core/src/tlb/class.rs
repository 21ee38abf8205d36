//! The sizes that a page or block can have.

use super::CLASSES;
use crate::range::Granule;

/// A leaf's size together with the granule of its tables (IHI 0070 / VMSAv8-64: what each
/// granule can map at each level).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageClass {
    /// 4 KiB granule, level 3.
    Page4K = 0,
    /// 4 KiB granule, level 2: 2 MiB.
    Block2M = 1,
    /// 4 KiB granule, level 1: 1 GiB.
    Block1G = 2,
    /// 4 KiB granule, level 0, with 52-bit addresses: 512 GiB.
    Block512G = 3,
    /// 16 KiB granule, level 3.
    Page16K = 4,
    /// 16 KiB granule, level 2: 32 MiB.
    Block32M = 5,
    /// 16 KiB granule, level 1, with 52-bit addresses: 64 GiB.
    Block64G = 6,
    /// 64 KiB granule, level 3.
    Page64K = 7,
    /// 64 KiB granule, level 2: 512 MiB.
    Block512M = 8,
    /// 64 KiB granule, level 1, with 52-bit addresses: 4 TiB.
    Block4T = 9,
}

impl PageClass {
    /// All of them, by code.
    pub const ALL: [Self; 10] = [
        Self::Page4K,
        Self::Block2M,
        Self::Block1G,
        Self::Block512G,
        Self::Page16K,
        Self::Block32M,
        Self::Block64G,
        Self::Page64K,
        Self::Block512M,
        Self::Block4T,
    ];

    const SHIFTS: [u8; 16] = [12, 21, 30, 39, 14, 25, 36, 16, 29, 42, 0, 0, 0, 0, 0, 0];

    /// The class of a leaf at `level` (0 to 3) of tables of `granule`, if there is such a leaf.
    #[must_use]
    #[inline]
    pub fn of(granule: Granule, level: u8) -> Option<Self> {
        let at = match (granule, level) {
            (Granule::K4, 0..=3) => 3 - level,
            (Granule::K16, 1..=3) => 7 - level,
            (Granule::K64, 1..=3) => 10 - level,
            _ => return None,
        };
        Some(Self::ALL[usize::from(at)])
    }

    /// log2 of the bytes mapped.
    #[must_use]
    #[inline]
    pub fn shift(self) -> u32 {
        u32::from(Self::SHIFTS[self as usize])
    }

    /// The granule of the tables.
    #[must_use]
    #[inline]
    pub fn granule(self) -> Granule {
        match self as u8 {
            0..=3 => Granule::K4,
            4..=6 => Granule::K16,
            _ => Granule::K64,
        }
    }

    /// What keeps the pages of a class apart from those of another one, in the number of a set.
    #[inline(always)]
    pub(super) fn salt(self) -> u64 {
        (self as u64).wrapping_mul(0x9E37_79B9)
    }

    #[inline]
    pub(super) fn from_code(code: u32) -> Self {
        Self::ALL[(code as usize).min(Self::ALL.len() - 1)]
    }

    /// The bits of all classes of a granule, or of all there are.
    #[inline]
    pub(super) fn bits_of(granule: Option<Granule>) -> u32 {
        match granule {
            None => CLASSES,
            Some(Granule::K4) => 0b00_0000_1111,
            Some(Granule::K16) => 0b00_0111_0000,
            Some(Granule::K64) => 0b11_1000_0000,
        }
    }

    #[inline]
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}
