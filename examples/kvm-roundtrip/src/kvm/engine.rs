//! The engine behind the guest's queue, as a VMM links it.

use super::guest::{QueuePage, RING, RING_LOG2SIZE};
use super::vmm::Error;
use dispatch::backend::Software;
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use vcmdq::{
    Binding, DoorbellMode, Engine, FrameSettings, Placement, Ring, RingSettings, Seams, Settings,
    StdThreads, VmMemory,
};
use vm_memory::GuestMemoryMmap;

/// The one device behind the frame.
const STREAM: StreamId = StreamId(0x10);

/// One worker, one frame, one ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// The guest's queue.
    pub(crate) ring: Arc<Ring>,
    // Stops the worker when it is dropped.
    _engine: Engine,
}

impl Consumer {
    /// A ring that the exit handler's doorbell serves.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub(crate) fn trap(memory: &GuestMemoryMmap) -> Result<Self, Error> {
        Self::new(memory, DoorbellMode::Trap)
    }

    /// A ring whose page the worker polls.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub(crate) fn shared_page(memory: &GuestMemoryMmap) -> Result<Self, Error> {
        let page = QueuePage::new(memory.clone());
        Self::new(memory, DoorbellMode::SharedPage(Arc::new(page)))
    }

    fn new(memory: &GuestMemoryMmap, mode: DoorbellMode) -> Result<Self, Error> {
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
        let seams = Seams::new(Arc::new(VmMemory::new(memory.clone())));
        let frame = engine.add_frame(FrameSettings::default(), seams);
        let placement = Placement::default();
        let instance = frame.add_instance(Arc::new(Software::default()), placement);
        let binding = Binding {
            instance,
            placement,
        };
        frame.bind(STREAM, binding)?;
        let ring = frame.add_ring(mode)?;
        ring.configure(RingSettings {
            base: Gpa(RING),
            log2size: RING_LOG2SIZE,
        })?;
        ring.enable();
        Ok(Self {
            ring,
            _engine: engine,
        })
    }
}
