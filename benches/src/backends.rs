//! Backends to measure against.

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use smmu_core::StreamId;
use std::sync::Arc;

/// Takes every batch and does nothing: what is left is the engine's own cost.
#[derive(Clone, Copy, Debug)]
pub struct Nothing(
    /// What it says that it can do: that of the backend it stands for, so that the same requests
    /// come out of the coalescer.
    pub BackendCapabilities,
);

impl Backend for Nothing {
    fn capabilities(&self) -> BackendCapabilities {
        self.0
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        std::hint::black_box(batch);
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}
