//! Guests of one engine, each with memory, a frame and a backend of its own.

#![expect(dead_code, reason = "each test file uses a part of it")]

use dispatch::{
    Backend, BackendCapabilities, Barrier, Batch, Cause, Costs, Rejected, WaiterId, Wake,
};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{MemoryError, store_u64};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Gpa, GuestMemory, StreamId, Vmid};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, HeapPage, InstanceId, Placement, Ring,
    RingPage, RingSettings, Seams, Settings, StdThreads, StreamHost,
};

/// Which calls of a guest's may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    Never,
    Backend,
    Host,
    Both,
}

const STREAM: StreamId = StreamId(0x10);
/// Bytes between two rings' entries.
const STRIDE: u64 = 0x4000;
pub(crate) const LOG2SIZE: u8 = 10;

pub(crate) fn tlbi() -> RawCommand {
    encode(&Command::Tlbi(Tlbi::NhAll { vmid: Vmid(0) }))
}

pub(crate) fn cfgi() -> RawCommand {
    let change = Cfgi::Ste {
        stream: STREAM,
        leaf: true,
    };
    encode(&Command::Cfgi(change))
}

pub(crate) fn engine(settings: Settings) -> Engine {
    Engine::start(settings, Arc::new(StdThreads)).unwrap()
}

/// Waits for what other threads do; fails when that takes for ever.
pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{what} did not happen"
        );
        std::thread::yield_now();
    }
}

/// Guest memory that knows whether its guest is still there.
pub(crate) struct Memory {
    heap: HeapMemory,
    gone: AtomicBool,
    late: AtomicU64,
}

impl Memory {
    fn new(rings: u64) -> Self {
        Self {
            heap: HeapMemory::with_regions(&[(Gpa(0), rings * STRIDE)]),
            gone: AtomicBool::new(false),
            late: AtomicU64::new(0),
        }
    }

    /// From now on every access is one too late.
    pub(crate) fn goes(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::SeqCst)
    }

    fn count(&self) {
        if self.gone.load(Ordering::SeqCst) {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl GuestMemory for Memory {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.count();
        self.heap.words(at, count)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.count();
        self.heap.store_u32(at, value, order)
    }

    fn words32(&self, at: Gpa, count: usize) -> Option<&[AtomicU32]> {
        self.count();
        self.heap.words32(at, count)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.heap.mark_dirty(at, len);
    }
}

/// What backends were called for: the guest, and the thread.
pub(crate) type Log = Arc<Mutex<Vec<(usize, String)>>>;

/// Takes everything, and notes that it was called.
pub(crate) struct Noting {
    guest: usize,
    log: Log,
    may_block: bool,
    script: Arc<Script>,
}

impl Noting {
    pub(crate) fn new(guest: usize, log: &Log, may_block: bool, script: &Arc<Script>) -> Self {
        Self {
            guest,
            log: log.clone(),
            may_block,
            script: script.clone(),
        }
    }
}

/// What a guest's backend and host are to do, and what has happened to them.
#[derive(Default)]
pub(crate) struct Script {
    /// While it is set, calls do not return.
    pub(crate) held: AtomicBool,
    /// Threads inside of calls, and the most there were.
    pub(crate) inside: AtomicU64,
    pub(crate) most: AtomicU64,
    /// So many calls panic from now on.
    pub(crate) panics: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) effects: AtomicU64,
    pub(crate) failed_closed: AtomicU64,
    pub(crate) told: AtomicU64,
    /// While it is set, the backend does not say what its work costs.
    pub(crate) silent: AtomicBool,
    pub(crate) asked: AtomicU64,
    /// Accesses under way never end; so often somebody was told.
    pub(crate) in_use: AtomicBool,
    pub(crate) overdue: AtomicU64,
    /// Whoever is told panics, after having done this.
    pub(crate) when_told: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Script {
    fn call(&self) {
        let panics = |left: u64| left.checked_sub(1);
        let update = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, panics);
        assert!(update.is_err(), "the script says so");
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.held.store(hold, Ordering::SeqCst);
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst) != 0
    }
}

/// A VMM whose callbacks do what the script says.
struct Host(Arc<Script>);

impl StreamHost for Host {
    fn configuration_changed(&self, _stream: StreamId, _change: &Cfgi) {
        self.0.call();
        self.0.effects.fetch_add(1, Ordering::SeqCst);
    }

    fn failed_closed(&self, _instance: InstanceId, _stream: Option<StreamId>, _cause: Cause) {
        self.0.told.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend for Noting {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            may_block: self.may_block,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        self.log.lock().unwrap().push((self.guest, thread));
        self.script.call();
        self.script.calls.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn costs(&self) -> Costs {
        self.script.asked.fetch_add(1, Ordering::SeqCst);
        while self.script.silent.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_micros(100));
        }
        Costs::default()
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        if self.script.in_use.load(Ordering::SeqCst) {
            Barrier::Pending
        } else {
            Barrier::Done
        }
    }

    fn overdue(&self, _waiter: WaiterId, _waited: Duration) -> Option<Duration> {
        self.script.overdue.fetch_add(1, Ordering::SeqCst);
        if let Some(then) = self.script.when_told.lock().unwrap().take() {
            then();
            panic!("the script says so");
        }
        Some(Duration::from_millis(1))
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {
        self.script.failed_closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// One VM.
pub(crate) struct Guest {
    pub(crate) memory: Arc<Memory>,
    pub(crate) frame: Frame,
    pub(crate) rings: Vec<(Arc<Ring>, Option<Arc<HeapPage>>)>,
    pub(crate) script: Arc<Script>,
}

impl Guest {
    /// Adds a frame with room for `rings` rings; `guest` is what its calls are noted as.
    pub(crate) fn new(engine: &Engine, guest: usize, rings: u64, log: &Log) -> Self {
        Self::behind(engine, guest, rings, log, Blocks::Never)
    }

    /// The same with calls that may block.
    pub(crate) fn behind(
        engine: &Engine,
        guest: usize,
        rings: u64,
        log: &Log,
        blocks: Blocks,
    ) -> Self {
        let memory = Arc::new(Memory::new(rings));
        let mut seams = Seams::new(memory.clone());
        let script = Arc::<Script>::default();
        if matches!(blocks, Blocks::Host | Blocks::Both) {
            seams.streams = Arc::new(Host(script.clone()));
        }
        let frame = engine.add_frame(FrameSettings::default(), seams);
        let may_block = matches!(blocks, Blocks::Backend | Blocks::Both);
        let noting = Noting::new(guest, log, may_block, &script);
        let placement = Placement::default();
        let instance = frame.add_instance(Arc::new(noting), placement);
        let binding = Binding {
            instance,
            placement,
        };
        frame.bind(STREAM, binding).unwrap();
        Self {
            memory,
            frame,
            rings: Vec::new(),
            script,
        }
    }

    /// One more ring, all of whose entries are `command`; its place among the guest's.
    pub(crate) fn add(&mut self, paged: bool, command: RawCommand) -> usize {
        let page = paged.then(|| Arc::new(HeapPage::default()));
        let mode = match &page {
            Some(page) => DoorbellMode::SharedPage(page.clone()),
            None => DoorbellMode::Trap,
        };
        let ring = self.frame.add_ring(mode).unwrap();
        let base = Gpa(self.rings.len() as u64 * STRIDE);
        for slot in 0..1 << LOG2SIZE {
            let at = Gpa(base.0 + slot * 16);
            store_u64(&self.memory.heap, at, command.dw0, Ordering::Relaxed).unwrap();
            store_u64(
                &self.memory.heap,
                Gpa(at.0 + 8),
                command.dw1,
                Ordering::Relaxed,
            )
            .unwrap();
        }
        ring.configure(RingSettings {
            base,
            log2size: LOG2SIZE,
        })
        .unwrap();
        match &page {
            Some(page) => page.words()[2].store(1u32.to_le(), Ordering::Release),
            None => ring.enable(),
        }
        self.rings.push((ring, page));
        self.rings.len() - 1
    }

    /// The guest writes PROD of one of its rings.
    pub(crate) fn publish(&self, ring: usize, prod: u32) {
        match &self.rings[ring] {
            (_, Some(page)) => page.words()[1].store(prod.to_le(), Ordering::Release),
            (ring, None) => ring.doorbell(prod),
        }
    }

    pub(crate) fn is_consumed(&self, ring: usize, prod: u32) -> bool {
        self.rings[ring].0.cons() == prod
    }

    /// Publishes one more command and waits until it is consumed.
    pub(crate) fn round_trip(&self, ring: usize, n: u32) {
        let prod = n % (2 << LOG2SIZE);
        self.publish(ring, prod);
        wait_for("consumption", || self.is_consumed(ring, prod));
    }
}

/// Tells threads of a scope to end, also when the test fails meanwhile.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

pub(crate) struct StopGuard<'a>(&'a Stop);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Stops when it is dropped.
    pub(crate) fn guard(&self) -> StopGuard<'_> {
        StopGuard(self)
    }
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}
