//! What becomes of the traffic of a frame's streams.

use smmu_core::Capabilities;
use smmu_core::spec::register::Gbpa;
use smmu_core::translate::Setup;

/// What the registers of a frame say about the traffic of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// CR0.SMMUEN is 0: no stream table is read, GBPA decides for everybody.
    Disabled(Gbpa, Capabilities),
    /// CR0.SMMUEN is 1.
    Enabled(Setup),
}

impl Traffic {
    /// CR0.SMMUEN.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        matches!(self, Self::Enabled(_))
    }
}
