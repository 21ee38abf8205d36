//! A translation in use.

use super::super::output::Output;
use super::{Denied, Port};
use smmu_core::access::Access;
use smmu_core::guard::Use;
use smmu_core::{GuestMemory, SubstreamId};

/// A translation in use: a SYNC waits for it if something before it removes it.
#[derive(Debug)]
pub struct Guarded<'p> {
    pub(super) port: &'p mut Port,
    pub(super) output: Output,
}

impl Guarded<'_> {
    /// Where the access goes.
    #[must_use]
    #[inline]
    pub fn output(&self) -> Output {
        self.output
    }

    /// The map of guest memory that belongs to the translation. Nothing of it may be used when the
    /// guard is closed (law 9).
    #[must_use]
    #[inline]
    pub fn memory(&self) -> &dyn GuestMemory {
        self.port.memory()
    }

    /// Looks up once more: the output, and what it uses.
    pub(in super::super) fn resolve(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
    ) -> Result<(Output, Use), Denied> {
        self.port.resolve(substream, access, bytes)
    }
}

impl Drop for Guarded<'_> {
    #[inline]
    fn drop(&mut self) {
        self.port.close();
    }
}
