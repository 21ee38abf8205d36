//! Counters beside what the guest sees.

use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError, store_u64};
use smmu_core::spec::command::RawCommand;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync_to;
use vcmdq::{DoorbellMode, Engine, FrameSettings, Ring, RingSettings, Seams, Settings};

const BASE: Gpa = Gpa(0x1000);

/// Notes the ring's counter of SYNCs at each write of the engine's.
struct Watched {
    ram: HeapMemory,
    ring: OnceLock<Weak<Ring>>,
    seen: Mutex<Vec<u64>>,
}

impl Watched {
    fn note(&self) {
        let ring = self.ring.get().and_then(Weak::upgrade).unwrap();
        self.seen.lock().unwrap().push(ring.metrics().syncs);
    }
}

impl GuestMemory for Watched {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.ram.words(at, count)
    }

    fn words32(&self, at: Gpa, count: usize) -> Option<&[AtomicU32]> {
        self.ram.words32(at, count)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.note();
        self.ram.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.note();
        self.ram.mark_dirty(at, len);
    }
}

/// A ring of these commands, served; what was seen of its counter meanwhile.
fn seen(commands: &[RawCommand]) -> Vec<u64> {
    let memory = Arc::new(Watched {
        ram: HeapMemory::new(0x4000),
        ring: OnceLock::new(),
        seen: Mutex::default(),
    });
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
    let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
    memory.ring.set(Arc::downgrade(&ring)).unwrap();
    for (at, raw) in (BASE.0..).step_by(16).zip(commands) {
        store_u64(&memory.ram, Gpa(at), raw.dw0, Ordering::Relaxed).unwrap();
        store_u64(&memory.ram, Gpa(at + 8), raw.dw1, Ordering::Relaxed).unwrap();
    }
    let settings = RingSettings {
        base: BASE,
        log2size: 4,
    };
    ring.configure(settings).unwrap();
    ring.enable();
    ring.doorbell(commands.len() as u32);
    Stepper::default().serve(&ring);
    assert_eq!(ring.cons(), commands.len() as u32);
    let seen = std::mem::take(&mut *memory.seen.lock().unwrap());
    assert!(!seen.is_empty(), "no message was written");
    seen
}

/// Whoever waits for a message may look at the counters at once.
#[test]
fn a_sync_is_counted_before_its_message_is_written() {
    // Into the ring's own slots, as Linux does, and elsewhere.
    for at in [[BASE.0 + 4, BASE.0 + 20], [0x100, 0x104]] {
        let seen = seen(&at.map(|at| sync_to(Gpa(at), 0)));
        assert!(seen.iter().all(|syncs| *syncs == 2), "{at:x?}: {seen:?}");
    }
}
