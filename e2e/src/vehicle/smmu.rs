//! The SMMU of one machine: engine, frame, registers, translation core.

use super::cmdqv::{Placed, SharedPage};
use super::corrupt::Corruption;
use super::dropping::Dropping;
use super::heard::Heard;
use super::messages::Messages;
use super::polled::{Pace, Pages, Polled};
use super::ram::Ram;
use super::window;
use crate::nvme::{Behind, Dma, Fault};
use anyhow::{Context, Result};
use dispatch::backend::{Software, SoftwareSettings};
use smmu_core::{Capabilities, Gpa, GuestMemory, StreamId};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings};
use vcmdq::dma::{DeviceSeams, FaultSink};
use vcmdq::events::{Answer, EventSink};
use vcmdq::metrics::{Lateness, RingMetrics};
use vcmdq::registers::RegisterFrame;
use vcmdq::seams::PassiveStreams;
use vcmdq::{Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings, StdThreads};

/// A transfer holds a guard for each of its pages.
const GUARDS: usize = 1024;

/// How long a guest with VCMDQs may wait for other registers at first.
const LONG_REST: Duration = Duration::from_millis(1);
/// The same, where that hardly happens.
const LONGEST_REST: Duration = Duration::from_millis(20);
/// How long a thread that serves goes on looking.
const SERVING: Duration = Duration::from_millis(5);

/// Everything that belongs to one frame. Ends with it.
#[derive(Debug)]
pub struct Smmu {
    // Before the engine: it passes on what the guest writes.
    page: Polled,
    engine: Arc<Engine>,
    frame: Arc<Frame>,
    registers: Arc<RegisterFrame>,
    core: Arc<Software>,
    backend: Arc<Dropping>,
    heard: Arc<Heard>,
    messages: Messages,
    corruption: Arc<Corruption>,
    cmdqv: Option<Arc<CmdqvFrame>>,
    caps: Capabilities,
}

/// What an SMMU is like.
#[derive(Clone, Debug)]
pub struct SmmuSettings {
    /// Where its pages lie.
    pub bases: Bases,
    /// The shared peripheral interrupt of the CMDQV's errors.
    pub cmdqv_spi: u32,
    /// The one stream behind it.
    pub stream: StreamId,
    /// How often a batch of invalidations is lost.
    pub drop: Option<u64>,
    /// What it advertises.
    pub caps: Capabilities,
    /// The engine's workers.
    pub engine: Settings,
    /// How the registers are polled.
    pub polling: Polling,
}

/// How the registers are polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polling {
    /// By a thread beside the workers, which makes room for them and for the guest.
    #[default]
    Beside,
    /// The same, and where only VCMDQs are busy it stays away for long: each time that it looks, somebody
    /// else does not run.
    Seldom,
    /// By the thread that serves the rings, instead of workers; it keeps its processor to itself.
    Serving,
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
    /// An SMMU whose registers lie in `ram`.
    ///
    /// # Errors
    ///
    /// The engine or a thread cannot be started.
    pub fn new(ram: &Ram, settings: SmmuSettings) -> Result<Self> {
        let SmmuSettings { bases, caps, .. } = settings;
        let messages = Messages::default();
        let engine = Arc::new(match settings.polling {
            Polling::Serving => Engine::without_workers(settings.engine)?,
            Polling::Beside | Polling::Seldom => {
                Engine::start(settings.engine, Arc::new(StdThreads))?
            }
        });
        let memory: Arc<dyn GuestMemory> = ram.memory().clone();
        let seams = Seams {
            memory: memory.clone(),
            interrupts: Arc::new(messages.clone()),
            streams: Arc::new(PassiveStreams),
        };
        let advertised = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let frame = Arc::new(engine.add_frame(advertised, seams));
        let (core, backend) = add_core(&frame, settings.stream, settings.drop, &caps)?;
        let registers = Arc::new(RegisterFrame::new(frame.clone())?);
        let heard = Arc::new(Heard::default());
        // What a host sends for guests of its own; a recorder takes its place.
        if caps.idr0.s2p() {
            registers.ring().set_tap(Some(heard.clone()));
        }
        let corruption = Arc::new(Corruption::default());
        let mut pages = vec![Pages {
            frame: registers.clone(),
            base: Gpa(bases.smmu),
            registers: window::smmu(),
            corruption: Some(corruption.clone()),
        }];
        let mut cmdqv = None;
        if let Some((base, queues)) = bases.cmdqv {
            messages.wire_cmdqv(settings.cmdqv_spi);
            let (added, more) = add_cmdqv(&frame, &memory, Gpa(base), queues)?;
            pages.push(more);
            cmdqv = Some(added);
        }
        let pace = pace(settings.polling, cmdqv.is_some(), &engine, &frame);
        let page = Polled::start(pages, memory, messages.clone(), pace);
        Ok(Self {
            page: page.context("cannot poll the registers")?,
            engine,
            frame,
            registers,
            core,
            backend,
            heard,
            messages,
            corruption,
            cmdqv,
            caps,
        })
    }

    /// The frame, for a recorder.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// What it advertises.
    #[must_use]
    pub fn caps(&self) -> &Capabilities {
        &self.caps
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

    /// What the SMMU's own queue has done so far, and each VCMDQ.
    #[must_use]
    pub fn rings(&self) -> (RingMetrics, Vec<RingMetrics>) {
        let rings = self.cmdqv.iter().flat_map(|cmdqv| cmdqv.rings());
        let queues = rings.map(|ring| ring.metrics()).collect();
        (self.registers.ring().metrics(), queues)
    }

    /// How late the SYNCs of all queues were, if the engine measures it.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        let (own, queues) = self.rings();
        let mut all = own.lateness();
        for queue in &queues {
            all.add(&queue.lateness());
        }
        all
    }

    /// What loses invalidations, when it is told to.
    #[must_use]
    pub fn dropping(&self) -> &Dropping {
        &self.backend
    }

    /// The commands of its own queue, if it has two stages.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        &self.heard
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
        let of_cmdqv = queues.iter().enumerate().flat_map(|(queue, metrics)| {
            let named = metrics.named().into_iter();
            named.map(move |(name, count)| (format!("vcmdq{queue} {name}"), count))
        });
        all.into_iter().map(named).chain(of_cmdqv).collect()
    }
}

/// Adds a translation core for one stream, and what loses its invalidations.
fn add_core(
    frame: &Frame,
    stream: StreamId,
    drop: Option<u64>,
    caps: &Capabilities,
) -> Result<(Arc<Software>, Arc<Dropping>)> {
    let core = Arc::new(Software::with_settings(SoftwareSettings {
        guards: GUARDS,
        ..SoftwareSettings::default()
    }));
    let backend = Dropping::new(core.clone(), drop);
    // With one stage there is nothing to tell apart.
    let backend = Arc::new(match caps.idr0.s2p() {
        true => backend.and_see(),
        false => backend,
    });
    let placement = Placement::default();
    let instance = frame.add_instance(backend.clone(), placement);
    let binding = Binding {
        instance,
        placement,
    };
    frame.bind(stream, binding)?;
    Ok((core, backend))
}

/// Adds a CMDQV whose page 0 is a page of guest RAM.
fn add_cmdqv(
    frame: &Frame,
    memory: &Arc<dyn GuestMemory>,
    base: Gpa,
    queues: u64,
) -> Result<(Arc<CmdqvFrame>, Pages)> {
    let settings = CmdqvSettings {
        log2_queues: queues.ilog2() as u8,
        page: Some(Arc::new(SharedPage::new(memory.clone(), base))),
    };
    let added = Arc::new(frame.add_cmdqv(settings)?);
    let pages = Pages {
        frame: Arc::new(Placed::new(added.clone())),
        base,
        registers: window::cmdqv(queues),
        corruption: None,
    };
    Ok((added, pages))
}

fn pace(polling: Polling, cmdqv: bool, engine: &Arc<Engine>, frame: &Frame) -> Pace {
    let ordinary = Pace::default();
    match polling {
        Polling::Beside if !cmdqv => ordinary,
        Polling::Beside => Pace {
            most_rest: LONG_REST,
            ..ordinary
        },
        Polling::Seldom => Pace {
            most_rest: LONGEST_REST,
            ..ordinary
        },
        Polling::Serving => Pace {
            alert: SERVING,
            most_rest: LONG_REST,
            yields: false,
            served: Some((engine.clone(), frame.rings())),
        },
    }
}

impl Drop for Smmu {
    fn drop(&mut self) {
        self.engine.stop();
    }
}
