//! What an STE, or GBPA while SMMUEN is 0, makes of a device's own attributes.

use super::memory::{Cacheability, Hints, MemoryAttributes, MemoryType, Shareability};
use crate::caps::Capabilities;
use crate::spec::register::Gbpa;
use crate::spec::ste::SteWord1;

/// MTCFG and MemAttr, ALLOCCFG, SHCFG (IHI 0070, 13.1.4). Nothing with IDR1.ATTR_TYPES_OVR=0.
///
/// It is IMPLEMENTATION DEFINED whether PCIe devices are concerned, and CONSTRAINED UNPREDICTABLE whether
/// ALLOCCFG is with MTCFG=0: here both are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InputOverride {
    /// MTCFG and MemAttr: the memory type that takes the place of the device's.
    pub memory: Option<MemoryType>,
    /// ALLOCCFG: the hints of whatever is cached.
    pub hints: Option<Hints>,
    /// SHCFG.
    pub shareability: Option<Shareability>,
}

impl InputOverride {
    /// Of an STE.
    #[must_use]
    pub fn of_ste(word: SteWord1, caps: &Capabilities) -> Self {
        let memory = (word.mtcfg(), word.mem_attr());
        Self::new(memory, word.alloccfg(), word.shcfg(), caps)
    }

    /// Of GBPA.
    #[must_use]
    pub fn of_gbpa(gbpa: Gbpa, caps: &Capabilities) -> Self {
        let memory = (gbpa.mtcfg(), gbpa.mem_attr());
        Self::new(memory, gbpa.alloccfg(), gbpa.shcfg(), caps)
    }

    fn new((mtcfg, mem_attr): (bool, u8), alloccfg: u8, shcfg: u8, caps: &Capabilities) -> Self {
        if !caps.idr1.attr_types_ovr() {
            return Self::default();
        }
        // 1RWT.
        let hints = Hints {
            read_allocate: alloccfg & 4 != 0,
            write_allocate: alloccfg & 2 != 0,
            transient: alloccfg & 1 != 0,
        };
        Self {
            memory: mtcfg.then(|| MemoryType::from_mem_attr(mem_attr)),
            hints: (alloccfg & 8 != 0).then_some(hints),
            shareability: (shcfg != 1).then(|| Shareability::from_sh(shcfg)),
        }
    }

    /// What a device's attributes become. What was not cached before and is now has the default hints,
    /// unless ALLOCCFG says others.
    #[must_use]
    pub fn apply(&self, incoming: MemoryAttributes) -> MemoryAttributes {
        let was = incoming.memory_type();
        let memory = match (self.memory.unwrap_or(was), was) {
            (
                MemoryType::Normal { inner, outer },
                MemoryType::Normal {
                    inner: old_inner,
                    outer: old_outer,
                },
            ) => MemoryType::Normal {
                inner: self.hinted(inner, old_inner),
                outer: self.hinted(outer, old_outer),
            },
            (MemoryType::Normal { inner, outer }, MemoryType::Device(_)) => MemoryType::Normal {
                inner: self.hinted(inner, Cacheability::NonCacheable),
                outer: self.hinted(outer, Cacheability::NonCacheable),
            },
            (device, _) => device,
        };
        MemoryAttributes::new(memory, self.shareability.unwrap_or(incoming.shareability()))
    }

    fn hinted(&self, new: Cacheability, old: Cacheability) -> Cacheability {
        let hints = self.hints.or(old.hints()).unwrap_or(Hints::DEFAULT);
        new.with_hints(hints)
    }
}
