//! One ring, one backend that notes what it is given, and no threads but the model's.

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, Scope, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use smmu_core::command::{Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::range::TlbiRange;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, StreamId, Vmid};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams, Settings,
};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Not zero: a message to address zero is none.
const BASE: Gpa = Gpa(0x1000);

/// Which pages a backend has been asked to remove, as a bit set. Relaxed on purpose: what makes it
/// visible must be the engine's own publication.
#[derive(Debug)]
pub struct Flag(LoomArc<AtomicU64>);

impl Flag {
    /// The set as the caller sees it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Noting(LoomArc<AtomicU64>);

impl Backend for Noting {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::default()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        for request in batch.requests() {
            if let Scope::Addresses { range, .. } = request.scope {
                let old = self.0.load(Ordering::Relaxed);
                self.0
                    .store(old | 1 << (range.addr >> 12), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// See the [module](self). Shared by the threads of a model.
pub struct Rig {
    /// The engine; a model's worker calls `take_ready` and `sleep_as`.
    pub engine: Engine,
    /// The ring, enabled.
    pub ring: Arc<Ring>,
    memory: Arc<HeapMemory>,
    _frame: Frame,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

impl Rig {
    /// A ring of `2^log2size` entries.
    #[must_use]
    pub fn new(log2size: u8) -> (LoomArc<Self>, Flag) {
        Self::with(log2size, Settings::default())
    }

    /// The same with settings of the model's own.
    #[must_use]
    pub fn with(log2size: u8, settings: Settings) -> (LoomArc<Self>, Flag) {
        Self::set(log2size, settings, DoorbellMode::Trap)
    }

    /// The same with another doorbell.
    #[must_use]
    pub fn behind(log2size: u8, mode: DoorbellMode) -> (LoomArc<Self>, Flag) {
        Self::set(log2size, Settings::default(), mode)
    }

    fn set(log2size: u8, mut settings: Settings, mode: DoorbellMode) -> (LoomArc<Self>, Flag) {
        let removed = LoomArc::new(AtomicU64::new(0));
        let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 16 << log2size)]));
        settings.max_rings = 1;
        let engine = Engine::without_workers(settings).expect("settings");
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
        frame.add_instance(Arc::new(Noting(removed.clone())), Placement::default());
        let ring = frame.add_ring(mode).expect("room");
        ring.configure(RingSettings {
            base: BASE,
            log2size,
        })
        .expect("disabled");
        ring.enable();
        while engine.take_ready().is_some() {}
        (
            LoomArc::new(Self {
                engine,
                ring,
                memory,
                _frame: frame,
            }),
            Flag(removed),
        )
    }

    /// The guest writes a slot, with plain stores.
    pub fn write(&self, slot: u64, raw: RawCommand) {
        let store = |at, value| store_u64(&*self.memory, at, value, Ordering::Relaxed);
        store(Gpa(BASE.0 + slot * 16), raw.dw0).expect("backed");
        store(Gpa(BASE.0 + slot * 16 + 8), raw.dw1).expect("backed");
    }

    /// Word 0 of a slot.
    #[must_use]
    pub fn word0(&self, slot: u64) -> u64 {
        load_u64(&*self.memory, Gpa(BASE.0 + slot * 16), Ordering::Acquire).expect("backed")
    }
}

/// Stands still: nobody spins, as spins are to take no time at all.
struct Clock;

impl vcmdq::seams::Clock for Clock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// An engine without workers for so many rings, whose workers do not spin before they sleep.
#[must_use]
pub fn engine_without_spins(max_rings: usize) -> Engine {
    let settings = Settings {
        max_rings,
        spin: Duration::ZERO,
        yield_after: Duration::ZERO,
        ..Settings::default()
    };
    Engine::without_workers_on(settings, Arc::new(Clock)).expect("settings")
}

/// TLBI_NH_VA of one page, of no known granule.
#[must_use]
pub fn raw_tlbi(page: u64) -> RawCommand {
    let range = TlbiRange {
        addr: page << 12,
        bytes: 4096,
        granule: None,
        ttl: 0,
        leaf: true,
    };
    encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(1),
        range,
    }))
}

/// A SYNC without a signal.
#[must_use]
pub fn raw_sync() -> RawCommand {
    encode(&Command::Sync(Signal::None))
}

/// A SYNC whose word, zero, goes to a slot of the ring.
#[must_use]
pub fn raw_sync_to(slot: u64) -> RawCommand {
    encode(&Command::Sync(Signal::Irq {
        msi: Some(Msi {
            addr: Gpa(BASE.0 + slot * 16),
            data: 0,
        }),
    }))
}

/// What the first worker of an engine does until the ring's CONS is `cons`. If a command is lost, it sleeps
/// for ever: loom calls that a deadlock.
pub fn work_until(rig: LoomArc<Rig>, cons: u32) {
    // Left alone in a deadlock, in which loom knows of no thread that could drop it.
    let rig = ManuallyDrop::new(rig);
    let mut stepper = Stepper::default();
    while rig.ring.cons() != cons {
        if rig.engine.take_ready().is_some() {
            stepper.serve(&rig.ring);
        } else if rig.ring.has_open_way() {
            stepper.look(&rig.ring);
            loom::thread::yield_now();
        } else {
            let _slept = rig.engine.sleep_as(0);
        }
    }
    drop(ManuallyDrop::into_inner(rig));
}
