//! Levels, indices and addresses of tables, by granule.

use crate::range::Granule;

/// log2 of what one entry at `level` (-1 to 3) spans.
#[inline]
pub(super) fn entry_shift(granule: Granule, level: i8) -> u32 {
    let stride = granule.shift() - 3;
    granule.shift() + (3 - i32::from(level)) as u32 * stride
}

/// The level at which a stage 1 walk starts: as many levels as the input needs.
pub(crate) fn start_level(granule: Granule, input_bits: u32) -> i8 {
    let stride = granule.shift() - 3;
    4 - input_bits.saturating_sub(granule.shift()).div_ceil(stride) as i8
}

/// Size of the table at which a stage 1 walk starts, and so its alignment: at least 64 bytes
/// if addresses can be wider than 48 bits.
pub(crate) fn start_table_bytes(granule: Granule, input_bits: u32, output_bits: u32) -> u64 {
    let shift = entry_shift(granule, start_level(granule, input_bits));
    let bytes = 8 << input_bits.saturating_sub(shift);
    if output_bits > 48 {
        bytes.max(64)
    } else {
        bytes
    }
}

/// Whether a descriptor at `level` (above 3) may be a block.
#[inline]
pub(super) fn block_allowed(granule: Granule, level: i8, wide: bool, output52: bool) -> bool {
    match (granule, level) {
        (_, 2) | (Granule::K4, 1) => true,
        (Granule::K4, 0) | (Granule::K16, 1) => wide,
        (Granule::K64, 1) => output52,
        _ => false,
    }
}

/// The address in a descriptor, aligned to the granule.
#[inline]
pub(super) fn descriptor_address(
    descriptor: u64,
    granule: Granule,
    wide: bool,
    output52: bool,
) -> u64 {
    let low = descriptor & 0x0000_FFFF_FFFF_F000 & !(granule.bytes() - 1);
    let high = match granule {
        // [51:48] lie in [15:12].
        Granule::K64 if output52 => (descriptor >> 12 & 0xF) << 48,
        Granule::K64 => 0,
        // [49:48] in place, [51:50] in [9:8].
        _ if wide => descriptor & 3 << 48 | (descriptor >> 8 & 3) << 50,
        _ => 0,
    };
    low | high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_sizes_are_those_of_the_architecture() {
        let sizes = |granule| [0, 1, 2, 3].map(|level| entry_shift(granule, level));
        assert_eq!(sizes(Granule::K4), [39, 30, 21, 12]);
        assert_eq!(sizes(Granule::K16), [47, 36, 25, 14]);
        assert_eq!(sizes(Granule::K64)[1..], [42, 29, 16]);
    }

    #[test]
    fn walks_start_where_the_input_size_says() {
        let starts = [
            (Granule::K4, 48, 0),
            (Granule::K4, 40, 0),
            (Granule::K4, 39, 1),
            (Granule::K4, 31, 1),
            (Granule::K4, 30, 2),
            (Granule::K4, 25, 2),
            (Granule::K4, 16, 3),
            (Granule::K4, 52, -1),
            (Granule::K16, 48, 0),
            (Granule::K16, 47, 1),
            (Granule::K16, 36, 2),
            (Granule::K64, 52, 1),
            (Granule::K64, 48, 1),
            (Granule::K64, 42, 2),
            (Granule::K64, 29, 3),
        ];
        for (granule, bits, level) in starts {
            assert_eq!(
                start_level(granule, bits),
                level,
                "{granule:?} with {bits} bits"
            );
        }
        assert_eq!(start_table_bytes(Granule::K4, 48, 48), 4096);
        assert_eq!(start_table_bytes(Granule::K4, 40, 48), 16);
        assert_eq!(start_table_bytes(Granule::K64, 43, 52), 64);
    }
}
