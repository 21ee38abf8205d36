//! What a translation gives.

use smmu_core::attributes::{MemoryAttributes, StageAttributes};

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The output address of the access's first byte.
    pub address: u64,
    /// Bytes from there on that the same translation covers.
    pub bytes: u64,
    pub(super) memory: StageAttributes,
    pub(super) input: MemoryAttributes,
}

impl Output {
    /// What the access reaches memory with: the device's own attributes, the STE's or GBPA's overrides,
    /// and what each stage says, combined (IHI 0070, 13). For a model of something that tells memory
    /// types apart; the engine itself does not. Any thread, never blocks.
    #[must_use]
    pub fn attributes(&self) -> MemoryAttributes {
        self.memory.output(self.input)
    }
}
