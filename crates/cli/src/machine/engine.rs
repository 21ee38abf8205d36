//! The engine behind a queue: one frame, one instance, its rings.

use super::{Figures, MachineSettings};
use crate::args::Doorbell;
use crate::error::ToolError;
use dispatch::Backend;
use smmu_core::{Gpa, GuestMemory};
use std::sync::Arc;
use vcmdq::metrics::RingMetrics;
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::QueueRegisters;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, HeapPage, Placement, Ring, RingSettings,
    Seams, Settings, StdThreads,
};

pub(crate) struct EngineSide {
    engine: Engine,
    rings: Vec<Arc<Ring>>,
    registers: Vec<Arc<dyn QueueRegisters>>,
    /// Kept as a VMM keeps it: the rings belong to it.
    _frame: Frame,
}

impl EngineSide {
    pub(crate) fn start(
        settings: &MachineSettings,
        bases: &[Gpa],
        memory: Arc<dyn GuestMemory>,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, ToolError> {
        let engine = Settings {
            spin: settings.spin,
            ..Settings::default()
        };
        let engine = Engine::start(engine, Arc::new(StdThreads))?;
        let frame = frame_with_instance(&engine, settings, memory, backend)?;
        let (mut rings, mut registers) = (Vec::new(), Vec::new());
        for base in bases {
            let (ring, side) = ring(&frame, settings, *base)?;
            rings.push(ring);
            registers.push(side);
        }
        Ok(Self {
            engine,
            rings,
            registers,
            _frame: frame,
        })
    }

    /// What the guest's driver sees.
    pub(crate) fn registers(&self) -> Vec<Arc<dyn QueueRegisters>> {
        self.registers.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        let (mut ring, engine) = (RingMetrics::default(), self.engine.metrics());
        self.rings.iter().for_each(|one| ring.add(&one.metrics()));
        Figures {
            commands: ring.commands,
            requests: ring.requests,
            calls: ring.calls,
            syncs: ring.syncs,
            windows: ring.windows,
            window_sizes: ring.window_sizes.to_vec(),
            doorbells: 0,
            wake_ups: engine.wake_ups,
            sleeps: engine.sleeps,
            spins: engine.idle_looks,
            errors: ring.illegal + ring.unreadable + ring.atc_timeouts,
        }
    }
}

/// A ring, enabled, and what the guest's driver sees of it.
fn ring(
    frame: &Frame,
    settings: &MachineSettings,
    base: Gpa,
) -> Result<(Arc<Ring>, Arc<dyn QueueRegisters>), ToolError> {
    let page = Arc::new(HeapPage::default());
    let mode = match settings.doorbell {
        Doorbell::Trap => DoorbellMode::Trap,
        Doorbell::Page => DoorbellMode::SharedPage(page.clone()),
    };
    let ring = frame.add_ring(mode)?;
    ring.configure(RingSettings {
        base,
        log2size: settings.log2size,
    })?;
    let registers: Arc<dyn QueueRegisters> = match settings.doorbell {
        Doorbell::Trap => {
            ring.enable();
            ring.clone()
        }
        Doorbell::Page => {
            let registers = PageRegisters(page);
            registers.enable();
            Arc::new(registers)
        }
    };
    Ok((ring, registers))
}

/// A frame whose streams are all bound to one instance, and a ring of it.
pub(crate) fn frame_with_ring(
    engine: &Engine,
    settings: &MachineSettings,
    mode: DoorbellMode,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
) -> Result<(Frame, Arc<Ring>), ToolError> {
    let frame = frame_with_instance(engine, settings, memory, backend)?;
    let ring = frame.add_ring(mode)?;
    Ok((frame, ring))
}

fn frame_with_instance(
    engine: &Engine,
    settings: &MachineSettings,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
) -> Result<Frame, ToolError> {
    let frame_settings = FrameSettings {
        caps: settings.caps,
        ..FrameSettings::default()
    };
    let frame = engine.add_frame(frame_settings, Seams::new(memory));
    let placement = Placement::default();
    let instance = frame.add_instance(backend, placement);
    for stream in &settings.streams {
        frame.bind(
            *stream,
            Binding {
                instance,
                placement,
            },
        )?;
    }
    Ok(frame)
}
