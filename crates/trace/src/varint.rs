//! Unsigned and signed numbers of variable length: LEB128, seven bits a byte, low bits first;
//! signed ones in zigzag form (0, -1, 1, -2, …).

/// The longest form of a 64-bit number.
pub(crate) const MOST_BYTES: usize = 10;

pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// Takes a number from the front. `None` if the bytes end within it or it needs more than 64 bits.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(MOST_BYTES) {
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if at == MOST_BYTES - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

pub(crate) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_take_a_byte_and_the_largest_ten() {
        for (value, length) in [(0, 1), (0x7F, 1), (0x80, 2), (u64::MAX, MOST_BYTES)] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), length, "{value:#x}");
        }
        assert_eq!(take(&mut [0xAC, 0x02].as_slice()), Some(300));
    }

    #[test]
    fn what_has_no_end_or_too_many_bits_is_refused() {
        assert_eq!(take(&mut [].as_slice()), None);
        assert_eq!(take(&mut [0x80].as_slice()), None);
        assert_eq!(take(&mut [0xFF; 11].as_slice()), None);
        let mut beyond = [0xFF; 10];
        beyond[9] = 2;
        assert_eq!(take(&mut beyond.as_slice()), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64, behind: u8) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_signed(&mut out, signed);
            out.push(behind);
            let mut rest = out.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert_eq!(take_signed(&mut rest), Some(signed));
            prop_assert_eq!(rest, &[behind]);
        }
    }
}
