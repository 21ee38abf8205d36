//! What a recording's last record says of all bytes before it, so that a reader notices a bit that has
//! changed since.

/// CRC-32 as gzip and PNG have it (polynomial 0x04C11DB7, reflected, all ones before and behind): one to
/// three flipped bits, or one run of up to 32, never go unnoticed; anything else once in 2^32.
///
/// A value; any thread, never blocks.
#[derive(Clone, Debug, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Of these bytes, a file's first ones.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut checksum = Self::default();
        checksum.add(bytes);
        checksum
    }

    /// Goes on with the bytes behind.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As it stands in a file, little-endian.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_of_the_catalogues_however_the_bytes_come() {
        assert_eq!(Checksum::default().value(), 0);
        assert_eq!(Checksum::of(b"123456789").value(), 0xCBF4_3926);
        let mut pieces = Checksum::of(b"1234");
        pieces.add(b"56789");
        assert_eq!(pieces.value(), 0xCBF4_3926);
    }
}
