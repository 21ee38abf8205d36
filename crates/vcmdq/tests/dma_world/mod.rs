//! A guest with page tables, an engine without threads, and devices behind it.

#![expect(dead_code, reason = "each test file uses a part of it")]

use dispatch::Backend;
use dispatch::backend::{Software, SoftwareSettings};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::config::StreamTable;
use smmu_core::encode::encode;
use smmu_core::guest_memory::{GuestMemory, load_u64, store_u64};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::translate::{Failed, Setup};
use smmu_core::{Asid, Capabilities, Gpa, StreamId, SubstreamId, Vmid};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq::dma::{Device, DeviceSeams, FaultSink, MmioSink, Requester};
use vcmdq::events::{Answer, EventSink};
use vcmdq::seams::{NoInterrupts, NoTarget};
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams,
    Settings,
};

/// Bytes of RAM, from address zero on.
pub(crate) const RAM: u64 = 0x80_0000;
pub(crate) const RING: Gpa = Gpa(0x1_0000);
pub(crate) const EVENTS: Gpa = Gpa(0x1_8000);
const TABLES: u64 = 0x2_0000;
pub(crate) const LOG2SIZE: u8 = 6;

/// What a test writes and the SMMU reads: RAM, set word by word.
pub(crate) struct Guest<M> {
    pub(crate) memory: Arc<M>,
    next: AtomicU64,
}

/// Tables of one address space: 39 bits, 4 KiB granule, both halves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) asid: u16,
    pub(crate) lower: u64,
    pub(crate) upper: u64,
}

/// A page that everybody may read and write, not global.
pub(crate) const PAGE: u64 = 0xF47;
pub(crate) const READ_ONLY: u64 = 1 << 7;
pub(crate) const NOT_GLOBAL: u64 = 1 << 11;
/// T0SZ=T1SZ=25, TG1=4K, V, IPS=48 bits, AA64, R, A; the ASID is added.
pub(crate) const CD: u64 = 0x0000_6205_8099_0019;
pub(crate) const CD_ABORT: u64 = 1 << 46;
pub(crate) const CD_STALL: u64 = 1 << 44;
pub(crate) const CD_TBI: u64 = 3 << 38;

impl<M: GuestMemory> Guest<M> {
    pub(crate) fn new(memory: Arc<M>) -> Self {
        let next = AtomicU64::new(TABLES);
        Self { memory, next }
    }

    pub(crate) fn set(&self, at: u64, value: u64) {
        store_u64(&*self.memory, Gpa(at), value, Ordering::Release).unwrap();
    }

    pub(crate) fn get(&self, at: u64) -> u64 {
        load_u64(&*self.memory, Gpa(at), Ordering::Acquire).unwrap()
    }

    pub(crate) fn page(&self) -> u64 {
        self.next.fetch_add(0x1000, Ordering::Relaxed)
    }

    /// Pages are given out from the first one on again; what is in them is the caller's matter.
    pub(crate) fn forget_pages(&self) {
        self.next.store(TABLES, Ordering::Relaxed);
    }

    pub(crate) fn space(&self, asid: u16) -> Space {
        Space {
            asid,
            lower: self.page(),
            upper: self.page(),
        }
    }

    /// Where the descriptor of an address lies at a level, with the tables above it.
    pub(crate) fn descriptor(&self, space: &Space, va: u64, level: u32) -> u64 {
        let mut table = if va >> 55 & 1 != 0 {
            space.upper
        } else {
            space.lower
        };
        for above in 1..level {
            let at = table + 8 * (va >> (39 - 9 * above) & 0x1FF);
            if self.get(at) == 0 {
                self.set(at, self.page() | 3);
            }
            table = self.get(at) & 0xFFFF_FFFF_F000;
        }
        table + 8 * (va >> (39 - 9 * level) & 0x1FF)
    }

    /// Maps a page; `bits` is [`PAGE`] or something near it.
    pub(crate) fn map(&self, space: &Space, va: u64, pa: u64, bits: u64) {
        self.set(self.descriptor(space, va, 3), pa | bits);
    }

    /// Maps 2 MiB.
    pub(crate) fn map_block(&self, space: &Space, va: u64, pa: u64, bits: u64) {
        self.set(self.descriptor(space, va, 2), pa | bits & !2);
    }

    pub(crate) fn unmap(&self, space: &Space, va: u64, level: u32) {
        self.set(self.descriptor(space, va, level), 0);
    }

    /// A CD at `at`.
    pub(crate) fn cd(&self, at: u64, space: &Space, bits: u64) {
        self.set(at + 8, space.lower);
        self.set(at + 16, space.upper);
        self.set(at + 24, 0xF404_FF44);
        self.set(at, bits | u64::from(space.asid) << 48);
    }

    /// The first two words of an STE.
    pub(crate) fn ste(&self, stream: u32, words: [u64; 2]) {
        self.set(64 * u64::from(stream) + 8, words[1]);
        self.set(64 * u64::from(stream), words[0]);
    }

    /// A stream with one CD, valid in every respect. Returns where its CD lies.
    pub(crate) fn attach(&self, stream: u32, space: &Space) -> u64 {
        let cd = self.page();
        self.cd(cd, space, CD);
        self.ste(stream, [0xB | cd, 0]);
        cd
    }

    pub(crate) fn bypass(&self, stream: u32) {
        self.ste(stream, [0x9, 0]);
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        (at..at + len as u64)
            .map(|at| self.get(at & !7).to_le_bytes()[(at & 7) as usize])
            .collect()
    }
}

/// Remembers faults, and passes them on to a real event queue.
pub(crate) struct Faults {
    pub(crate) seen: Mutex<Vec<Failed>>,
    pub(crate) sink: EventSink,
}

impl FaultSink for Faults {
    fn fault(&self, failed: &Failed) -> Answer {
        self.seen.lock().unwrap().push(*failed);
        self.sink.fault(failed)
    }
}

impl Faults {
    pub(crate) fn take(&self) -> Vec<Failed> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A doorbell page above RAM that remembers what is written and answers reads with ones.
#[derive(Default)]
pub(crate) struct Doorbells {
    pub(crate) written: Mutex<Vec<Written>>,
}

/// Who wrote what where.
pub(crate) type Written = (StreamId, u32, Gpa, Vec<u8>);

pub(crate) const DOORBELL: u64 = 0xFE00_0000;

impl MmioSink for Doorbells {
    fn write(&self, stream: StreamId, id: u32, at: Gpa, data: &[u8]) -> Result<(), NoTarget> {
        if at.0 >> 12 != DOORBELL >> 12 {
            return Err(NoTarget);
        }
        let write = (stream, id, at, data.to_vec());
        self.written.lock().unwrap().push(write);
        Ok(())
    }

    fn read(&self, _: StreamId, _: u32, at: Gpa, data: &mut [u8]) -> Result<(), NoTarget> {
        if at.0 >> 12 != DOORBELL >> 12 {
            return Err(NoTarget);
        }
        data.fill(0xFF);
        Ok(())
    }
}

pub(crate) struct World<M = HeapMemory> {
    pub(crate) guest: Guest<M>,
    pub(crate) core: Arc<Software>,
    pub(crate) engine: Engine,
    pub(crate) frame: Frame,
    pub(crate) ring: Arc<Ring>,
    pub(crate) stepper: Stepper,
    pub(crate) prod: u32,
    pub(crate) faults: Arc<Faults>,
    pub(crate) doorbells: Arc<Doorbells>,
}

pub(crate) fn small() -> SoftwareSettings {
    SoftwareSettings {
        tlb: TlbSettings {
            log2_entries: 10,
            log2_asids: 8,
        },
        ..SoftwareSettings::default()
    }
}

/// Capabilities that allow stalls and "reads are zero".
pub(crate) fn lenient() -> Capabilities {
    let mut caps = Capabilities::default();
    caps.idr0.set_stall_model(0);
    caps.idr0.set_term_model(false);
    caps.idr5.set_stall_max(8);
    caps
}

pub(crate) fn setup(caps: Capabilities) -> Setup {
    Setup {
        streams: StreamTable {
            base: Gpa(0),
            log2size: 4,
            split: 6,
            two_level: false,
        },
        caps,
        e2h: false,
        record_bad_stream_id: true,
    }
}

pub(crate) fn requester(stream: u32) -> Requester {
    Requester {
        stream: StreamId(stream),
        substream: None,
        privileged: false,
        device_id: 0x40 + stream,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let engine = Engine::without_workers(Settings::default()).unwrap();
        Self::with(engine, lenient(), small())
    }

    /// Stream 1 has four pages, each second one of the data, and one that only reads.
    pub(crate) fn with_pages(va: u64, data: u64) -> (Self, Space) {
        let world = Self::new();
        let space = world.guest.space(1);
        for at in (0..4).map(|page| page * 0x1000) {
            world.guest.map(&space, va + at, data + 2 * at, PAGE);
        }
        let only = PAGE | READ_ONLY;
        world.guest.map(&space, va + 0x4000, data, only);
        world.guest.attach(1, &space);
        (world, space)
    }

    pub(crate) fn with(engine: Engine, caps: Capabilities, settings: SoftwareSettings) -> Self {
        Self::around(engine, caps, settings, Arc::new(HeapMemory::new(RAM)))
    }
}

impl<M: GuestMemory + 'static> World<M> {
    /// With streams 0 to 15, and the ring and the event queue enabled.
    pub(crate) fn around(
        engine: Engine,
        caps: Capabilities,
        settings: SoftwareSettings,
        memory: Arc<M>,
    ) -> Self {
        let guest = Guest::new(memory.clone());
        let frame_settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let frame = engine.add_frame(frame_settings, Seams::new(memory.clone()));
        let core = Arc::new(Software::with_settings(settings));
        let placement = Placement::default();
        let instance = frame.add_instance(core.clone(), placement);
        for stream in 0..16 {
            let binding = Binding {
                instance,
                placement,
            };
            frame.bind(StreamId(stream), binding).unwrap();
        }
        core.memory_changed(memory.clone());
        core.set_up(Some(setup(caps)));
        let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
        ring.configure(RingSettings {
            base: RING,
            log2size: LOG2SIZE,
        })
        .unwrap();
        ring.enable();
        let sink = EventSink::new(&caps, memory, Arc::new(NoInterrupts));
        sink.queue().configure(EVENTS, 6).unwrap();
        sink.enable();
        let seen = Mutex::default();
        Self {
            guest,
            core,
            engine,
            frame,
            ring,
            stepper: Stepper::default(),
            prod: 0,
            faults: Arc::new(Faults { seen, sink }),
            doorbells: Arc::default(),
        }
    }

    pub(crate) fn seams(&self) -> DeviceSeams {
        DeviceSeams {
            faults: self.faults.clone(),
            mmio: self.doorbells.clone(),
        }
    }

    pub(crate) fn device(&self, stream: u32) -> Device {
        Device::new(&self.core, requester(stream), self.seams()).unwrap()
    }

    /// Puts commands into the ring and rings the doorbell.
    pub(crate) fn publish(&mut self, commands: &[RawCommand]) {
        for raw in commands {
            let slot = u64::from(self.prod % (1 << LOG2SIZE));
            self.guest.set(RING.0 + slot * 16, raw.dw0);
            self.guest.set(RING.0 + slot * 16 + 8, raw.dw1);
            self.prod = (self.prod + 1) % (2 << LOG2SIZE);
        }
        self.ring.doorbell(self.prod);
    }

    /// The same, and has the ring served.
    pub(crate) fn send(&mut self, commands: &[RawCommand]) {
        self.publish(commands);
        self.serve();
    }

    /// Serves what the doorbell announced; `false` if it announced nothing.
    pub(crate) fn serve(&mut self) -> bool {
        let mut any = false;
        while self.engine.take_ready().is_some() {
            self.stepper.serve(&self.ring);
            any = true;
        }
        any
    }

    /// Whether everything that was published is done.
    pub(crate) fn done(&self) -> bool {
        self.ring.cons() == self.prod
    }
}

pub(crate) fn range(va: u64, pages: u64, leaf: bool) -> TlbiRange {
    TlbiRange {
        addr: va,
        bytes: pages << 12,
        granule: (pages > 1).then_some(Granule::K4),
        ttl: 0,
        leaf,
    }
}

pub(crate) fn tlbi(asid: u16, va: u64) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(asid),
        range: range(va, 1, true),
    }))
}

/// Of a page, and of the tables on the way to it.
pub(crate) fn tlbi_with_tables(asid: u16, va: u64) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(asid),
        range: range(va, 1, false),
    }))
}

pub(crate) fn tlbi_asid(asid: u16) -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhAsid {
        vmid: Vmid(0),
        asid: Asid(asid),
    }))
}

pub(crate) fn cfgi_ste(stream: u32) -> RawCommand {
    encode(&Command::Cfgi(Cfgi::Ste {
        stream: StreamId(stream),
        leaf: true,
    }))
}

pub(crate) fn cfgi_cd(stream: u32, substream: u32) -> RawCommand {
    encode(&Command::Cfgi(Cfgi::Cd {
        stream: StreamId(stream),
        substream: SubstreamId(substream),
        leaf: true,
    }))
}

/// Long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
