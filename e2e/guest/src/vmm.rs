//! A VMM with one device: the engine's SMMU in front of the kernel's, and the program's memory as its guest's.

use crate::iommu::Iommu;
use crate::memory::Memory;
use crate::vfio;
use crate::watched::Watched;
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smmu_core::{Capabilities, GuestMemory, StreamId};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::registers::RegisterFrame;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads, VmMemory,
};
use vcmdq_iommufd::{
    ArmSmmuv3, Attachment, Device, HostFeatures, HostInstance, IommufdBackend, IommufdSettings,
    NestedStreams, Offer, VfioDevice,
};

/// Bits of what the guest takes for physical addresses.
const ADDRESSES: u8 = 44;

/// The SMMU of a guest, and the device behind it.
pub(crate) struct Vmm {
    pub(crate) registers: Arc<RegisterFrame>,
    pub(crate) watched: Arc<Watched>,
    pub(crate) backend: Arc<IommufdBackend>,
    pub(crate) streams: Arc<NestedStreams>,
    pub(crate) instance: Arc<HostInstance>,
    pub(crate) caps: Capabilities,
    stream: StreamId,
    frame: Arc<Frame>,
    engine: Engine,
}

impl Vmm {
    /// Offers the guest what the host's SMMU has, and gives it the device as `stream`. Memory is seen by the
    /// guest at `address`, where the address space of `iommu` has it, too.
    pub(crate) fn new(
        iommu: &Iommu,
        device: &vfio::Device,
        (memory, address): (&Memory, u64),
        stream: StreamId,
    ) -> Result<Self> {
        let watched = Arc::new(Watched::new(iommu.kernel()));
        let features = HostFeatures::of_device(&*watched, device.id)?;
        let offer = Offer {
            ats: features.ats,
            ..Offer::new(ADDRESSES)
        };
        let caps = offer.capabilities(&features)?;
        let memory: Arc<dyn GuestMemory> = Arc::new(VmMemory::new(memory.of_guest(address)?));
        let streams = NestedStreams::new(memory.clone());
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
        let settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let seams = Seams {
            streams: streams.clone(),
            ..Seams::new(memory)
        };
        let frame = Arc::new(engine.add_frame(settings, seams));
        streams.connect(&frame);
        let registers = Arc::new(RegisterFrame::new(frame.clone())?);
        let encoder = ArmSmmuv3::new(features.ranges);
        let (kernel, flavour) = (watched.clone(), Arc::new(encoder));
        let instance = HostInstance::new(kernel, flavour, device.id, iommu.space(), &caps)?;
        let settings = IommufdSettings::new(streams.of_instance(&instance));
        let target = instance.target();
        let backend = IommufdBackend::new(watched.clone(), target, encoder, settings);
        let backend = Arc::new(backend);
        let placement = Placement::default();
        let binding = Binding {
            instance: frame.try_add_instance(backend.clone(), placement)?,
            placement,
        };
        let device = Device {
            id: device.id,
            attach: Arc::new(VfioDevice::new(device.file()?)),
        };
        streams.plug(&frame, stream, device, &instance, binding)?;
        Ok(Self {
            registers,
            watched,
            backend,
            streams,
            instance,
            caps,
            stream,
            frame,
            engine,
        })
    }

    /// What the device is attached to.
    pub(crate) fn attached(&self) -> Result<Attachment> {
        let state = self.streams.stream(self.stream);
        let state = state.context("the stream is not there")?;
        ensure!(!state.closed, "the stream has failed closed");
        Ok(state.attached)
    }

    /// Has the guest's memory be what the address space of `next` says. How long the device was without.
    pub(crate) fn replace_stage2(&self, device: &vfio::Device, next: &Iommu) -> Result<Duration> {
        let streams = &self.streams;
        let replaced = streams.replace_stage2(&self.instance, device.id, next.space())?;
        ensure!(replaced.left_closed.is_empty(), "{replaced:?}");
        Ok(replaced.gap)
    }

    /// A turn of the VMM's event loop: waits for the host to tell of the device, and tells the guest. Whether
    /// there was anything.
    pub(crate) fn turn(&self, patience: Duration) -> Result<bool> {
        let mut files = [PollFd::new(&*self.instance, PollFlags::IN)];
        let ready = poll(&mut files, Some(&Timespec::try_from(patience)?))?;
        while ready > 0 && self.streams.drain(&self.instance)? {}
        Ok(ready > 0)
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // It may be a check that failed: then there is somebody who has told.
        let _gone = self.streams.unplug(&self.frame, self.stream);
        self.engine.stop();
    }
}
