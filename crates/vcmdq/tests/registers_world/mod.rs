//! A machine with a register frame, and a small guest driver for it: the order of its register
//! accesses is that of Linux's `arm-smmu-v3`.

#![expect(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod driver;
pub(crate) mod hostile;

use crate::dma_world::{Guest, RAM, requester, small};
use dispatch::Traffic;
use dispatch::backend::Software;
use smmu_core::command::{Cfgi, Msi};
use smmu_core::{Capabilities, StreamId};
use std::sync::{Arc, Mutex};
use vcmdq::dma::{Device, DeviceSeams, FaultSink};
use vcmdq::events::Answer;
use vcmdq::registers::RegisterFrame;
use vcmdq::seams::NoTarget;
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, InstanceId, Interrupts, Line, Placement, Seams,
    Settings, StdThreads, StreamHost,
};

/// Streams that are bound.
pub(crate) const STREAMS: u32 = 16;

/// What the VMM is told.
#[derive(Default)]
pub(crate) struct Vmm {
    pub(crate) pulses: Mutex<Vec<Line>>,
    pub(crate) messages: Mutex<Vec<Msi>>,
    pub(crate) traffic: Mutex<Vec<(StreamId, bool)>>,
    pub(crate) changes: Mutex<Vec<(StreamId, Cfgi)>>,
    /// Messages that leave RAM find nobody.
    pub(crate) deaf: bool,
    /// Nothing is written down.
    pub(crate) forgets: bool,
}

impl Vmm {
    pub(crate) fn take_pulses(&self) -> Vec<Line> {
        std::mem::take(&mut self.pulses.lock().unwrap())
    }

    pub(crate) fn take_traffic(&self) -> Vec<(StreamId, bool)> {
        std::mem::take(&mut self.traffic.lock().unwrap())
    }
}

impl Interrupts for Vmm {
    fn pulse(&self, line: Line) {
        if !self.forgets {
            self.pulses.lock().unwrap().push(line);
        }
    }

    fn message(&self, _: u32, msi: Msi) -> Result<(), NoTarget> {
        if !self.forgets {
            self.messages.lock().unwrap().push(msi);
        }
        if self.deaf { Err(NoTarget) } else { Ok(()) }
    }
}

impl StreamHost for Vmm {
    fn configuration_changed(&self, stream: StreamId, change: &Cfgi) {
        if !self.forgets {
            self.changes.lock().unwrap().push((stream, *change));
        }
    }

    fn traffic_changed(&self, stream: StreamId, traffic: &Traffic) {
        if !self.forgets {
            let told = (stream, traffic.is_enabled());
            self.traffic.lock().unwrap().push(told);
        }
    }
}

/// Faults go to the frame's own events.
struct FrameEvents(Arc<Frame>);

impl FaultSink for FrameEvents {
    fn fault(&self, failed: &smmu_core::translate::Failed) -> Answer {
        self.0.events().fault(failed)
    }
}

pub(crate) struct Machine {
    pub(crate) guest: Guest<HeapMemory>,
    pub(crate) core: Arc<Software>,
    pub(crate) engine: Engine,
    pub(crate) frame: Arc<Frame>,
    pub(crate) registers: Arc<RegisterFrame>,
    pub(crate) vmm: Arc<Vmm>,
    instance: InstanceId,
    /// Serves the rings if the engine has no workers.
    stepper: Option<Mutex<Stepper>>,
}

impl Machine {
    /// Rings are served when the driver waits.
    pub(crate) fn stepped(caps: Capabilities) -> Self {
        let engine = Engine::without_workers(Settings::default()).unwrap();
        Self::with(engine, caps, Some(Mutex::default()), Vmm::default())
    }

    /// A worker serves the rings.
    pub(crate) fn running(caps: Capabilities) -> Self {
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
        Self::with(engine, caps, None, Vmm::default())
    }

    pub(crate) fn with(
        engine: Engine,
        caps: Capabilities,
        stepper: Option<Mutex<Stepper>>,
        vmm: Vmm,
    ) -> Self {
        let memory = Arc::new(HeapMemory::new(RAM));
        let vmm = Arc::new(vmm);
        let seams = Seams {
            memory: memory.clone(),
            interrupts: vmm.clone(),
            streams: vmm.clone(),
        };
        let settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let frame = Arc::new(engine.add_frame(settings, seams));
        let core = Arc::new(Software::with_settings(small()));
        let placement = Placement::default();
        let instance = frame.add_instance(core.clone(), placement);
        for stream in 0..STREAMS {
            let binding = Binding {
                instance,
                placement,
            };
            frame.bind(StreamId(stream), binding).unwrap();
        }
        let registers = Arc::new(RegisterFrame::new(frame.clone()).unwrap());
        let machine = Self {
            guest: Guest::new(memory),
            core,
            instance,
            engine,
            frame,
            registers,
            vmm,
            stepper,
        };
        machine.pump();
        machine.vmm.take_traffic();
        machine
    }

    /// Gives the engine its turn.
    pub(crate) fn pump(&self) {
        let Some(stepper) = &self.stepper else {
            return std::thread::yield_now();
        };
        let rings = self.frame.rings();
        let mut stepper = stepper.lock().unwrap();
        while let Some(index) = self.engine.take_ready() {
            stepper.serve(&rings[index as usize]);
        }
    }

    /// One slice of the ring that is ready; false if none is.
    pub(crate) fn serve_once(&self) -> bool {
        let Some(index) = self.engine.take_ready() else {
            return false;
        };
        let mut stepper = self.stepper.as_ref().unwrap().lock().unwrap();
        stepper.serve(&self.frame.rings()[index as usize]);
        true
    }

    pub(crate) fn bind(&self, stream: u32) {
        let binding = Binding {
            instance: self.instance,
            placement: Placement::default(),
        };
        self.frame.bind(StreamId(stream), binding).unwrap();
    }

    pub(crate) fn device(&self, stream: u32) -> Device {
        let seams = DeviceSeams::new(Arc::new(FrameEvents(self.frame.clone())));
        Device::new(&self.core, requester(stream), seams).unwrap()
    }

    pub(crate) fn r32(&self, at: u64) -> u32 {
        self.registers.read(at, 4) as u32
    }

    pub(crate) fn w32(&self, at: u64, value: u32) {
        self.registers.write(at, 4, value.into());
    }

    pub(crate) fn w64(&self, at: u64, value: u64) {
        self.registers.write(at, 8, value);
    }

    pub(crate) fn r64(&self, at: u64) -> u64 {
        self.registers.read(at, 8)
    }
}
