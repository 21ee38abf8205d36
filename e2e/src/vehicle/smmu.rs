//! The SMMU of one machine: engine, frame, registers, translation core.

use super::dropping::Dropping;
use super::messages::Messages;
use super::polled::Polled;
use super::ram::Ram;
use crate::nvme::{Behind, Dma, Fault};
use anyhow::{Context, Result};
use dispatch::backend::{Software, SoftwareSettings};
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use vcmdq::dma::{DeviceSeams, FaultSink};
use vcmdq::events::{Answer, EventSink};
use vcmdq::registers::RegisterFrame;
use vcmdq::seams::PassiveStreams;
use vcmdq::{Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads};

/// A transfer holds a guard for each of its pages.
const GUARDS: usize = 1024;

/// Everything that belongs to one frame. Ends with it.
#[derive(Debug)]
pub struct Smmu {
    // Before the engine: it passes on what the guest writes.
    page: Polled,
    engine: Engine,
    frame: Arc<Frame>,
    registers: Arc<RegisterFrame>,
    core: Arc<Software>,
    backend: Arc<Dropping>,
    messages: Messages,
}

/// The event queue of a frame.
struct Events(Arc<Frame>);

impl FaultSink for Events {
    fn fault(&self, failed: &smmu_core::translate::Failed) -> Answer {
        EventSink::fault(self.0.events(), failed)
    }
}

impl Smmu {
    /// An SMMU whose registers lie at `base` in `ram`, with one stream behind it. `drop` is how often
    /// an invalidation is lost.
    ///
    /// # Errors
    ///
    /// The engine or a thread cannot be started.
    pub fn new(ram: &Ram, base: u64, stream: StreamId, drop: Option<u64>) -> Result<Self> {
        let messages = Messages::default();
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
        let seams = Seams {
            memory: ram.memory().clone(),
            interrupts: Arc::new(messages.clone()),
            streams: Arc::new(PassiveStreams),
        };
        let frame = Arc::new(engine.add_frame(FrameSettings::default(), seams));
        let core = Arc::new(Software::with_settings(SoftwareSettings {
            guards: GUARDS,
            ..SoftwareSettings::default()
        }));
        let backend = Arc::new(Dropping::new(core.clone(), drop));
        let placement = Placement::default();
        let instance = frame.add_instance(backend.clone(), placement);
        frame.bind(
            stream,
            Binding {
                instance,
                placement,
            },
        )?;
        let registers = Arc::new(RegisterFrame::new(frame.clone())?);
        let memory = ram.memory().clone();
        let page = Polled::start(registers.clone(), memory, Gpa(base), messages.clone());
        Ok(Self {
            page: page.context("cannot poll the registers")?,
            engine,
            frame,
            registers,
            core,
            backend,
            messages,
        })
    }

    /// A device's way to memory, for one thread.
    ///
    /// # Errors
    ///
    /// There is no guard left.
    pub fn way(&self, stream: StreamId) -> Result<Box<dyn Dma>, Fault> {
        let seams = DeviceSeams {
            faults: Arc::new(Events(self.frame.clone())),
            mmio: Arc::new(self.messages.clone()),
        };
        Ok(Box::new(Behind::new(&self.core, stream, seams)?))
    }

    /// Where interrupts go.
    #[must_use]
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The polled page.
    #[must_use]
    pub fn page(&self) -> &Polled {
        &self.page
    }

    /// What loses invalidations, when it is told to.
    #[must_use]
    pub fn dropping(&self) -> &Dropping {
        &self.backend
    }

    /// What has been done so far, by name.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let mut all: Vec<_> = self.registers.ring().metrics().named();
        let engine = self.engine.metrics();
        all.extend([
            ("wake-ups", engine.wake_ups),
            ("sleeps", engine.sleeps),
            ("register writes", self.page.writes()),
        ]);
        let ignored = self.registers.metrics();
        all.extend([
            ("register accesses misshapen", ignored.misshapen),
            ("register writes to nowhere", ignored.nowhere),
            ("register writes guarded", ignored.guarded),
        ]);
        let events = self.frame.events().queue().metrics();
        all.extend([
            ("events", events.written),
            ("events without room", events.overflowed),
            ("events while disabled", events.disabled),
            ("events that were aborted", events.aborted),
            ("commands corrupted", self.page.corruption().done()),
            ("invalidations dropped", self.backend.dropped()),
        ]);
        all.extend(self.messages.counters());
        all.into_iter().map(named).collect()
    }
}

impl Drop for Smmu {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
