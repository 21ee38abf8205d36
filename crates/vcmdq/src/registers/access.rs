//! Which register an access of the guest means (IHI 0070, 6.1 and 6.2).
//!
//! Aligned accesses of four bytes reach every register and each half of a 64-bit one, those of
//! eight bytes the 64-bit ones. For everything else the architecture leaves the choice: such
//! reads are zero and such writes are ignored, and counted.

use smmu_core::spec::register::offset;

/// A register and the part of it that an access means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Offset of the register.
    pub(super) register: u64,
    /// The first of its bits that is meant.
    shift: u32,
    /// The bits that are meant, from bit zero on.
    mask: u64,
}

impl Access {
    /// What `width` bytes at `at` mean; `None` if nothing.
    pub(super) fn new(at: u64, width: u8) -> Option<Self> {
        let (register, shift, mask) = match width {
            8 if at % 8 == 0 && is_wide(at) => (at, 0, u64::MAX),
            4 if at % 8 == 4 && is_wide(at - 4) => (at - 4, 32, u64::from(u32::MAX)),
            4 if at % 4 == 0 => (at, 0, u64::from(u32::MAX)),
            _ => return None,
        };
        (at < offset::FRAME_BYTES).then_some(Self {
            register,
            shift,
            mask,
        })
    }

    /// The part of a register's value that is read.
    pub(super) fn part(self, value: u64) -> u64 {
        value >> self.shift & self.mask
    }

    /// The register's value when the part has been written.
    pub(super) fn merge(self, old: u64, value: u64) -> u64 {
        let meant = self.mask << self.shift;
        old & !meant | (value & self.mask) << self.shift
    }
}

/// The registers of 64 bits.
fn is_wide(register: u64) -> bool {
    matches!(
        register,
        offset::GERROR_IRQ_CFG0
            | offset::STRTAB_BASE
            | offset::CMDQ_BASE
            | offset::EVENTQ_BASE
            | offset::EVENTQ_IRQ_CFG0
            | offset::PRIQ_BASE
            | offset::PRIQ_IRQ_CFG0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_wide_register_merge() {
        let low = Access::new(offset::STRTAB_BASE, 4).expect("aligned");
        let high = Access::new(offset::STRTAB_BASE + 4, 4).expect("aligned");
        assert_eq!(high.register, offset::STRTAB_BASE);
        let value = high.merge(low.merge(0, 0x1234_5678_9ABC_DEF0), 0x11);
        assert_eq!(value, 0x11_9ABC_DEF0);
        assert_eq!((low.part(value), high.part(value)), (0x9ABC_DEF0, 0x11));
    }

    #[test]
    fn other_widths_and_places_mean_nothing() {
        for (at, width) in [
            (offset::CR0, 8),
            (offset::CR0 + 2, 4),
            (offset::CR0, 2),
            (offset::STRTAB_BASE + 4, 8),
            (offset::FRAME_BYTES, 4),
            (u64::MAX - 3, 4),
            (u64::MAX - 7, 8),
        ] {
            assert_eq!(Access::new(at, width), None, "{width} bytes at {at:#x}");
        }
    }
}
