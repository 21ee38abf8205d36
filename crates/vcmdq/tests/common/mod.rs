//! An engine without threads around one ring, and everything that it tells the outside.

#![expect(dead_code, reason = "each test file uses a part of it")]

use dispatch::Cause;
use dispatch::backend::Software;
use dispatch::backend::faulty::Faulty;
use dispatch::backend::recorder::Recorder;
use smmu_core::command::{Cfgi, Msi, ResumeAction};
use smmu_core::guest_memory::{GuestMemory, load_u64, store_u64};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::{Entry, PageClass, Space, TlbSettings};
use smmu_core::{Asid, Capabilities, Gpa, Stag, StreamId, Vmid};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use vcmdq::seams::NoTarget;
use vcmdq::stepping::Stepper;
use vcmdq::testing::{HeapMemory, commands};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, InstanceId, Interrupts, Line, Placement,
    Ring, RingSettings, Seams, Settings, StreamHost,
};

pub(crate) const BASE: Gpa = Gpa(0x1_0000);
pub(crate) const STREAM: StreamId = StreamId(0x10);
pub(crate) type Backend = Recorder<Faulty<Software>>;

/// What the outside was told, in order, with CONS as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Pulse(Line),
    Message(Msi),
    Configuration(StreamId, Cfgi),
    Resume(StreamId, Stag, ResumeAction),
    TerminateStalls(StreamId),
    PageResponse(StreamId, u16),
    FailedClosed(Option<StreamId>, Cause),
}

#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) told: Mutex<Vec<Told>>,
    pub(crate) refuse_messages: bool,
}

impl Outside {
    fn push(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    pub(crate) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Interrupts for Outside {
    fn pulse(&self, line: Line) {
        self.push(Told::Pulse(line));
    }

    fn message(&self, _device_id: u32, msi: Msi) -> Result<(), NoTarget> {
        self.push(Told::Message(msi));
        if self.refuse_messages {
            Err(NoTarget)
        } else {
            Ok(())
        }
    }
}

impl StreamHost for Outside {
    fn configuration_changed(&self, stream: StreamId, change: &Cfgi) {
        self.push(Told::Configuration(stream, *change));
    }

    fn resume(&self, stream: StreamId, stag: Stag, action: ResumeAction) {
        self.push(Told::Resume(stream, stag, action));
    }

    fn terminate_stalls(&self, stream: StreamId) {
        self.push(Told::TerminateStalls(stream));
    }

    fn page_response(
        &self,
        stream: StreamId,
        _substream: Option<smmu_core::SubstreamId>,
        group: u16,
        _response: smmu_core::command::PriResponse,
    ) {
        self.push(Told::PageResponse(stream, group));
    }

    fn failed_closed(&self, _instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        self.push(Told::FailedClosed(stream, cause));
    }
}

pub(crate) struct Rig {
    pub(crate) memory: Arc<HeapMemory>,
    pub(crate) engine: Engine,
    pub(crate) frame: Frame,
    pub(crate) instance: InstanceId,
    pub(crate) backend: Arc<Backend>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) stepper: Stepper,
    pub(crate) log2size: u8,
    pub(crate) prod: u32,
}

pub(crate) fn all_features() -> Capabilities {
    let mut caps = Capabilities::default().with_ats();
    caps.idr0.set_pri(true);
    caps.idr0.set_stall_model(0);
    caps
}

pub(crate) fn backend() -> Arc<Backend> {
    let software = Software::new(TlbSettings {
        log2_entries: 10,
        log2_asids: 8,
    });
    Arc::new(Recorder::new(Faulty::new(software)))
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(all_features(), 6, DoorbellMode::Trap, false)
    }

    pub(crate) fn with(caps: Capabilities, log2size: u8, mode: DoorbellMode, refuse: bool) -> Self {
        Self::set(Settings::default(), caps, log2size, mode, refuse)
    }

    pub(crate) fn set(
        settings: Settings,
        caps: Capabilities,
        log2size: u8,
        mode: DoorbellMode,
        refuse: bool,
    ) -> Self {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
        let outside = Arc::new(Outside {
            refuse_messages: refuse,
            ..Outside::default()
        });
        let engine = Engine::without_workers(settings).unwrap();
        let seams = Seams {
            memory: memory.clone(),
            interrupts: outside.clone(),
            streams: outside.clone(),
        };
        let frame = engine.add_frame(
            FrameSettings {
                caps,
                ..FrameSettings::default()
            },
            seams,
        );
        let backend = backend();
        let instance = frame.add_instance(backend.clone(), Placement::default());
        frame
            .bind(
                STREAM,
                Binding {
                    instance,
                    placement: Placement::default(),
                },
            )
            .unwrap();
        let ring = frame.add_ring(mode).unwrap();
        ring.configure(RingSettings {
            base: BASE,
            log2size,
        })
        .unwrap();
        ring.enable();
        let stepper = Stepper::default();
        Self {
            memory,
            engine,
            frame,
            instance,
            backend,
            outside,
            ring,
            stepper,
            log2size,
            prod: 0,
        }
    }

    pub(crate) fn slot(&self, index: u32) -> Gpa {
        Gpa(BASE.0 + u64::from(index % (1 << self.log2size)) * 16)
    }

    pub(crate) fn write(&self, index: u32, raw: RawCommand) {
        let at = self.slot(index);
        store_u64(&*self.memory, at, raw.dw0, Ordering::Relaxed).unwrap();
        store_u64(&*self.memory, Gpa(at.0 + 8), raw.dw1, Ordering::Relaxed).unwrap();
    }

    pub(crate) fn read(&self, index: u32) -> RawCommand {
        let at = self.slot(index);
        let load = |at| load_u64(&*self.memory, at, Ordering::Relaxed).unwrap();
        RawCommand {
            dw0: load(at),
            dw1: load(Gpa(at.0 + 8)),
        }
    }

    /// Puts commands behind PROD without publishing them.
    pub(crate) fn put(&mut self, commands: &[RawCommand]) {
        for raw in commands {
            self.write(self.prod, *raw);
            self.prod = (self.prod + 1) % (2 << self.log2size);
        }
    }

    /// Puts, publishes, and has the ring served.
    pub(crate) fn send(&mut self, commands: &[RawCommand]) {
        self.put(commands);
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        self.ring.doorbell(self.prod);
        self.serve();
    }

    /// Serves what the doorbell announced; `false` if it announced nothing.
    pub(crate) fn serve(&mut self) -> bool {
        let mut any = false;
        while let Some(index) = self.engine.take_ready() {
            assert_eq!(index, 0);
            self.stepper.serve(&self.ring);
            any = true;
        }
        any
    }

    pub(crate) fn cons(&self) -> u32 {
        self.ring.cons() & 0xF_FFFF
    }

    pub(crate) fn error(&self) -> u32 {
        self.ring.cons() >> 24
    }

    pub(crate) fn stopped(&self) -> bool {
        (self.ring.gerror() ^ self.ring.gerrorn()) & 1 != 0
    }

    pub(crate) fn acknowledge(&mut self) {
        self.ring.acknowledge(self.ring.gerror());
        self.serve();
    }

    pub(crate) fn software(&self) -> &Software {
        self.backend.inner().inner()
    }

    /// Puts a 4 KiB translation of ASID 1 into the cache.
    pub(crate) fn cache(&self, page: u64) {
        assert!(fill(self.software(), page));
    }

    pub(crate) fn cached(&self, page: u64) -> bool {
        has(self.software(), STREAM, page)
    }
}

/// Puts a 4 KiB translation of ASID 1 into a cache; `false` if a removal came in between.
pub(crate) fn fill(software: &Software, page: u64) -> bool {
    let entry = Entry {
        vmid: Vmid(0),
        space: Space::Asid(Asid(1)),
        va: page << 12,
        class: PageClass::Page4K,
        payload: [page, 0],
    };
    software.fill(&entry, &software.ticket(Vmid(0), Asid(1)))
}

/// Whether it is there.
pub(crate) fn has(software: &Software, stream: StreamId, page: u64) -> bool {
    let hit = software.lookup(stream, Vmid(0), Asid(1), page << 12);
    hit.is_some()
}

/// The page of ASID 1.
pub(crate) fn tlbi(page: u64) -> RawCommand {
    commands::tlbi(Asid(1), page)
}

pub(crate) fn illegal() -> RawCommand {
    RawCommand { dw0: 0xFF, dw1: 0 }
}

pub(crate) fn word(memory: &dyn GuestMemory, at: Gpa) -> u32 {
    let both = load_u64(memory, Gpa(at.0 & !7), Ordering::Acquire).unwrap();
    (both >> (8 * (at.0 & 4))) as u32
}
