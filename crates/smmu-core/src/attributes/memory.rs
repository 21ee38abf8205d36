//! One set of memory attributes.

/// How strictly accesses to Device memory are kept as they are; the strictest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceType {
    /// No gathering, no reordering, no early acknowledgement of writes.
    NGnRnE,
    /// No gathering, no reordering.
    NGnRE,
    /// No gathering.
    NGRE,
    /// Anything of these.
    GRE,
}

/// Hints to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hints {
    /// Reads allocate.
    pub read_allocate: bool,
    /// Writes allocate.
    pub write_allocate: bool,
    /// What is allocated is not needed for long.
    pub transient: bool,
}

impl Hints {
    /// Allocate, not transient: what is taken where nobody says anything (13.1.3), and what changes
    /// nothing when it is combined.
    pub const DEFAULT: Self = Self {
        read_allocate: true,
        write_allocate: true,
        transient: false,
    };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            read_allocate: self.read_allocate && other.read_allocate,
            write_allocate: self.write_allocate && other.write_allocate,
            transient: self.transient || other.transient,
        }
    }
}

/// Whether Normal memory is cached, in the inner or the outer domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cacheability {
    /// Not.
    NonCacheable,
    /// Write-through.
    WriteThrough(Hints),
    /// Write-back.
    WriteBack(Hints),
}

impl Cacheability {
    /// Write-back with the [default hints](Hints::DEFAULT).
    pub const WRITE_BACK: Self = Self::WriteBack(Hints::DEFAULT);

    /// Hints, if anything is cached.
    #[must_use]
    pub fn hints(self) -> Option<Hints> {
        match self {
            Self::NonCacheable => None,
            Self::WriteThrough(hints) | Self::WriteBack(hints) => Some(hints),
        }
    }

    /// The same with other hints; no difference to what is not cached.
    #[must_use]
    pub fn with_hints(self, hints: Hints) -> Self {
        match self {
            Self::NonCacheable => Self::NonCacheable,
            Self::WriteThrough(_) => Self::WriteThrough(hints),
            Self::WriteBack(_) => Self::WriteBack(hints),
        }
    }

    /// What is cached least: not before write-through before write-back.
    pub(super) fn least_of(self, other: Self) -> Self {
        let hints = match (self.hints(), other.hints()) {
            (Some(one), Some(two)) => one.and(two),
            _ => return Self::NonCacheable,
        };
        match (self, other) {
            (Self::WriteBack(_), Self::WriteBack(_)) => Self::WriteBack(hints),
            _ => Self::WriteThrough(hints),
        }
    }

    /// Of four bits of MAIR: `00RW` write-through transient, `0100` not cached, `01RW` write-back
    /// transient, `10RW` and `11RW` the same two, not transient. `0000`, which is reserved, behaves as
    /// `0011` (5.4).
    fn from_nibble(nibble: u8) -> Self {
        let hints = Hints {
            read_allocate: nibble & 2 != 0,
            write_allocate: nibble & 1 != 0,
            transient: nibble & 8 == 0,
        };
        match nibble & 0xF {
            0 => Self::from_nibble(0b0011),
            0b0100 => Self::NonCacheable,
            other if other & 4 == 0 => Self::WriteThrough(hints),
            _ => Self::WriteBack(hints),
        }
    }

    /// What does not allocate is not transient, either (13.1.7).
    fn nibble(self) -> u8 {
        let Some(hints) = self.hints() else {
            return 0b0100;
        };
        let allocates = u8::from(hints.read_allocate) << 1 | u8::from(hints.write_allocate);
        let transient = hints.transient && allocates != 0;
        let write_back = matches!(self, Self::WriteBack(_));
        u8::from(!transient) << 3 | u8::from(write_back) << 2 | allocates
    }
}

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryType {
    /// Device memory.
    Device(DeviceType),
    /// Normal memory.
    Normal {
        /// The inner domain.
        inner: Cacheability,
        /// The outer domain.
        outer: Cacheability,
    },
}

impl MemoryType {
    pub(super) const NON_CACHEABLE: Self = Self::Normal {
        inner: Cacheability::NonCacheable,
        outer: Cacheability::NonCacheable,
    };

    /// Of MemAttr\[3:0\] in an STE, in GBPA, or in a descriptor of stage 2 with S2FWB=0: outer and inner
    /// half, or a kind of Device memory. The reserved values are Device-nGnRnE (5.2, MemAttr).
    #[must_use]
    pub fn from_mem_attr(mem_attr: u8) -> Self {
        let cacheability = |bits: u8| match bits & 3 {
            1 => Cacheability::NonCacheable,
            2 => Cacheability::WriteThrough(Hints::DEFAULT),
            _ => Cacheability::WRITE_BACK,
        };
        match (mem_attr >> 2 & 3, mem_attr & 3) {
            (0, device) => Self::Device(DeviceType::from_bits(device)),
            (_, 0) => Self::Device(DeviceType::NGnRnE),
            (outer, inner) => Self::Normal {
                inner: cacheability(inner),
                outer: cacheability(outer),
            },
        }
    }

    /// Of a byte of MAIR (5.4, MAIR0).
    #[must_use]
    pub fn from_mair(mair: u8) -> Self {
        if mair >> 4 == 0 {
            Self::Device(DeviceType::from_bits(mair >> 2))
        } else {
            Self::Normal {
                inner: Cacheability::from_nibble(mair),
                outer: Cacheability::from_nibble(mair >> 4),
            }
        }
    }

    /// The byte of MAIR that says the same.
    #[must_use]
    pub fn mair(self) -> u8 {
        match self {
            Self::Device(device) => (device as u8) << 2,
            Self::Normal { inner, outer } => outer.nibble() << 4 | inner.nibble(),
        }
    }
}

impl DeviceType {
    pub(super) fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NGnRnE,
            1 => Self::NGnRE,
            2 => Self::NGRE,
            _ => Self::GRE,
        }
    }
}

/// Who sees the same memory. What reaches further comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shareability {
    /// Nobody else.
    Non,
    /// The inner domain.
    Inner,
    /// The outer domain.
    Outer,
}

impl Shareability {
    /// Of a field SH; the reserved value 1 is non-shareable, as in CR1.TABLE_SH.
    #[must_use]
    pub fn from_sh(sh: u8) -> Self {
        match sh & 3 {
            2 => Self::Outer,
            3 => Self::Inner,
            _ => Self::Non,
        }
    }
}

/// Memory type, shareability and hints, consistent with each other (13.1.7): Device and wholly
/// non-cacheable memory are outer shareable, and only what is cached has hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryAttributes {
    mair: u8,
    shareability: Shareability,
}

impl MemoryAttributes {
    /// Normal, write-back, inner shareable: what PCIe brings into a system (13.6.1).
    pub const CACHED: Self = Self {
        mair: 0xFF,
        shareability: Shareability::Inner,
    };

    /// Attributes, made consistent.
    #[must_use]
    pub fn new(memory: MemoryType, shareability: Shareability) -> Self {
        let everybody =
            matches!(memory, MemoryType::Device(_)) || memory == MemoryType::NON_CACHEABLE;
        Self {
            mair: memory.mair(),
            shareability: if everybody {
                Shareability::Outer
            } else {
                shareability
            },
        }
    }

    /// What kind of memory it is.
    #[must_use]
    pub fn memory_type(self) -> MemoryType {
        MemoryType::from_mair(self.mair)
    }

    /// Who sees the same memory.
    #[must_use]
    pub fn shareability(self) -> Shareability {
        self.shareability
    }

    /// The memory type as a byte of MAIR, with none of the reserved values.
    #[must_use]
    pub fn mair(self) -> u8 {
        self.mair
    }
}

impl Default for MemoryAttributes {
    fn default() -> Self {
        Self::CACHED
    }
}
