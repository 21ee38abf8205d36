//! Address ranges of TLB invalidations (IHI 0070, 4.4.1).

/// A translation granule, as the TG field of a TLBI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Granule {
    /// 4 KiB.
    K4 = 1,
    /// 16 KiB.
    K16 = 2,
    /// 64 KiB.
    K64 = 3,
}

impl Granule {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// The granule that a TLBI's TG field names; `None` is TG=0, "unknown".
    #[must_use]
    #[inline]
    pub fn from_tg(tg: u8) -> Option<Self> {
        match tg {
            1 => Some(Self::K4),
            2 => Some(Self::K16),
            3 => Some(Self::K64),
            _ => None,
        }
    }

    /// log2 of the size in bytes.
    #[must_use]
    #[inline]
    pub fn shift(self) -> u32 {
        10 + 2 * self as u32
    }

    /// The size in bytes.
    #[must_use]
    #[inline]
    pub fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// log2 of what one leaf entry at `level` (1 to 3; 0 with 52-bit addresses) maps.
    #[must_use]
    #[inline]
    pub fn leaf_shift(self, level: u8) -> u32 {
        let stride = self.shift() - 3;
        self.shift() + (3 - u32::from(level.min(3))) * stride
    }
}

/// What a TLBI by address covers.
///
/// With a `granule`, `bytes` of addresses and only entries of that granule; without one, whatever
/// overlaps the addresses, of whatever granule and size it is. A command without one (TG=0) has 4 KiB:
/// the single page that contains `addr`. Longer ones are several commands made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlbiRange {
    /// First address. Aligned down to the granule where there is one, else to 4 KiB.
    pub addr: u64,
    /// Length. Without a granule it is a multiple of 4 KiB and says nothing about the entries' size.
    pub bytes: u64,
    /// Granule of the entries, if the command says.
    pub granule: Option<Granule>,
    /// Level of the leaf entries (1 to 3), or 0 for "any": a promise, never a must.
    pub ttl: u8,
    /// Only last-level entries; otherwise cached table descriptors of the path too.
    pub leaf: bool,
}

impl TlbiRange {
    /// The leaf entry that maps `addr`, of whatever granule and size: what a TLBI with TG=0, TTL=0
    /// and Leaf=1 names.
    #[must_use]
    #[inline]
    pub fn page(addr: u64) -> Self {
        Self {
            addr: addr & !0xFFF,
            bytes: 0x1000,
            granule: None,
            ttl: 0,
            leaf: true,
        }
    }

    /// The last address covered. A range never wraps: past the top it ends there.
    #[must_use]
    #[inline]
    pub fn last(&self) -> u64 {
        self.addr.saturating_add(self.bytes - 1)
    }

    /// Whether an entry of `granule` that maps `2^shift` bytes from `base` is hit by address.
    /// The level promise is not used: ignoring it removes too much at most.
    #[must_use]
    #[inline]
    pub fn hits(&self, base: u64, shift: u32, granule: Granule) -> bool {
        let last = base.saturating_add((1u64 << shift) - 1);
        match self.granule {
            // Aligned to 4 KiB, which no entry is smaller than: the page of a TLBI with TG=0
            // overlaps what contains its address, and nothing else.
            None => base <= self.last() && self.addr <= last,
            Some(own) => own == granule && base <= self.last() && self.addr <= last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Tlbi};
    use crate::{Asid, Capabilities, Vmid, decode, encode};

    #[test]
    fn a_page_is_what_one_command_without_a_granule_names() {
        let range = TlbiRange::page(0x1234_5678);
        let (vmid, asid) = (Vmid(0), Asid(7));
        let command = Command::Tlbi(Tlbi::NhVa { vmid, asid, range });
        let raw = encode::encode(&command);
        let decoded = decode::decode(raw, &Capabilities::default());
        assert_eq!(decoded, Ok(command));
        assert_eq!((range.addr, range.last()), (0x1234_5000, 0x1234_5FFF));
        assert!(
            range.hits(0x1220_0000, 21, Granule::K4),
            "and a block there"
        );
        assert!(!range.hits(0x1234_6000, 12, Granule::K4));
    }
}
