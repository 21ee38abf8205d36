//! The frame, its ring, its backend.

use super::counted::Counted;
use crate::host::Device;
use crate::nest::Nest;
use anyhow::{Context, Result, ensure};
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::metrics::RingMetrics;
use vcmdq::stepping::Stepper;
use vcmdq::testing::{GuestQueue, HeapMemory, PendingSync, QueueSettings};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, InstanceId, Placement, Ring, RingSettings,
    Seams, Settings, StdThreads,
};
use vcmdq_iommufd::encode::{MAX_ENTRIES, Selftest};
use vcmdq_iommufd::{HostStreams, IommuFd, IommufdBackend, IommufdSettings};

const BASE: Gpa = Gpa(0x10_0000);
const LOG2SIZE: u8 = 12;
const MEMORY: u64 = 4 << 20;

/// Who consumes the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// [`Rig::serve`], on the caller's thread.
    Stepped,
    /// A worker of the engine.
    Threads,
}

/// Which streams failed closed; `None` is all.
#[derive(Debug, Default)]
struct Closed(Mutex<Vec<Option<StreamId>>>);

impl HostStreams for Closed {
    fn reads_contexts(&self, _stream: StreamId) -> bool {
        true
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        if let Ok(mut closed) = self.0.lock() {
            closed.push(stream);
        }
    }
}

/// An engine, a frame with one ring, and a virtual IOMMU of the mock behind it.
pub(crate) struct Rig {
    pub(crate) nest: Nest,
    pub(crate) kernel: Arc<Counted>,
    pub(crate) queue: GuestQueue,
    pub(crate) ring: Arc<Ring>,
    pub(crate) backend: Arc<IommufdBackend>,
    frame: Frame,
    instance: InstanceId,
    engine: Engine,
    closed: Arc<Closed>,
    stepper: Stepper,
}

impl Rig {
    /// With devices of these numbers, as the mock knows them, bound to the frame.
    pub(crate) fn new(vsids: &[u32], work: Work) -> Result<Self> {
        Self::calling(vsids, work, MAX_ENTRIES)
    }

    /// The same with so many entries in a call at most.
    pub(crate) fn calling(vsids: &[u32], work: Work, entries: usize) -> Result<Self> {
        let nest = Nest::new(vsids)?;
        let own = nest.host.file.try_clone().context("another descriptor")?;
        let kernel = Arc::new(Counted::new(IommuFd::new_from_fd(own)));
        let closed = Arc::new(Closed::default());
        let backend = Arc::new(IommufdBackend::new(
            kernel.clone(),
            nest.viommu,
            Selftest::new(vsids.iter().copied()),
            IommufdSettings {
                entries_per_call: entries,
                ..IommufdSettings::new(closed.clone())
            },
        ));
        let memory = Arc::new(HeapMemory::new(MEMORY));
        let engine = match work {
            Work::Stepped => Engine::without_workers(Settings::default())?,
            Work::Threads => Engine::start(Settings::default(), Arc::new(StdThreads))?,
        };
        let settings = FrameSettings {
            caps: Capabilities::default().with_ats(),
            ..Default::default()
        };
        let frame = engine.add_frame(settings, Seams::new(memory.clone()));
        let instance = frame.add_instance(backend.clone(), Placement::default());
        let ring = frame.add_ring(DoorbellMode::Trap)?;
        ring.configure(RingSettings {
            base: BASE,
            log2size: LOG2SIZE,
        })?;
        ring.enable();
        let mut settings = QueueSettings::new(BASE, LOG2SIZE);
        // Under emulation, with the machine's processors busy elsewhere, everything takes long.
        settings.patience = Duration::from_secs(60);
        let queue = GuestQueue::new(settings, memory, ring.clone())?;
        let rig = Self {
            nest,
            kernel,
            queue,
            ring,
            backend,
            frame,
            instance,
            engine,
            closed,
            stepper: Stepper::default(),
        };
        vsids.iter().try_for_each(|&vsid| rig.bind(vsid))?;
        Ok(rig)
    }

    /// The frame knows a stream of this number, whether or not the mock does.
    pub(crate) fn bind(&self, vsid: u32) -> Result<()> {
        let binding = Binding {
            instance: self.instance,
            placement: Placement::default(),
        };
        Ok(self.frame.bind(StreamId(vsid), binding)?)
    }

    /// Publishes commands and a SYNC behind them.
    pub(crate) fn publish(&self, commands: &[RawCommand]) -> Result<PendingSync<'_>> {
        Ok(self.queue.insert_and_sync(commands)?)
    }

    /// Consumes what is published, as a worker does for a backend whose calls may block.
    pub(crate) fn serve(&mut self) {
        let idle = |ring: &Ring| ring.cons() == ring.prod();
        while !idle(&self.ring) && self.stepper.serve_together([&self.ring]) {}
    }

    /// Publishes, consumes, and demands that the SYNC has completed without an error.
    pub(crate) fn run(&mut self, commands: &[RawCommand]) -> Result<()> {
        self.queue.insert(commands)?;
        let at = self.publish(&[])?.index();
        self.serve();
        self.has_passed(at)?;
        self.no_error()
    }

    /// CONS is right behind the SYNC at `at`.
    pub(crate) fn has_passed(&self, at: QueueIndex) -> Result<()> {
        let geometry = Geometry::capped(LOG2SIZE, LOG2SIZE);
        let (cons, behind) = (self.ring.cons(), geometry.advance(at, 1).raw());
        ensure!(cons == behind, "CONS {cons:#x}, not {behind:#x}");
        Ok(())
    }

    /// The guest has been told of no error.
    pub(crate) fn no_error(&self) -> Result<()> {
        let (gerror, cons) = (self.ring.gerror(), self.ring.cons());
        ensure!(
            gerror == self.ring.gerrorn(),
            "GERROR {gerror:#x}, CONS {cons:#x}"
        );
        Ok(())
    }

    /// Which slots of the nth device are still there, a bit each.
    pub(crate) fn slots(&self, nth: usize) -> Result<u32> {
        let device: Device = self.nest.devices[nth];
        Ok(self.nest.host.device_slots(device)?)
    }

    /// Which streams failed closed so far.
    pub(crate) fn closed(&self) -> Vec<Option<StreamId>> {
        let closed = self.closed.0.lock();
        closed.map(|closed| closed.clone()).unwrap_or_default()
    }

    pub(crate) fn metrics(&self) -> RingMetrics {
        self.ring.metrics()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
