//! A batch to a host through iommufd, beside the bare calls: what the engine adds, what a call for each
//! command would cost, and how many calls a SYNC costs when several rings wait.
//!
//! The kernel is one in memory, whose calls last as long as is injected: 2 µs each, 1 µs for each block of 63
//! commands, 20 ns for each command. So the ratios depend on these; `vcmdq mock` measures a real kernel.

use dispatch::{Backend, Batch, Invalidation, Scope, Stage};
use smmu_core::guest_memory::GuestMemory;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Gpa, Vmid};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vcmdq::{DoorbellMode, Engine, Ring, RingSettings, Settings, StdThreads};
use vcmdq_benches::rig::{BASE, Rig, frame_without_rings, guest_memory};
use vcmdq_benches::rounds::{Contender, medians};
use vcmdq_benches::{is_quick, streams, table};
use vcmdq_iommufd::testing::{Cost, Counting, FakeKernel, FakeStreams};
use vcmdq_iommufd::uapi::{Invalidate, kind};
use vcmdq_iommufd::{ArmSmmuv3, Iommufd, IommufdBackend, IommufdSettings};

const VIOMMU: u32 = 1;
const COST: Cost = Cost {
    call: Duration::from_micros(2),
    block: Duration::from_micros(1),
    command: Duration::from_nanos(20),
};
const SIZES: [usize; 7] = [1, 16, 63, 64, 126, 252, 1008];
/// Calls of a round.
const CALLS: usize = 8;

fn kernel() -> Arc<FakeKernel> {
    Arc::new(FakeKernel::new(Counting::Converted, VIOMMU, &[]).with_cost(COST))
}

fn backend(kernel: Arc<FakeKernel>) -> IommufdBackend {
    let settings = IommufdSettings::new(Arc::new(FakeStreams::default()));
    IommufdBackend::new(kernel, VIOMMU, ArmSmmuv3::new(true), settings)
}

/// Pages that nobody makes one request of.
fn page(at: usize) -> u64 {
    (at as u64) << 12
}

fn batch(size: usize) -> Batch {
    let mut batch = Batch::new();
    for at in 0..size {
        let range = TlbiRange {
            addr: page(at) << 12,
            bytes: 4096,
            granule: Some(Granule::K4),
            ttl: 3,
            leaf: true,
        };
        let request = Invalidation {
            vmid: Vmid(0),
            stage: Stage::One,
            scope: Scope::Addresses {
                asid: Some(Asid(1)),
                range,
            },
        };
        batch.push(request, at as u32);
    }
    batch
}

fn call(kernel: &FakeKernel, entries: &[u8]) {
    let call = Invalidate {
        target: VIOMMU,
        data_type: kind::INVALIDATE_ARM_SMMUV3,
        entry_len: 16,
        entries,
    };
    let _done = black_box(kernel.invalidate(&call));
}

fn timed(mut work: impl FnMut()) -> Duration {
    let begin = Instant::now();
    (0..CALLS).for_each(|_| work());
    begin.elapsed()
}

/// A window of `size`, in nanoseconds: bare, by the backend, by the whole engine, one by one.
fn sizes(size: usize, rounds: usize) -> Vec<f64> {
    let kernel = kernel();
    let (backend, batch) = (backend(kernel.clone()), batch(size));
    let entries = vec![0u8; size * 16];
    let whole = Arc::new(self::backend(kernel.clone()));
    let memory: Arc<dyn GuestMemory> = guest_memory();
    let mut rig = Rig::new(memory, whole);
    let mut commands: Vec<RawCommand> = (0..size)
        .map(|at| streams::tlbi(Asid(1), page(at)))
        .collect();
    commands.push(streams::sync());
    let mut contenders = [
        Contender::new("bare", || timed(|| call(&kernel, &entries))),
        Contender::new("backend", || {
            timed(|| {
                let _done = black_box(backend.submit(&batch));
            })
        }),
        Contender::new("engine", || {
            let mut took = Duration::ZERO;
            for _ in 0..CALLS {
                rig.fill(&commands);
                took += rig.consume(commands.len());
            }
            took
        }),
        Contender::new("one by one", || {
            timed(|| entries.chunks(16).for_each(|one| call(&kernel, one)))
        }),
    ];
    let medians = medians(&mut contenders, rounds, CALLS);
    drop(contenders);
    kernel.take_calls();
    medians
}

/// Rings of one frame, each with a producer that sends a TLBI and a SYNC and waits; one thread plays all.
struct Producers {
    memory: Arc<dyn GuestMemory>,
    rings: Vec<Arc<Ring>>,
    prods: Vec<u32>,
}

const LOG2SIZE: u8 = 6;

impl Producers {
    fn base(ring: usize) -> Gpa {
        Gpa(BASE.0 + 0x4000 * ring as u64)
    }

    fn send(&mut self, ring: usize) {
        let slots = 1 << LOG2SIZE;
        let commands = [streams::tlbi(Asid(1), page(ring)), streams::sync()];
        for raw in commands {
            let prod = &mut self.prods[ring];
            let at = Gpa(Self::base(ring).0 + 16 * u64::from(*prod % slots));
            let words = self.memory.words(at, 2).expect("the ring is RAM");
            words[0].store(raw.dw0.to_le(), Ordering::Relaxed);
            words[1].store(raw.dw1.to_le(), Ordering::Relaxed);
            *prod = (*prod + 1) % (2 * slots);
        }
        self.rings[ring].doorbell(self.prods[ring]);
    }

    fn play(&mut self, syncs: usize) {
        let mut left = vec![syncs; self.rings.len()];
        while left.iter().any(|left| *left > 0) {
            for (ring, left) in left.iter_mut().enumerate() {
                if self.rings[ring].cons() == self.prods[ring] && *left > 0 {
                    *left -= 1;
                    self.send(ring);
                }
            }
            std::thread::yield_now();
        }
        while (0..self.rings.len()).any(|ring| self.rings[ring].cons() != self.prods[ring]) {
            std::thread::yield_now();
        }
    }
}

/// Calls for each SYNC with so many rings.
fn calls_per_sync(count: usize, syncs: usize) -> f64 {
    let kernel = kernel();
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).expect("a thread");
    let memory: Arc<dyn GuestMemory> = guest_memory();
    let frame = frame_without_rings(&engine, memory.clone(), Arc::new(backend(kernel.clone())));
    let rings = (0..count).map(|at| {
        let ring = frame.add_ring(DoorbellMode::Trap).expect("room");
        let place = RingSettings {
            base: Producers::base(at),
            log2size: LOG2SIZE,
        };
        ring.configure(place).expect("not enabled");
        ring.enable();
        ring
    });
    let rings: Vec<_> = rings.collect();
    let prods = vec![0; count];
    let mut producers = Producers {
        memory,
        rings,
        prods,
    };
    producers.play(2);
    kernel.take_calls();
    producers.play(syncs);
    let calls = kernel.take_calls().len();
    calls as f64 / (syncs * count) as f64
}

fn main() {
    let rounds = if is_quick() { 3 } else { 301 };
    let row = |size: usize| {
        let ns = sizes(size, rounds);
        let more = |ns: f64, bare: f64| table::percent_more((ns / bare - 1.0) * 100.0);
        vec![
            size.to_string(),
            format!("{:.0}", ns[0]),
            format!("{:.0}", ns[1]),
            more(ns[1], ns[0]),
            format!("{:.0}", ns[2]),
            more(ns[2], ns[0]),
            format!("{:.1}", ns[3] / ns[2]),
        ]
    };
    let rows: Vec<_> = SIZES.into_iter().map(row).collect();
    let head = [
        "commands",
        "call ns",
        "backend",
        "",
        "ring to CONS",
        "",
        "times one by one",
    ];
    table::print("Windows to a host, medians", &head, &rows);
    let syncs = if is_quick() { 50 } else { 20_000 };
    let row = |count: usize| {
        vec![
            count.to_string(),
            format!("{:.2}", calls_per_sync(count, syncs / count)),
        ]
    };
    let rows: Vec<_> = [1, 2, 4, 8, 16].into_iter().map(row).collect();
    table::print(
        "Rings that wait at once",
        &["producers", "calls per SYNC"],
        &rows,
    );
}
