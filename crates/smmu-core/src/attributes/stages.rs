//! What the descriptors of a translation say about memory, and what that makes of an access.

use super::memory::{Cacheability, DeviceType, MemoryAttributes, MemoryType, Shareability};

/// The attribute fields of the descriptors that a translation was made from, of either stage or both:
/// part of every entry of a cache, for whichever device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StageAttributes(u32);

const SH_AT: u32 = 8;
const STAGE1: u32 = 1 << 10;
const STAGE1_MASK: u32 = (1 << 11) - 1;
const MEM_ATTR_AT: u32 = 11;
const SH2_AT: u32 = 15;
const FORCED: u32 = 1 << 17;
const STAGE2: u32 = 1 << 18;

impl StageAttributes {
    /// How many bits [`bits`](Self::bits) has.
    pub const BITS: u32 = 19;

    /// Of stage 1: the byte of MAIR that AttrIndx names, and SH.
    #[must_use]
    #[inline]
    pub fn of_stage1(mair: u8, sh: u8) -> Self {
        Self(u32::from(mair) | u32::from(sh & 3) << SH_AT | STAGE1)
    }

    /// Of stage 2: MemAttr\[3:0\] and SH; `forced` is S2FWB.
    #[must_use]
    #[inline]
    pub fn of_stage2(mem_attr: u8, sh: u8, forced: bool) -> Self {
        let fields = u32::from(mem_attr & 0xF) << MEM_ATTR_AT | u32::from(sh & 3) << SH2_AT;
        Self(fields | if forced { FORCED } else { 0 } | STAGE2)
    }

    /// The part of stage 1 of this, with the part of stage 2 of the other.
    #[must_use]
    #[inline]
    pub fn with_stage2(self, stage2: Self) -> Self {
        Self(self.0 & STAGE1_MASK | stage2.0 & !STAGE1_MASK)
    }

    /// The low [`BITS`](Self::BITS) bits hold everything.
    #[must_use]
    #[inline]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// What [`bits`](Self::bits) gave.
    #[must_use]
    #[inline]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// Whether stage 2 makes the page Device memory by itself.
    #[must_use]
    pub fn is_device_at_stage2(self) -> bool {
        match (self.0 & STAGE2 != 0, self.0 & FORCED != 0) {
            (false, _) => false,
            (true, true) => self.mem_attr() & 4 == 0,
            (true, false) => matches!(
                MemoryType::from_mem_attr(self.mem_attr()),
                MemoryType::Device(_)
            ),
        }
    }

    /// What an access with these attributes, its device's after the [override](super::InputOverride),
    /// reaches memory with (IHI 0070, 13.4).
    #[must_use]
    pub fn output(self, input: MemoryAttributes) -> MemoryAttributes {
        let first = self.through_stage1(input);
        if self.0 & STAGE2 == 0 {
            return first;
        }
        let own = Shareability::from_sh((self.0 >> SH2_AT) as u8);
        let memory = if self.0 & FORCED != 0 {
            self.forced(first.memory_type())
        } else {
            let own = MemoryType::from_mem_attr(self.mem_attr());
            combined(first.memory_type(), own)
        };
        MemoryAttributes::new(memory, first.shareability().max(own))
    }

    fn mem_attr(self) -> u8 {
        (self.0 >> MEM_ATTR_AT) as u8 & 0xF
    }

    /// Stage 1 replaces everything but the hints of what is cached, with which its own are combined.
    fn through_stage1(self, input: MemoryAttributes) -> MemoryAttributes {
        if self.0 & STAGE1 == 0 {
            return input;
        }
        let memory = match (MemoryType::from_mair(self.0 as u8), input.memory_type()) {
            (
                MemoryType::Normal { inner, outer },
                MemoryType::Normal {
                    inner: input_inner,
                    outer: input_outer,
                },
            ) => MemoryType::Normal {
                inner: hinted(inner, input_inner),
                outer: hinted(outer, input_outer),
            },
            (own, _) => own,
        };
        MemoryAttributes::new(memory, Shareability::from_sh((self.0 >> SH_AT) as u8))
    }

    /// Stage 2 with S2FWB (Arm ARM D8.6.7).
    fn forced(self, first: MemoryType) -> MemoryType {
        let cached = |was: Cacheability| Cacheability::WRITE_BACK.with_hints_of(was);
        match (self.mem_attr() & 7, first) {
            (device @ 0..=3, first) => {
                combined(first, MemoryType::Device(DeviceType::from_bits(device)))
            }
            (7, first) => first,
            (6, MemoryType::Normal { inner, outer }) => MemoryType::Normal {
                inner: cached(inner),
                outer: cached(outer),
            },
            (6, MemoryType::Device(_)) => MemoryType::Normal {
                inner: Cacheability::WRITE_BACK,
                outer: Cacheability::WRITE_BACK,
            },
            // Not cached, unless it is Device memory; so is the reserved value.
            (_, MemoryType::Normal { .. }) => MemoryType::NON_CACHEABLE,
            (_, device) => device,
        }
    }
}

impl Cacheability {
    /// The same with the hints of another, if it has any.
    fn with_hints_of(self, other: Self) -> Self {
        other.hints().map_or(self, |hints| self.with_hints(hints))
    }
}

/// Stage 1's own hints, with those of an input that was cached.
fn hinted(own: Cacheability, input: Cacheability) -> Cacheability {
    match (own.hints(), input.hints()) {
        (Some(hints), Some(of_input)) => own.with_hints(hints.and(of_input)),
        _ => own,
    }
}

/// The stronger of both: Device before Normal, then what is cached less (13.1.5).
fn combined(first: MemoryType, second: MemoryType) -> MemoryType {
    match (first, second) {
        (MemoryType::Device(one), MemoryType::Device(two)) => MemoryType::Device(one.min(two)),
        (device @ MemoryType::Device(_), _) | (_, device @ MemoryType::Device(_)) => device,
        (
            MemoryType::Normal { inner, outer },
            MemoryType::Normal {
                inner: inner2,
                outer: outer2,
            },
        ) => MemoryType::Normal {
            inner: inner.least_of(inner2),
            outer: outer.least_of(outer2),
        },
    }
}
