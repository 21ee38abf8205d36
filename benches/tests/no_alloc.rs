//! Nothing is allocated after start-up on the way of a command: from the ring through worker,
//! dispatch and software backend to completion.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts can be written in no other way"
)]

use dispatch::backend::Software;
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::spec::command::RawCommand;
use smmu_core::{StreamId, SubstreamId, Vmid};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vcmdq::{DoorbellMode, Engine, Settings, StdThreads, Threads};
use vcmdq_benches::backends::InjectedCost;
use vcmdq_benches::group::Group;
use vcmdq_benches::plants;
use vcmdq_benches::rig::{LOG2SIZE, Rig, STREAM, capabilities, frame_of, guest_memory, write};
use vcmdq_benches::streams::{self, Numbers};
use vcmdq_iommufd::testing::FakeStreams;
use vcmdq_iommufd::uapi::{Invalidate, InvalidateError};
use vcmdq_iommufd::{ArmSmmuv3, Iommufd, IommufdBackend, IommufdSettings};
use vcmdq_trace::{Header, Recorder, RecorderSettings, RingKind};

thread_local! {
    /// Where this thread's allocations are counted, if they are.
    static COUNTED: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    if let Some(counter) = COUNTED.get() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on as it came; counting allocates nothing, because the
// thread-local is const-initialised and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates or frees.
fn allocations(counter: &'static AtomicU64, work: impl FnOnce()) -> u64 {
    let before = counter.load(Ordering::Relaxed);
    COUNTED.set(Some(counter));
    work();
    COUNTED.set(None);
    counter.load(Ordering::Relaxed) - before
}

/// Every kind of command that the hot path knows, with SYNCs by message between them.
fn kinds() -> Vec<(&'static str, Vec<RawCommand>)> {
    let mut numbers = Numbers::new(7);
    let mut with_syncs = |mut one: Box<dyn FnMut(&mut Numbers) -> RawCommand>| {
        let mut commands = Vec::new();
        while commands.len() < 512 {
            commands.extend((0..7).map(|_| one(&mut numbers)));
            commands.push(streams::sync());
        }
        commands
    };
    let tlbi = |tlbi| encode(&Command::Tlbi(tlbi));
    let vmid = Vmid(0);
    vec![
        ("neighbours", streams::neighbours(8)),
        ("random", streams::random(8)),
        ("recorded", streams::recorded()[20_000..24_096].to_vec()),
        (
            "TLBI_NH_ASID",
            with_syncs(Box::new(move |n| {
                let asid = n.asid();
                tlbi(Tlbi::NhAsid { vmid, asid })
            })),
        ),
        (
            "TLBI_NH_ALL",
            with_syncs(Box::new(move |_| tlbi(Tlbi::NhAll { vmid }))),
        ),
        (
            "TLBI_NSNH_ALL",
            with_syncs(Box::new(move |_| tlbi(Tlbi::NsnhAll))),
        ),
        (
            "ATC_INV of a bound stream",
            with_syncs(Box::new(|n| streams::atc_inv(STREAM, n.page()))),
        ),
        (
            "ATC_INV of a stream that nobody bound",
            with_syncs(Box::new(|n| streams::atc_inv(StreamId(0x999), n.page()))),
        ),
        ("mixed, with CFGI", streams::mixed(512)),
    ]
}

#[test]
fn the_counter_counts() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let some = allocations(&COUNTER, || drop(std::hint::black_box(Box::new(1))));
    assert_eq!(some, 2, "an allocation and its end");
    assert_eq!(allocations(&COUNTER, || {}), 0);
}

#[test]
fn serving_a_ring_allocates_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let software = Arc::new(Software::default());
    let mut rig = Rig::software(guest_memory(), software.clone());
    for (kind, commands) in kinds() {
        let entries = plants::of(&commands);
        let lap = |rig: &mut Rig| {
            plants::plant(&software, &entries);
            rig.fill(&commands);
            allocations(&COUNTER, || {
                rig.consume(commands.len());
            })
        };
        lap(&mut rig);
        let syncs = rig.ring().metrics().syncs;
        for _ in 0..16 {
            assert_eq!(lap(&mut rig), 0, "{kind}");
        }
        assert!(rig.ring().metrics().syncs > syncs, "{kind} has SYNCs");
    }
    let metrics = rig.ring().metrics();
    assert_eq!((metrics.lost_messages, metrics.failed_closed), (0, 0));
}

/// A kernel that takes everything.
struct Willing;

impl Iommufd for Willing {
    fn invalidate(&self, _call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        Ok(())
    }
}

#[test]
fn serving_a_ring_before_a_host_allocates_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let settings = IommufdSettings::new(Arc::new(FakeStreams::default()));
    let encoder = ArmSmmuv3::new(true);
    let host = Arc::new(IommufdBackend::new(Arc::new(Willing), 1, encoder, settings));
    let mut rig = Rig::new(guest_memory(), host.clone());
    for (kind, commands) in kinds() {
        let lap = |rig: &mut Rig| {
            rig.fill(&commands);
            allocations(&COUNTER, || {
                rig.consume(commands.len());
            })
        };
        lap(&mut rig);
        let calls = host.metrics().calls;
        for _ in 0..16 {
            assert_eq!(lap(&mut rig), 0, "{kind}");
        }
        let nobody = kind.ends_with("nobody bound");
        assert_eq!(
            host.metrics().calls > calls,
            !nobody,
            "{kind} reaches the host"
        );
    }
    assert_eq!(host.metrics().buffers, 0);
}

/// Row 19 of the peers' bugs: a set of every StreamID that a guest has named grows with what the guest
/// likes to name. Here a stream is kept when the VMM binds it, and no name is.
#[test]
fn row19_naming_every_stream_keeps_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let naming = |stream: u32| {
        let stream = StreamId(stream);
        let leaf = stream.0 % 2 == 0;
        let substream = SubstreamId(stream.0 % 7);
        let cfgi = |cfgi| encode(&Command::Cfgi(cfgi));
        [
            cfgi(Cfgi::Ste { stream, leaf }),
            cfgi(Cfgi::Cd {
                stream,
                substream,
                leaf,
            }),
            cfgi(Cfgi::CdAll { stream }),
            streams::atc_inv(stream, u64::from(stream.0) << 12),
        ]
    };
    let mut rig = Rig::software(guest_memory(), Arc::new(Software::default()));
    let all: Vec<u32> = (0..1 << capabilities().idr1.sidsize()).collect();
    for some in all.chunks(1 << (LOG2SIZE - 3)) {
        let mut commands: Vec<_> = some.iter().flat_map(|stream| naming(*stream)).collect();
        commands.push(streams::sync());
        rig.fill(&commands);
        let count = allocations(&COUNTER, || {
            rig.consume(commands.len());
        });
        assert_eq!(count, 0, "streams {} and on", some[0]);
    }
    let metrics = rig.ring().metrics();
    assert_eq!(metrics.effects, 3 * all.len() as u64, "every CFGI was one");
    assert_eq!(metrics.unbound, all.len() as u64 - 1, "one stream is bound");
}

/// A recorder's thread allocates; the thread that is recorded does not, and loses nothing.
#[test]
fn serving_a_recorded_ring_allocates_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut rig = Rig::software(guest_memory(), Arc::new(Software::default()));
    let header = Header::of(&capabilities());
    let rings = vec![(RingKind::Cmdq, rig.shared_ring())];
    let settings = RecorderSettings::default();
    let recorder = Recorder::start(io::sink(), header, rings, &settings, &StdThreads);
    let recorder = recorder.expect("a thread");
    let mut sent = 0;
    for (kind, commands) in kinds() {
        for _ in 0..2 {
            rig.fill(&commands);
            let count = allocations(&COUNTER, || {
                rig.consume(commands.len());
            });
            assert_eq!(count, 0, "{kind}");
            sent += commands.len() as u64;
        }
    }
    let totals = recorder.finish().expect("a sink takes everything");
    assert_eq!(totals.commands + totals.dropped_commands, sent);
    assert!(totals.commands > 0);
}

/// Nor does a thread that makes one instance's calls, nor who leaves them to it.
#[test]
fn serving_a_group_allocates_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut group = Group::new(3, InjectedCost::CALL, Some(&Counted(&COUNTER)));
    let trips = |group: &mut Group| (0..500).for_each(|_| _ = group.trip());
    trips(&mut group);
    let before = COUNTER.load(Ordering::Relaxed);
    assert_eq!(allocations(&COUNTER, || trips(&mut group)), 0);
    assert_eq!(COUNTER.load(Ordering::Relaxed), before);
    assert_eq!(group.calls(), [1000; 3], "each trip is a call of each");
}

/// Threads whose allocations are counted.
struct Counted(&'static AtomicU64);

impl Threads for Counted {
    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        let counter = self.0;
        std::thread::Builder::new().name(name).spawn(move || {
            COUNTED.set(Some(counter));
            body();
            COUNTED.set(None);
        })
    }
}

/// The same on a worker's own thread: doorbell, spin, sleep and wake-up are in it.
#[test]
fn a_worker_allocates_nothing() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let memory: Arc<dyn GuestMemory> = guest_memory();
    let engine = Engine::start(Settings::default(), Arc::new(Counted(&COUNTER))).expect("starts");
    let software = Arc::new(Software::default());
    let (_frame, ring) = frame_of(&engine, memory.clone(), software, DoorbellMode::Trap);
    ring.enable();
    let mut prod = 0;
    let mut lap = |commands: &[RawCommand]| {
        write(&*memory, commands);
        prod = (prod + (1 << LOG2SIZE)) % (2 << LOG2SIZE);
        ring.doorbell(prod);
        while ring.cons() != prod {
            std::thread::yield_now();
        }
        // Long enough for the worker to fall asleep.
        std::thread::sleep(Duration::from_millis(1));
    };
    let full = streams::neighbours(1 << (LOG2SIZE - 6));
    let random = streams::random(1 << (LOG2SIZE - 6));
    assert_eq!(full.len(), 1 << LOG2SIZE);
    lap(&full);
    let before = COUNTER.load(Ordering::Relaxed);
    let (mut laps, begun) = (0, Instant::now());
    // Until it has slept, however the threads are scheduled.
    while laps < 16 || engine.metrics().sleeps == 0 {
        assert!(begun.elapsed().as_secs() < 60, "the worker never sleeps");
        lap(&full);
        lap(&random);
        laps += 1;
    }
    assert_eq!(COUNTER.load(Ordering::Relaxed), before);
    engine.stop();
}
