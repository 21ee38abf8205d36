//! The engine behind a queue: one frame, one instance, one ring with a trapped doorbell.

use super::{Figures, MachineSettings};
use crate::error::ToolError;
use dispatch::Backend;
use smmu_core::{Gpa, GuestMemory};
use std::sync::Arc;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams,
    Settings, StdThreads,
};

pub(crate) struct EngineSide {
    engine: Engine,
    ring: Arc<Ring>,
    /// Kept as a VMM keeps it: the ring belongs to it.
    _frame: Frame,
}

impl EngineSide {
    pub(crate) fn start(
        settings: &MachineSettings,
        base: Gpa,
        memory: Arc<dyn GuestMemory>,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, ToolError> {
        let engine = Settings {
            spin: settings.spin,
            ..Settings::default()
        };
        let engine = Engine::start(engine, Arc::new(StdThreads))?;
        let (frame, ring) = frame_with_ring(&engine, settings, memory, backend)?;
        ring.configure(RingSettings {
            base,
            log2size: settings.log2size,
        })?;
        ring.enable();
        Ok(Self {
            engine,
            ring,
            _frame: frame,
        })
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.ring.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        let (ring, engine) = (self.ring.metrics(), self.engine.metrics());
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

/// A frame whose streams are all bound to one instance, and a ring of it.
pub(crate) fn frame_with_ring(
    engine: &Engine,
    settings: &MachineSettings,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
) -> Result<(Frame, Arc<Ring>), ToolError> {
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
    let ring = frame.add_ring(DoorbellMode::Trap)?;
    Ok((frame, ring))
}
