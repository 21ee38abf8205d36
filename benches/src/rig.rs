//! An engine without threads around one ring in vm-memory.

use crate::backends::Nothing;
use crate::streams::at_slot;
use dispatch::Backend;
use dispatch::backend::Software;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vcmdq::stepping::Stepper;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams,
    Settings, VmMemory,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Where the ring lies.
pub const BASE: Gpa = Gpa(0x10_0000);
/// Its size: 64 KiB, as large as a guest of an ordinary size makes it. A longer stream comes in
/// laps.
pub const LOG2SIZE: u8 = 12;
/// The one stream that is bound.
pub const STREAM: StreamId = StreamId(0x10);

/// Guest memory as VMMs have it.
#[must_use]
pub fn guest_memory() -> Arc<VmMemory<GuestMemoryMmap>> {
    let map = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 16 << 20)]);
    Arc::new(VmMemory::new(map.expect("16 MiB can be mapped")))
}

/// What the frame advertises.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities::default().with_ats()
}

/// A frame with one instance, one bound stream and one ring, of any engine.
#[must_use]
pub fn frame_of(
    engine: &Engine,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    mode: DoorbellMode,
) -> (Frame, Arc<Ring>) {
    let frame = frame_without_rings(engine, memory, backend);
    let ring = frame.add_ring(mode).expect("room for one ring");
    let place = RingSettings {
        base: BASE,
        log2size: LOG2SIZE,
    };
    ring.configure(place).expect("the ring is not enabled");
    (frame, ring)
}

/// A frame with one instance and one bound stream.
#[must_use]
pub fn frame_without_rings(
    engine: &Engine,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
) -> Frame {
    let caps = capabilities();
    let settings = FrameSettings {
        caps,
        ..FrameSettings::default()
    };
    let frame = engine.add_frame(settings, Seams::new(memory));
    let placement = Placement::default();
    let instance = frame.add_instance(backend, placement);
    let binding = Binding {
        instance,
        placement,
    };
    frame.bind(STREAM, binding).expect("a stream of our own");
    frame
}

/// Writes commands into the slots from the first one on, as a driver does.
///
/// # Panics
///
/// If they do not fit.
pub fn write(memory: &dyn GuestMemory, commands: &[RawCommand]) {
    let words = memory.words(BASE, 2 << LOG2SIZE).expect("the ring is RAM");
    for (slot, raw) in commands.iter().enumerate() {
        let at = Gpa(BASE.0 + slot as u64 * RawCommand::BYTES);
        let raw = at_slot(*raw, at);
        words[slot * 2].store(raw.dw0.to_le(), Ordering::Relaxed);
        words[slot * 2 + 1].store(raw.dw1.to_le(), Ordering::Relaxed);
    }
}

/// See the [module](self).
pub struct Rig {
    memory: Arc<dyn GuestMemory>,
    engine: Engine,
    _frame: Frame,
    ring: Arc<Ring>,
    stepper: Stepper,
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl Rig {
    /// With `software` behind it.
    #[must_use]
    pub fn software(memory: Arc<dyn GuestMemory>, software: Arc<Software>) -> Self {
        Self::new(memory, software)
    }

    /// With nothing behind it that would be slower or faster than nothing, but the same requests
    /// as with `software`.
    #[must_use]
    pub fn nothing(memory: Arc<dyn GuestMemory>, software: &Software) -> Self {
        Self::new(memory, Arc::new(Nothing::instead_of(software)))
    }

    /// With any backend behind it.
    #[must_use]
    pub fn new(memory: Arc<dyn GuestMemory>, backend: Arc<dyn Backend>) -> Self {
        let engine = Engine::without_workers(Settings::default()).expect("legal settings");
        let (frame, ring) = frame_of(&engine, memory.clone(), backend, DoorbellMode::Trap);
        ring.enable();
        let mut rig = Self {
            memory,
            engine,
            _frame: frame,
            ring,
            stepper: Stepper::default(),
        };
        rig.serve();
        rig
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The ring, for who keeps it.
    #[must_use]
    pub fn shared_ring(&self) -> Arc<Ring> {
        self.ring.clone()
    }

    /// Puts commands into the ring, from its first slot on, without publishing them.
    pub fn fill(&mut self, commands: &[RawCommand]) {
        self.ring.disable();
        self.ring.set_pointers(0, 0).expect("the ring is disabled");
        self.ring.enable();
        self.serve();
        write(&*self.memory, commands);
    }

    /// Rings the doorbell and serves the ring as a worker does, until `count` commands are
    /// consumed. Returns the time from the doorbell to the last CONS.
    ///
    /// # Panics
    ///
    /// If the ring stops before.
    pub fn consume(&mut self, count: usize) -> Duration {
        let geometry = Geometry::capped(LOG2SIZE, MAX_LOG2SIZE);
        let prod = geometry.advance(geometry.pointer(0), count as u32).raw();
        let start = Instant::now();
        self.ring.doorbell(prod);
        self.serve();
        let took = start.elapsed();
        assert_eq!(self.ring.cons(), prod, "the ring has stopped");
        took
    }

    fn serve(&mut self) {
        while self.engine.take_ready().is_some() {
            self.stepper.serve(&self.ring);
        }
    }
}
