//! The SMMU of one machine: engine, frame, registers, translation core.

use super::corrupt::Corruption;
use super::dropping::Dropping;
use super::messages::Messages;
use super::polled::{Pages, Polled};
use super::ram::Ram;
use super::window;
use crate::nvme::{Behind, Dma, Fault};
use anyhow::{Context, Result};
use dispatch::backend::{Software, SoftwareSettings};
use smmu_core::{Gpa, StreamId};
use std::sync::Arc;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings};
use vcmdq::dma::{DeviceSeams, FaultSink};
use vcmdq::events::{Answer, EventSink};
use vcmdq::metrics::RingMetrics;
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
    corruption: Arc<Corruption>,
    cmdqv: Option<Arc<CmdqvFrame>>,
}

/// Where the pages lie in guest RAM.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// Pages 0 and 1 of the SMMU.
    pub smmu: u64,
    /// The CMDQV, if there is one, and how many queues it has (a power of two).
    pub cmdqv: Option<(u64, u64)>,
}

/// The event queue of a frame.
struct Events(Arc<Frame>);

impl FaultSink for Events {
    fn fault(&self, failed: &smmu_core::translate::Failed) -> Answer {
        EventSink::fault(self.0.events(), failed)
    }
}

impl Smmu {
    /// An SMMU whose registers lie at `bases` in `ram`, with one stream behind it. `drop` is how often
    /// an invalidation is lost.
    ///
    /// # Errors
    ///
    /// The engine or a thread cannot be started.
    pub fn new(ram: &Ram, bases: Bases, stream: StreamId, drop: Option<u64>) -> Result<Self> {
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
        let corruption = Arc::new(Corruption::default());
        let mut pages = vec![Pages {
            frame: registers.clone(),
            base: Gpa(bases.smmu),
            registers: window::smmu(),
            corruption: Some(corruption.clone()),
        }];
        let mut cmdqv = None;
        if let Some((base, queues)) = bases.cmdqv {
            let settings = CmdqvSettings {
                log2_queues: queues.ilog2() as u8,
                page: None,
            };
            let added = Arc::new(frame.add_cmdqv(settings)?);
            pages.push(Pages {
                frame: added.clone(),
                base: Gpa(base),
                registers: window::cmdqv(queues),
                corruption: None,
            });
            cmdqv = Some(added);
        }
        let page = Polled::start(pages, ram.memory().clone(), messages.clone());
        Ok(Self {
            page: page.context("cannot poll the registers")?,
            engine,
            frame,
            registers,
            core,
            backend,
            messages,
            corruption,
            cmdqv,
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

    /// What makes a command illegal, when it is told to.
    #[must_use]
    pub fn corruption(&self) -> &Corruption {
        &self.corruption
    }

    /// What the SMMU's own queue and those of the CMDQV have done so far.
    #[must_use]
    pub fn rings(&self) -> (RingMetrics, RingMetrics) {
        let mut queues = RingMetrics::default();
        for ring in self.cmdqv.iter().flat_map(|cmdqv| cmdqv.rings()) {
            queues.add(&ring.metrics());
        }
        (self.registers.ring().metrics(), queues)
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
        let (own, queues) = self.rings();
        let mut all: Vec<_> = own.named();
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
            ("commands corrupted", self.corruption.done()),
            ("invalidations dropped", self.backend.dropped()),
        ]);
        all.extend(self.messages.counters());
        let of_cmdqv = queues.named().into_iter();
        let of_cmdqv = of_cmdqv.map(|(name, count)| (format!("vcmdq {name}"), count));
        all.into_iter().map(named).chain(of_cmdqv).collect()
    }
}

impl Drop for Smmu {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
