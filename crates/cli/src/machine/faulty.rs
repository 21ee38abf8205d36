//! Backends that are wrong, each in one way that the checks must notice.

use dispatch::backend::Software;
use dispatch::{
    Backend, BackendCapabilities, Barrier, Batch, Costs, Invalidation, Rejected, WaiterId, Wake,
};
use smmu_core::StreamId;
use std::sync::Arc;

/// Says yes and does nothing.
#[derive(Debug)]
pub(crate) struct Nothing(pub(crate) Arc<Software>);

impl Backend for Nothing {
    fn capabilities(&self) -> BackendCapabilities {
        self.0.capabilities()
    }

    fn costs(&self) -> Costs {
        self.0.costs()
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// Removes everything, whatever it is asked for.
#[derive(Debug)]
pub(crate) struct Everything(pub(crate) Arc<Software>);

impl Backend for Everything {
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let mut all = Batch::new();
        all.push(Invalidation::everything(), 0);
        self.0.submit(&all)?;
        self.0.submit(batch)
    }

    dispatch::pass_on!(0:
        capabilities, costs, barrier, overdue, take_unanswered, forget, set_ats_check,
        attach, configuration_changed, memory_changed, traffic_changed, traffic_settled,
        fail_closed);
}
