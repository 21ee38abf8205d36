//! Choices.

use crate::layout::RAM_END;
use smmu_core::caps::address_bits;
use smmu_core::range::Granule;

/// Bits of the addresses of RAM.
const RAM_BITS: u32 = u64::BITS - (RAM_END - 1).leading_zeros();

/// Random choices; the same seed makes the same ones.
#[derive(Clone, Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// The dice of case group `number` of a run.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        // Neighbouring groups must not look alike.
        let mixed = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self(fastrand::Rng::with_seed(mixed))
    }

    /// `true` in so many of a hundred cases.
    pub fn percent(&mut self, chance: u32) -> bool {
        self.0.u32(0..100) < chance
    }

    /// Less than `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.u64(0..end.max(1))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(0..all.len())]
    }

    /// A multiple of `unit` in `start..end`.
    pub fn multiple(&mut self, unit: u64, start: u64, end: u64) -> u64 {
        let first = start.div_ceil(unit);
        let last = (end / unit).max(first + 1);
        (first + self.below(last - first)) * unit
    }

    /// A code of IPS or S2PS, most often of an output that holds all of RAM and `bits` bits.
    pub fn size_code(&mut self, bits: u32) -> u8 {
        let large = |code: &u8| address_bits(*code) >= bits.max(RAM_BITS);
        let enough: Vec<u8> = (0..6).filter(large).collect();
        if self.percent(85) && !enough.is_empty() {
            self.one_of(&enough)
        } else {
            self.below(8) as u8
        }
    }

    /// A granule.
    pub fn granule(&mut self) -> Granule {
        self.one_of(&[Granule::K4, Granule::K4, Granule::K16, Granule::K64])
    }
}
