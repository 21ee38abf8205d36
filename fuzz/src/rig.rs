//! An engine without threads, and one frame with a few streams before a small software SMMU.

use dispatch::backend::{Software, SoftwareSettings};
use smmu_core::tlb::TlbSettings;
use smmu_core::{Capabilities, StreamId};
use std::sync::Arc;
use std::time::Duration;
use vcmdq::testing::HeapMemory;
use vcmdq::{Binding, Engine, Frame, FrameSettings, Placement, Seams, Settings};

/// Streams 0 to this less one are bound.
pub(crate) const STREAMS: u32 = 4;

pub(crate) struct Rig {
    pub(crate) memory: Arc<HeapMemory>,
    pub(crate) engine: Engine,
    pub(crate) frame: Frame,
    pub(crate) core: Arc<Software>,
}

impl Rig {
    /// With so many bytes of RAM from zero on, and room for so many rings.
    pub(crate) fn new(bytes: u64, caps: Capabilities, max_rings: usize) -> Self {
        let memory = Arc::new(HeapMemory::new(bytes));
        let settings = Settings {
            max_rings,
            ..Settings::default()
        };
        let engine = Engine::without_workers(settings).expect("valid settings");
        let settings = FrameSettings {
            caps,
            ..FrameSettings::default()
        };
        let frame = engine.add_frame(settings, Seams::new(memory.clone()));
        let core = Arc::new(Software::with_settings(SoftwareSettings {
            tlb: TlbSettings {
                log2_entries: 7,
                log2_asids: 4,
            },
            guards: 4,
            // What an input leads to must not depend on how long that takes.
            atc_timeout: Duration::from_secs(3600),
            ..SoftwareSettings::default()
        }));
        let placement = Placement::default();
        let instance = frame.add_instance(core.clone(), placement);
        let binding = Binding {
            instance,
            placement,
        };
        for stream in 0..STREAMS {
            let bound = frame.bind(StreamId(stream), binding);
            bound.expect("a free stream");
        }
        Self {
            memory,
            engine,
            frame,
            core,
        }
    }
}
