//! A VMM that opens and closes ways around the exit, and the guest that uses them.

#![expect(dead_code, reason = "each test file uses a part of it")]

use crate::common::{BASE, backend};
use smmu_core::Gpa;
use smmu_core::guest_memory::store_u64;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::sync;
use vcmdq::{
    CoalescedZone, DoorbellMode, Engine, Frame, FrameSettings, HeapPage, Passage, Placement, Ring,
    RingPage, RingSettings, Seams, Settings, StdThreads,
};

/// A clock that goes on when the test says so.
#[derive(Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn advance_us(&self, us: u64) {
        self.0.fetch_add(us, Ordering::Relaxed);
    }
}

impl vcmdq::seams::Clock for Clock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

fn refused() -> io::Error {
    io::Error::other("the test says so")
}

/// The hypervisor's queue of writes; `vmm` is the VMM's lock for who empties it.
#[derive(Default)]
pub(crate) struct Zone {
    queue: Mutex<(bool, Vec<u32>)>,
    vmm: Mutex<()>,
    /// Not an owner: the ring owns the zone.
    ring: OnceLock<Weak<Ring>>,
    refuses: AtomicBool,
}

impl Zone {
    pub(crate) fn serves(&self, ring: &Arc<Ring>) {
        assert!(self.ring.set(Arc::downgrade(ring)).is_ok());
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.get().and_then(Weak::upgrade).unwrap()
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().unwrap().1.is_empty()
    }

    /// The guest writes PROD.
    pub(crate) fn write_prod(&self, prod: u32) {
        let mut queue = self.queue.lock().unwrap();
        if queue.0 {
            return queue.1.push(prod);
        }
        drop(queue);
        self.ring().doorbell(prod);
    }

    fn set(&self, open: bool) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(refused());
        }
        self.queue.lock().unwrap().0 = open;
        Ok(())
    }
}

impl CoalescedZone for Zone {
    fn open(&self) -> io::Result<()> {
        self.set(true)
    }

    fn close(&self) -> io::Result<()> {
        self.set(false)
    }

    fn drain(&self) {
        let _vmm = self.vmm.lock().unwrap();
        let written = std::mem::take(&mut self.queue.lock().unwrap().1);
        for prod in written {
            self.ring().coalesced(prod);
        }
    }
}

/// A page that the VMM maps into the guest and takes away.
#[derive(Default)]
pub(crate) struct Mapping {
    pub(crate) page: Arc<HeapPage>,
    mapped: Mutex<bool>,
}

impl Mapping {
    pub(crate) fn mode(self: &Arc<Self>) -> DoorbellMode {
        DoorbellMode::Adaptive {
            page: self.page.clone(),
            passage: self.clone(),
        }
    }

    /// The guest writes PROD.
    pub(crate) fn write_prod(&self, ring: &Ring, prod: u32) {
        let mapped = self.mapped.lock().unwrap();
        if *mapped {
            return self.page.words()[1].store(prod.to_le(), Ordering::Release);
        }
        drop(mapped);
        ring.doorbell(prod);
    }
}

impl Passage for Mapping {
    fn open(&self) -> io::Result<()> {
        *self.mapped.lock().unwrap() = true;
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        *self.mapped.lock().unwrap() = false;
        Ok(())
    }
}

/// An engine, without workers if it is not given, and a frame whose memory holds 16 SYNCs.
pub(crate) fn engine_of_syncs(
    settings: Settings,
    engine: Option<Engine>,
) -> (Arc<HeapMemory>, Engine, Frame) {
    let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
    for slot in 0..16 {
        let at = Gpa(BASE.0 + slot * 16);
        store_u64(&*memory, at, sync().dw0, Ordering::Relaxed).unwrap();
    }
    let engine = engine.unwrap_or_else(|| Engine::without_workers(settings).unwrap());
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
    frame.add_instance(backend(), Placement::default());
    (memory, engine, frame)
}

/// The time on the clock between two of a busy guest's commands, so that it is busy on any machine.
const BUSY_US: u64 = 300;
/// And between two looks at an idle one.
const IDLE_US: u64 = 100;
/// And at least between two flips.
const LEAST_US: u64 = 50_000;

/// Waits for what other threads do; fails when that takes for ever.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} is lost");
        std::thread::yield_now();
    }
}

/// A clock that goes on by itself, too: a microsecond for each look, so that workers end their spinning.
#[derive(Default)]
struct Ticking(Clock);

impl vcmdq::seams::Clock for Ticking {
    fn now(&self) -> Duration {
        self.0.advance_us(1);
        vcmdq::seams::Clock::now(&self.0)
    }
}

/// A guest that is busy and then idle, in turn, until its way has been opened and closed a few times.
pub(crate) fn busy_and_idle(
    mode: DoorbellMode,
    added: impl Fn(&Arc<Ring>),
    write_prod: impl Fn(&Ring, u32),
) {
    let clock = Arc::new(Ticking::default());
    let threads = Arc::new(StdThreads);
    let engine = Engine::start_with_clock(Settings::default(), threads, clock.clone()).unwrap();
    let (_memory, engine, frame) = engine_of_syncs(Settings::default(), Some(engine));
    let ring = frame.add_ring(mode).unwrap();
    added(&ring);
    let (base, log2size) = (BASE, 4);
    ring.configure(RingSettings { base, log2size }).unwrap();
    ring.enable();
    let mut prod = 0u32;
    let mut send = || {
        prod = (prod + 1) % 32;
        write_prod(&ring, prod);
        wait_for("a PROD", || ring.cons() == prod);
    };
    for _ in 0..3 {
        // Behind this it may be flipped again.
        clock.0.advance_us(LEAST_US);
        wait_for("the opening of a busy guest's way", || {
            clock.0.advance_us(BUSY_US);
            send();
            ring.has_open_way()
        });
        (0..100).for_each(|_| send());
        wait_for("the closing of an idle guest's way", || {
            clock.0.advance_us(IDLE_US);
            !ring.has_open_way()
        });
        send();
    }
    // It is counted when it is over, which is behind its effect.
    wait_for("the count of a flip", || engine.metrics().flips >= 6);
    let metrics = engine.metrics();
    assert_eq!(metrics.failed_flips, 0);
    assert!(metrics.longest_flip <= metrics.flip_time);
    engine.stop();
}
