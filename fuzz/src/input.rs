//! The bytes of an input as numbers. What lies behind the end is zero.

use arbitrary::Unstructured;

/// An input, read from the front. All numbers are little-endian.
#[derive(Debug)]
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        // It does not fail, but fills up with zeros.
        let _filled = self.0.fill_buffer(&mut bytes);
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn words<const N: usize>(&mut self) -> [u64; N] {
        std::array::from_fn(|_| self.u64())
    }

    /// One of `all`, which are not more than 256, by a byte.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.u8()) % all.len()]
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let left = self.0.len();
        self.0.bytes(left).unwrap_or_default()
    }
}

/// An input as it is written: for seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Vec<u8>);

impl Output {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.words(&[value])
    }

    pub(crate) fn words(mut self, values: &[u64]) -> Self {
        self.0
            .extend(values.iter().flat_map(|word| word.to_le_bytes()));
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_then_come_zeros() {
        let written = Output::default().u8(1).u16(2).u32(3).u64(4).words(&[5, 6]);
        let bytes = written.done();
        let mut input = Input::new(&bytes);
        assert_eq!((input.u8(), input.u16(), input.u32()), (1, 2, 3));
        assert_eq!((input.u64(), input.words()), (4, [5, 6]));
        assert!(input.is_empty());
        assert_eq!((input.u64(), input.pick(&[7, 8])), (0, 7));
        assert_eq!(Input::new(&bytes[..3]).rest(), [1, 2, 0]);
    }
}
