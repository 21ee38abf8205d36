//! The configuration space of the PCI function.

use super::interrupt::Messages;
use super::registers::BAR_BYTES;

/// Bytes of it.
pub(super) const CONFIG_BYTES: usize = 256;

/// The vendor of nothing: drivers find the function by its class.
const VENDOR: u16 = 0x7C3D;
const DEVICE: u16 = 0x0001;
/// Mass storage, NVM, NVMe I/O controller.
const CLASS: [u8; 3] = [0x02, 0x08, 0x01];
/// Where the MSI capability lies.
const MSI: usize = 0x40;

/// How many messages the function offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// None: INTx.
    None,
    /// 2^n of them.
    Log2(u8),
}

impl Vectors {
    /// As many as a guest with so many CPUs takes, without being left with some: its driver asks for
    /// one more than it has CPUs, and Linux 7.2 aligns the messages of a GICv2m as they must be
    /// only if it gets a power of two.
    #[must_use]
    pub fn for_cpus(cpus: u32) -> Self {
        Self::Log2(cpus.clamp(1, 32).ilog2() as u8)
    }

    pub(super) fn count(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Log2(log2) => 1 << log2,
        }
    }
}

/// Bytes, and which of their bits can be written.
#[derive(Clone, Debug)]
pub(super) struct Config {
    bytes: [u8; CONFIG_BYTES],
    writable: [u8; CONFIG_BYTES],
    log2_vectors: u8,
}

impl Config {
    pub(super) fn new(vectors: Vectors) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_BYTES],
            writable: [0; CONFIG_BYTES],
            log2_vectors: 0,
        };
        config.put(0x00, &VENDOR.to_le_bytes());
        config.put(0x02, &DEVICE.to_le_bytes());
        // Memory space, bus mastering, INTx off.
        config.writable[0x04] = 0x06;
        config.writable[0x05] = 0x04;
        config.bytes[0x08] = 1;
        config.put(0x09, &CLASS);
        // BAR 0: memory, 64 bits.
        config.bytes[0x10] = 0x04;
        let mask = !(BAR_BYTES - 1);
        config.writable[0x10..0x18].copy_from_slice(&mask.to_le_bytes());
        config.put(0x2C, &VENDOR.to_le_bytes());
        config.put(0x2E, &DEVICE.to_le_bytes());
        config.writable[0x3C] = 0xFF;
        // INTA.
        config.bytes[0x3D] = 1;
        if let Vectors::Log2(log2) = vectors {
            config.log2_vectors = log2;
            config.add_msi();
        }
        config
    }

    fn add_msi(&mut self) {
        // Status: there is a list of capabilities.
        self.bytes[0x06] = 0x10;
        self.bytes[0x34] = MSI as u8;
        // MSI with 64-bit addresses, without masks.
        self.put(MSI, &[0x05, 0, self.log2_vectors << 1 | 0x80, 0]);
        // Enable, and how many vectors are used.
        self.writable[MSI + 2] = 0x71;
        self.writable[MSI + 4] = 0xFC;
        self.writable[MSI + 5..MSI + 14].fill(0xFF);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads; what lies outside is ones.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        for (byte, at) in into.iter_mut().zip(offset..) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            *byte = self.bytes.get(at).copied().unwrap_or(0xFF);
        }
    }

    /// Writes the bits that can be written.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (&byte, at) in data.iter().zip(offset..) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if let (Some(old), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *old = *old & !mask | byte & mask;
            }
        }
    }

    /// MSI as the driver has set it up, if it is enabled.
    pub(super) fn messages(&self) -> Option<Messages> {
        let word = |at: usize| {
            let bytes = [0, 1, 2, 3].map(|index| self.bytes[at + index]);
            u32::from_le_bytes(bytes)
        };
        if self.bytes[0x34] == 0 || self.bytes[MSI + 2] & 1 == 0 {
            return None;
        }
        let log2 = (self.bytes[MSI + 2] >> 4 & 7).min(self.log2_vectors);
        Some(Messages {
            address: u64::from(word(MSI + 4)) | u64::from(word(MSI + 8)) << 32,
            data: word(MSI + 12) as u16,
            count: 1 << log2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_size_when_ones_are_written() {
        let mut config = Config::new(Vectors::None);
        config.write(0x10, &[0xFF; 8]);
        let mut bar = [0; 8];
        config.read(0x10, &mut bar);
        assert_eq!(u64::from_le_bytes(bar), !(BAR_BYTES - 1) | 4);
        config.write(0x00, &[0; 4]);
        config.read(0x00, &mut bar[..2]);
        assert_eq!(bar[..2], VENDOR.to_le_bytes(), "it cannot be written");
    }

    #[test]
    fn messages_are_there_when_they_are_enabled() {
        let mut config = Config::new(Vectors::for_cpus(4));
        assert_eq!(config.messages(), None);
        config.write(MSI as u64 + 4, &0x1_0802_0040u64.to_le_bytes());
        config.write(MSI as u64 + 12, &0x50u16.to_le_bytes());
        config.write(MSI as u64 + 2, &0x21u16.to_le_bytes());
        let messages = config.messages().expect("enabled");
        assert_eq!(messages.address, 0x1_0802_0040);
        assert_eq!((messages.data, messages.count), (0x50, 4));
        let mut without = Config::new(Vectors::None);
        without.write(MSI as u64 + 2, &0x21u16.to_le_bytes());
        assert_eq!(without.messages(), None);
    }

    #[test]
    fn vectors_are_a_power_of_two_and_not_more_than_cpus() {
        let counts = [1, 2, 3, 4, 7, 8].map(|cpus| Vectors::for_cpus(cpus).count());
        assert_eq!(counts, [1, 2, 2, 4, 4, 8]);
        assert_eq!(Vectors::None.count(), 0);
    }

    #[test]
    fn outside_there_are_ones() {
        let mut bytes = [0; 4];
        Config::new(Vectors::None).read(CONFIG_BYTES as u64 - 2, &mut bytes);
        assert_eq!(bytes[2..], [0xFF; 2]);
    }
}
