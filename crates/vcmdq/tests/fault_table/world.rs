//! Members with a translation cache and a stream each, rings in front of them, and what everybody was told.

use crate::common::{Backend, all_features, fill, has, tlbi, word};
use dispatch::backend::Software;
use dispatch::backend::faulty::{Fault, Faulty};
use dispatch::backend::recorder::Recorder;
use dispatch::dispatch::TRIES;
use dispatch::{Cause, Rejected};
use smmu_core::command::Msi;
use smmu_core::guest_memory::store_u64;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::{Gpa, StreamId};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use vcmdq::metrics::RingMetrics;
use vcmdq::seams::NoTarget;
use vcmdq::stepping::{ModelCaller, Stepper};
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::{self, sync_to};
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, InstanceId, Interrupts, Line, Placement,
    Ring, RingSettings, Seams, Settings, StreamHost,
};

const BASE: u64 = 0x1_0000;
const LOG2SIZE: u8 = 8;
const STRIDE: u64 = 16 << LOG2SIZE;
/// Streams of each member: every ring can have one of its own.
const STREAMS: usize = 4;
/// Calls until a request that times out again and again has failed closed: as it is, and widened.
pub(crate) const LADDER: u64 = 2 * TRIES as u64;
/// Requests of a window that fills more than one of the host's blocks of 63.
pub(crate) const PAGES: u64 = 100;

/// What the outside was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Pulse(Line),
    /// And where the rings' CONS stood then.
    FailedClosed(InstanceId, Option<StreamId>, Cause, Vec<u32>),
}

#[derive(Default)]
struct Outside {
    told: Mutex<Vec<Told>>,
    rings: OnceLock<Vec<Arc<Ring>>>,
}

impl Interrupts for Outside {
    fn pulse(&self, line: Line) {
        self.told.lock().unwrap().push(Told::Pulse(line));
    }

    fn message(&self, _device_id: u32, _msi: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

impl StreamHost for Outside {
    fn failed_closed(&self, instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        let rings = self.rings.get().expect("set").iter();
        let cons = rings.map(|ring| ring.cons()).collect();
        let told = Told::FailedClosed(instance, stream, cause, cons);
        self.told.lock().unwrap().push(told);
    }
}

/// A call: how many requests, and what was said.
pub(crate) type Call = (usize, Result<(), (usize, Cause)>);

/// The whole call was executed.
pub(crate) const fn done(requests: usize) -> Call {
    (requests, Ok(()))
}

/// It was refused, with that count.
pub(crate) const fn refused(requests: usize, count: usize, cause: Cause) -> Call {
    (requests, Err((count, cause)))
}

pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    pub(crate) id: InstanceId,
    pub(crate) stream: StreamId,
}

impl Member {
    fn software(&self) -> &Software {
        self.backend.inner().inner()
    }

    fn cache(&self, page: u64) {
        assert!(fill(self.software(), page));
    }

    fn has(&self, page: u64) -> bool {
        has(self.software(), self.stream, page)
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.backend.inner().inject(fault);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.backend.inner().heal();
    }

    /// The calls since it was asked last.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let calls = self.backend.take_calls().into_iter();
        let said = |error: Rejected| (error.accepted, error.cause);
        calls
            .map(|call| (call.batch.len(), call.result.map_err(said)))
            .collect()
    }

    /// What has been failed closed, as the backend was asked to; the stream aborts if it is among it.
    pub(crate) fn closed(&self) -> Vec<Option<StreamId>> {
        let closed = self.backend.closed();
        let own = closed
            .iter()
            .any(|who| who.is_none_or(|s| s == self.stream));
        assert_eq!(self.software().is_closed(self.stream), own);
        closed
    }
}

pub(crate) struct World {
    memory: Arc<HeapMemory>,
    _engine: Engine,
    _frame: Frame,
    pub(crate) members: Vec<Member>,
    pub(crate) rings: Vec<Arc<Ring>>,
    prods: Vec<u32>,
    outside: Arc<Outside>,
    stepper: Stepper,
    callers: Vec<Arc<ModelCaller>>,
    threads: Vec<JoinHandle<()>>,
}

fn backend(blocks: bool) -> Arc<Backend> {
    let software = Software::new(TlbSettings {
        log2_entries: 12,
        log2_asids: 8,
    });
    let faulty = match blocks {
        true => Faulty::blocking(software),
        false => Faulty::new(software),
    };
    Arc::new(Recorder::new(faulty))
}

/// SYNCs write there.
fn word_of(ring: usize) -> Gpa {
    Gpa(0x100 + 8 * ring as u64)
}

impl World {
    pub(crate) fn one_ring() -> Self {
        Self::new(&[true], 1)
    }

    pub(crate) fn many_rings() -> Self {
        Self::new(&[true], 4)
    }

    /// Two instances whose calls may block, and one whose do not. With threads those of the second
    /// are made beside the others'; without, behind them.
    pub(crate) fn group(threads: bool) -> Self {
        let mut group = Self::new(&[true, true, false], 1);
        if threads {
            let start = |caller: &Arc<ModelCaller>| {
                let caller = caller.clone();
                std::thread::spawn(move || caller.work_until_left())
            };
            group.threads = group.callers.iter().map(start).collect();
        }
        group
    }

    fn new(blocks: &[bool], rings: usize) -> Self {
        let end = BASE + STRIDE * rings as u64;
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), end)]));
        let outside = Arc::<Outside>::default();
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let seams = Seams {
            memory: memory.clone(),
            interrupts: outside.clone(),
            streams: outside.clone(),
        };
        let settings = FrameSettings {
            caps: all_features(),
            ..FrameSettings::default()
        };
        let frame = engine.add_frame(settings, seams);
        let member = |(n, blocks): (usize, &bool)| {
            let backend = backend(*blocks);
            let placement = Placement {
                smmu: n as u32,
                stage2: 0,
            };
            let id = frame.add_instance(backend.clone(), placement);
            for stream in (0..STREAMS).map(|ring| stream_of(n, ring)) {
                let binding = Binding {
                    instance: id,
                    placement,
                };
                frame.bind(stream, binding).unwrap();
            }
            Member {
                backend,
                id,
                stream: stream_of(n, 0),
            }
        };
        let members: Vec<_> = blocks.iter().enumerate().map(member).collect();
        let ring = |n: usize| {
            let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
            let base = Gpa(BASE + STRIDE * n as u64);
            let log2size = LOG2SIZE;
            ring.configure(RingSettings { base, log2size }).unwrap();
            ring.enable();
            ring
        };
        let all: Vec<_> = (0..rings).map(ring).collect();
        assert!(outside.rings.set(all.clone()).is_ok());
        Self {
            callers: frame.model_callers().into_iter().map(Arc::new).collect(),
            threads: Vec::new(),
            memory,
            _engine: engine,
            _frame: frame,
            members,
            prods: vec![0; rings],
            rings: all,
            outside,
            stepper: Stepper::default(),
        }
    }

    /// Publishes a TLBI for each of the pages, which every member has cached, then `more`, then a SYNC.
    pub(crate) fn window(&mut self, ring: usize, pages: Range<u64>, more: &[RawCommand]) {
        for member in &self.members {
            pages.clone().for_each(|page| member.cache(10 * page));
        }
        store_u64(&*self.memory, word_of(ring), 0, Ordering::Relaxed).unwrap();
        let tlbis = pages.map(|page| tlbi(10 * page));
        let commands = tlbis.chain(more.iter().copied());
        for raw in commands.chain([sync_to(word_of(ring), 0xD0E)]) {
            let slot = u64::from(self.prods[ring]) % (1 << LOG2SIZE);
            let at = BASE + STRIDE * ring as u64 + 16 * slot;
            for (at, value) in [(at, raw.dw0), (at + 8, raw.dw1)] {
                store_u64(&*self.memory, Gpa(at), value, Ordering::Relaxed).unwrap();
            }
            self.prods[ring] = (self.prods[ring] + 1) % (2 << LOG2SIZE);
        }
        self.rings[ring].doorbell(self.prods[ring]);
    }

    /// Serves all rings together, once.
    pub(crate) fn serve(&mut self) {
        self.stepper.serve_together(&self.rings);
    }

    fn has_synced(&self, ring: usize) -> bool {
        word(&*self.memory, word_of(ring)) == 0xD0E
    }

    fn cons(&self, ring: usize) -> u32 {
        self.rings[ring].cons() & 0xF_FFFF
    }

    fn error(&self, ring: usize) -> u32 {
        self.rings[ring].cons() >> 24
    }

    fn is_stopped(&self, ring: usize) -> bool {
        (self.rings[ring].gerror() ^ self.rings[ring].gerrorn()) & 1 != 0
    }

    /// Everything is consumed and the SYNC has said so.
    pub(crate) fn assert_done(&self, ring: usize) {
        assert_eq!((self.cons(ring), self.error(ring)), (self.prods[ring], 0));
        assert!(self.has_synced(ring) && !self.is_stopped(ring));
    }

    /// The pages have gone from every member.
    pub(crate) fn assert_removed(&self, pages: Range<u64>) {
        for member in &self.members {
            let left: Vec<_> = pages.clone().filter(|page| member.has(10 * page)).collect();
            assert!(left.is_empty(), "{:?} still has {left:?}", member.id);
        }
    }

    /// The ring stands at its SYNC, in CERROR_ATC_INV; it goes on when that is acknowledged.
    pub(crate) fn assert_stopped_at_its_sync(&mut self, ring: usize) {
        let last = (self.prods[ring] + (2 << LOG2SIZE) - 1) % (2 << LOG2SIZE);
        assert_eq!((self.cons(ring), self.error(ring)), (last, 3));
        assert!(self.is_stopped(ring) && !self.has_synced(ring));
        let ring_itself = self.rings[ring].clone();
        ring_itself.acknowledge(ring_itself.gerror());
        self.serve();
        self.assert_done(ring);
    }

    /// Every ring goes on, and nothing goes wrong any more.
    pub(crate) fn assert_goes_on(&mut self) {
        for member in &self.members {
            member.heal();
            member.calls();
        }
        self.told();
        for ring in 0..self.rings.len() {
            self.window(ring, 0..3, &[]);
            self.serve();
            self.assert_done(ring);
            self.assert_removed(0..3);
        }
        assert_eq!(self.told(), []);
        for member in &self.members {
            assert!(member.calls().iter().all(|call| call.1.is_ok()));
        }
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.outside.told.lock().unwrap())
    }

    pub(crate) fn metrics(&self) -> RingMetrics {
        let mut sum = RingMetrics::default();
        self.rings.iter().for_each(|ring| sum.add(&ring.metrics()));
        sum
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.callers.iter().for_each(|caller| caller.leave());
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// A stream of a member for a ring.
pub(crate) fn stream_of(member: usize, ring: usize) -> StreamId {
    StreamId(16 * member as u32 + ring as u32)
}

pub(crate) fn atc_inv(stream: StreamId) -> RawCommand {
    commands::atc_inv(stream, 0)
}
