//! Host, engine, frame and guest.

use super::flavour::{Mock, mark};
use super::guest::Guest;
use super::port::Port;
use crate::host::Host;
use crate::rig::Counted;
use anyhow::{Context, Result, ensure};
use smmu_core::{Capabilities, StreamId};
use std::sync::Arc;
use vcmdq::registers::RegisterFrame;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, InstanceId, Placement, Seams, Settings, StdThreads,
};
use vcmdq_iommufd::encode::Selftest;
use vcmdq_iommufd::{
    Device, Flavour, HostInstance, IommuFd, Iommufd, IommufdBackend, IommufdSettings,
    NestedStreams, Offer, PlugError, StreamState,
};

const MEMORY: u64 = 4 << 20;

/// A frame with one instance on the mock.
pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    pub(crate) kernel: Arc<Counted>,
    pub(crate) streams: Arc<NestedStreams>,
    pub(crate) instance: Arc<HostInstance>,
    pub(crate) frame: Arc<Frame>,
    pub(crate) guest: Guest,
    /// What is stage 2.
    pub(crate) space: u32,
    binding: InstanceId,
    engine: Engine,
}

/// An iommufd, and what the engine calls it by.
pub(crate) fn host() -> Result<(Arc<Host>, Arc<Counted>)> {
    let host = Arc::new(Host::new().context("/dev/iommu")?);
    let own = host.file.try_clone().context("another descriptor")?;
    let kernel = Arc::new(Counted::new(IommuFd::new_from_fd(own)));
    Ok((host, kernel))
}

/// What a frame in front of the mock advertises, with so many accesses that can stall.
pub(crate) fn capabilities(kernel: &dyn Iommufd, device: u32, stalls: u16) -> Result<Capabilities> {
    let offer = Offer {
        ats: true,
        stalls,
        ..Offer::new(48)
    };
    Ok(offer.capabilities(&Mock.features(kernel, device)?)?)
}

impl World {
    /// Requests that name no stream go to devices of these numbers, which must be plugged in by then.
    pub(crate) fn new(vsids: &[u32], stalls: u16) -> Result<Self> {
        let (host, kernel) = host()?;
        let first = host.device()?;
        let caps = capabilities(&*kernel, first.id, stalls)?;
        let memory = Arc::new(HeapMemory::new(MEMORY));
        let streams = NestedStreams::new(memory.clone());
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
        let mut seams = Seams::new(memory.clone());
        seams.streams = streams.clone();
        let settings = FrameSettings {
            caps,
            ..Default::default()
        };
        let frame = Arc::new(engine.add_frame(settings, seams));
        streams.connect(&frame);
        let space = host.another_space()?;
        let own: Arc<dyn Iommufd> = kernel.clone();
        let instance = HostInstance::new(own, Arc::new(Mock), first.id, space, &caps)?;
        let backend = IommufdBackend::new(
            kernel.clone(),
            instance.target(),
            Selftest::new(vsids.iter().copied()),
            IommufdSettings::new(streams.of_instance(&instance)),
        );
        let binding = frame.add_instance(Arc::new(backend), Placement::default());
        let guest = Guest::new(memory, RegisterFrame::new(frame.clone())?)?;
        Ok(Self {
            host,
            kernel,
            streams,
            instance,
            frame,
            guest,
            space,
            binding,
            engine,
        })
    }

    /// The instance of the frame.
    pub(crate) fn binding(&self) -> Binding {
        Binding {
            instance: self.binding,
            placement: Placement::default(),
        }
    }

    /// Another device of the mock.
    pub(crate) fn port(&self) -> Result<Arc<Port>> {
        Ok(Arc::new(Port::new(&self.host, &self.kernel)?))
    }

    /// Gives a device to the guest.
    pub(crate) fn plug(&self, stream: u32, port: &Arc<Port>) -> Result<(), PlugError> {
        let device = Device {
            id: port.device.id,
            attach: port.clone(),
        };
        let (id, binding) = (StreamId(stream), self.binding());
        self.streams
            .plug(&self.frame, id, device, &self.instance, binding)
    }

    pub(crate) fn state(&self, stream: u32) -> Result<StreamState> {
        let state = self.streams.stream(StreamId(stream));
        state.with_context(|| format!("stream {stream} is not plugged in"))
    }

    /// The device is attached to a table made from a vSTE with this first word, and has never had none.
    pub(crate) fn is_on(&self, port: &Port, first: u64) -> Result<()> {
        let table = port.attached();
        let same = self.host.table_holds(table, mark(first));
        let same = same.with_context(|| format!("table {table} does not exist"))?;
        ensure!(same, "table {table} is not of a vSTE {first:#x}");
        // The kernel destroys nothing that is attached.
        let busy = self.host.destroy(table);
        ensure!(busy.is_err(), "nobody was attached to table {table}");
        ensure!(port.detached() == 0, "it was detached meanwhile");
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
