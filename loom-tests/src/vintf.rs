//! Two rings of a VINTF, and a backend with one access that may be going on.

use crate::access::{Access, Model};
use crate::rig::raw_tlbi;
use loom::sync::Arc as LoomArc;
use smmu_core::Gpa;
use smmu_core::command::Msi;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use std::sync::Arc;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings};
use vcmdq::seams::NoTarget;
use vcmdq::testing::HeapMemory;
use vcmdq::{Engine, Frame, FrameSettings, Interrupts, Line, Placement, Ring, Seams, Settings};
use vcmdq_sync::atomic::Ordering;

const BASE: u64 = 0x1000;
/// Two entries.
const LOG2SIZE: u64 = 1;
const RING_BYTES: u64 = 16 << LOG2SIZE;

/// See the [module](self). Shared by the threads of a model.
pub struct VintfRig {
    /// The engine; a model's worker calls `take_ready`.
    pub engine: Engine,
    cmdqv: CmdqvFrame,
    memory: Arc<HeapMemory>,
    access: LoomArc<Access>,
    pulses: Arc<Pulses>,
    _frame: Frame,
}

/// Counts interrupts. Not an atomic of the model: what it counts is looked at when all is over.
#[derive(Default)]
struct Pulses(std::sync::atomic::AtomicU32);

impl Interrupts for Pulses {
    fn pulse(&self, _line: Line) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn message(&self, _: u32, _: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

impl std::fmt::Debug for VintfRig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VintfRig").finish_non_exhaustive()
    }
}

impl VintfRig {
    /// Two enabled rings of two entries. Ring 1 holds a TLBI of page 3 that is not published;
    /// `access` says whether an access goes on.
    #[must_use]
    pub fn new(access: bool) -> LoomArc<Self> {
        let access = Access::new(None, access);
        let regions = [(Gpa(BASE), 2 * RING_BYTES)];
        let memory = Arc::new(HeapMemory::with_regions(&regions));
        let settings = Settings {
            max_rings: 2,
            ..Settings::default()
        };
        let engine = Engine::without_workers(settings).expect("settings");
        let pulses = Arc::new(Pulses::default());
        let seams = Seams {
            interrupts: pulses.clone(),
            ..Seams::new(memory.clone())
        };
        let frame = engine.add_frame(FrameSettings::default(), seams);
        frame.add_instance(Arc::new(Model(access.clone())), Placement::default());
        let settings = CmdqvSettings {
            log2_queues: 1,
            page: None,
        };
        let cmdqv = frame.add_cmdqv(settings).expect("room");
        cmdqv.write(offset::CONFIG, 4, 1);
        cmdqv.write(offset::VINTF, 4, 1);
        for queue in 0..2 {
            cmdqv.write(offset::CMDQ_ALLOC + 4 * queue, 4, 1 | queue << 1);
            let page0 = offset::VINTF_PAGES + queue * offset::VCMDQ_STRIDE;
            let page1 = page0 + offset::VINTF_PAGE_BYTES;
            let base = BASE + queue * RING_BYTES;
            cmdqv.write(page1 + offset::VCMDQ_BASE, 8, base | LOG2SIZE);
            cmdqv.write(page0 + offset::VCMDQ_CONFIG, 4, 1);
        }
        while engine.take_ready().is_some() {}
        let rig = Self {
            engine,
            cmdqv,
            memory,
            access,
            pulses,
            _frame: frame,
        };
        rig.write(1, 0, raw_tlbi(3));
        LoomArc::new(rig)
    }

    /// Interrupts of the VINTF so far.
    #[must_use]
    pub fn pulses(&self) -> u32 {
        self.pulses.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The guest writes VINTF_INT_MASK.
    pub fn mask(&self, masked: bool) {
        self.cmdqv.write(offset::VINTF_INT_MASK, 4, masked.into());
    }

    /// The two rings.
    #[must_use]
    pub fn rings(&self) -> &[Arc<Ring>] {
        self.cmdqv.rings()
    }

    /// The guest writes a slot of a ring, with plain stores.
    pub fn write(&self, ring: u64, slot: u64, raw: RawCommand) {
        let at = BASE + ring * RING_BYTES + slot * 16;
        let store = |at, value| store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed);
        store(at, raw.dw0).expect("backed");
        store(at + 8, raw.dw1).expect("backed");
    }

    /// The pages that have been removed, as the caller sees it.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.access.removed()
    }

    /// The access ends.
    pub fn end_access(&self) {
        self.access.end();
    }
}
