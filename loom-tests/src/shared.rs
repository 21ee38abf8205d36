//! Two rings of a frame that are served together, and a backend with one access that goes on.

use crate::access::{Access, Model};
use crate::rig::{raw_sync, raw_tlbi};
use loom::sync::Arc as LoomArc;
use smmu_core::Gpa;
use smmu_core::guest_memory::store_u64;
use std::sync::Arc;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams, Settings,
};
use vcmdq_sync::atomic::Ordering;

const BASE: u64 = 0x1000;
/// Two entries.
const LOG2SIZE: u8 = 1;
const RING_BYTES: u64 = 16 << LOG2SIZE;

/// See the [module](self). Shared by the threads of a model.
pub struct SharedRig {
    /// The engine; a model's worker calls `take_ready`.
    pub engine: Engine,
    /// Both enabled, with a TLBI and a SYNC that are not published: of page 1 in ring 0, of page 2 in
    /// ring 1.
    pub rings: Vec<Arc<Ring>>,
    access: LoomArc<Access>,
    _frame: Frame,
}

impl std::fmt::Debug for SharedRig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedRig").finish_non_exhaustive()
    }
}

impl SharedRig {
    /// An access that uses page 1 goes on.
    #[must_use]
    pub fn new() -> LoomArc<Self> {
        let access = Access::new(Some(1), true);
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(BASE), 2 * RING_BYTES)]));
        let settings = Settings {
            max_rings: 2,
            ..Settings::default()
        };
        let engine = Engine::without_workers(settings).expect("settings");
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
        frame.add_instance(Arc::new(Model(access.clone())), Placement::default());
        let ring = |index: u64| {
            let ring = frame.add_ring(DoorbellMode::Trap).expect("room");
            let base = Gpa(BASE + index * RING_BYTES);
            let commands = [raw_tlbi(index + 1), raw_sync()];
            let words = commands.into_iter().flat_map(|raw| [raw.dw0, raw.dw1]);
            for (at, word) in (base.0..).step_by(8).zip(words) {
                store_u64(&*memory, Gpa(at), word, Ordering::Relaxed).expect("backed");
            }
            let place = RingSettings {
                base,
                log2size: LOG2SIZE,
            };
            ring.configure(place).expect("disabled");
            ring.enable();
            ring
        };
        let rings = (0..2).map(ring).collect();
        while engine.take_ready().is_some() {}
        LoomArc::new(Self {
            engine,
            rings,
            access,
            _frame: frame,
        })
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
