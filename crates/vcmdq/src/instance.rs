//! What stands behind a frame for one stage 2 and one host VMID (law 1).

use crate::fan_out::Caller;
use dispatch::{Backend, WaiterId, Wake};
use std::fmt;
use std::sync::Arc;

/// Names an instance within its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub(crate) u32);

/// Where a stream's translations are made: which physical SMMU, which stage 2. The numbers
/// are the VMM's own; the engine only compares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The physical SMMU; emulated devices are all behind one that does not exist.
    pub smmu: u32,
    /// The guest-physical to host-physical mapping.
    pub stage2: u64,
}

/// One backend and the placement that its streams share.
pub struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) placement: Placement,
    pub(crate) backend: Arc<dyn Backend>,
    /// Its calls are made in the frame's lane: they can block, or are long.
    pub(crate) in_lane: bool,
    /// The thread that makes them while another instance's are made: of every such instance of a
    /// frame but the first.
    pub(crate) caller: Option<Arc<Caller>>,
}

/// Whether a backend's calls are made by whoever owns the frame's lane.
pub(crate) fn calls_in_lane(backend: &dyn Backend) -> bool {
    backend.capabilities().may_block || backend.costs().is_long_call()
}

impl Instance {
    pub(crate) fn new(
        id: InstanceId,
        placement: Placement,
        backend: Arc<dyn Backend>,
        wake: Arc<dyn Wake>,
        caller: Option<Arc<Caller>>,
    ) -> Self {
        backend.attach(wake);
        Self {
            id,
            placement,
            in_lane: calls_in_lane(&*backend),
            backend,
            caller,
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("placement", &self.placement)
            .finish()
    }
}

/// A ring waits for barriers under its own number.
pub(crate) fn waiter(ring: u32) -> WaiterId {
    WaiterId(ring)
}
