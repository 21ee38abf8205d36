//! A device model's handle in one call: what a VMM would otherwise put together itself.

use super::device::{Device, Requester};
use super::sinks::{DeviceSeams, FaultSink, MmioSink, NoMmio};
use crate::events::Answer;
use crate::frame::{Frame, FrameShared};
use dispatch::Backend;
use dispatch::backend::Software;
use smmu_core::StreamId;
use smmu_core::guard::NoSlot;
use smmu_core::translate::Failed;
use std::sync::Arc;

/// Why a frame gives no handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The core is not the backend of any instance of this frame.
    #[error("this software backend is not behind the frame: add it as an instance first")]
    NotBehind,
    /// The stream is not bound, or to another instance (law 1).
    #[error("stream {0:?} is not bound to the instance of this backend: bind it first")]
    NotBound(StreamId),
    /// The frame's guest memory is not a `VmMemory` of the map that was asked for.
    #[error("the frame's guest memory is not a `VmMemory` of this map")]
    OtherMap,
    /// The frame does not advertise ATS.
    #[error("the frame advertises no ATS: set IDR0.ATS")]
    NoAts,
    /// The instance has no more guards.
    #[error(transparent)]
    NoGuard(#[from] NoSlot),
}

/// Faults go to the frame's own event queue.
struct FrameFaults(Arc<FrameShared>);

impl FaultSink for FrameFaults {
    fn fault(&self, failed: &Failed) -> Answer {
        self.0.events.fault(failed)
    }
}

/// Device models. Control calls, as the frame's others.
impl Frame {
    /// Seams of a device whose faults go to the frame's own [`events`](Self::events). What is no RAM
    /// goes to `mmio`; [`NoMmio`] aborts it.
    #[must_use]
    pub fn device_seams(&self, mmio: Arc<dyn MmioSink>) -> DeviceSeams {
        let faults = Arc::new(FrameFaults(self.shared().clone()));
        DeviceSeams { faults, mmio }
    }

    /// A handle for a device model behind `core`, one of the frame's instances, on a stream that is
    /// bound to it; with only RAM behind the SMMU. For a doorbell or another device's BAR:
    /// [`Device::new`] with [`device_seams`](Self::device_seams).
    pub fn device(&self, core: &Arc<Software>, who: Requester) -> Result<Device, DeviceError> {
        self.check_device(core, who.stream)?;
        let seams = self.device_seams(Arc::new(NoMmio));
        Ok(Device::new(core, who, seams)?)
    }

    /// The same as vm-memory's guest memory, for a device model that knows nothing of an SMMU. `M`
    /// is the map that the frame's guest memory is a `VmMemory` of.
    #[cfg(all(feature = "vm-memory", not(loom)))]
    pub fn stream_memory<M: 'static>(
        &self,
        core: &Arc<Software>,
        who: Requester,
    ) -> Result<super::StreamMemory<M>, DeviceError> {
        self.check_device(core, who.stream)?;
        let memory = self.memory();
        let any = memory.as_any();
        if !any.is_some_and(|any| any.is::<crate::VmMemory<M>>()) {
            return Err(DeviceError::OtherMap);
        }
        let seams = self.device_seams(Arc::new(NoMmio));
        Ok(super::StreamMemory::new(core, who, seams))
    }

    pub(super) fn check_device(
        &self,
        core: &Arc<Software>,
        stream: StreamId,
    ) -> Result<(), DeviceError> {
        let is_core =
            |backend: &Arc<dyn Backend>| std::ptr::addr_eq(Arc::as_ptr(backend), Arc::as_ptr(core));
        let instances = self.instances();
        let instance = instances
            .iter()
            .find(|instance| is_core(&instance.backend))
            .ok_or(DeviceError::NotBehind)?;
        let streams = self.shared().streams.read();
        if streams.belongs(stream, instance.id) {
            Ok(())
        } else {
            Err(DeviceError::NotBound(stream))
        }
    }
}
