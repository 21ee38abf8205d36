//! A frame in front of a host: its guest's stream table, and what the engine would say about it.

use super::{FakeHost, IOAS};
use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, Traffic, WaiterId, Wake};
use smmu_core::command::Cfgi;
use smmu_core::config::StreamTable;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::spec::event::EventRecord;
use smmu_core::spec::register::Gbpa;
use smmu_core::translate::Setup;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::seams::NoInterrupts;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, Engine, Frame, FrameSettings, InstanceId, Interrupts, Placement, Seams, Settings,
    StreamHost,
};
use vcmdq_iommufd::{ArmSmmuv3, HostInstance, NestedStreams, Offer, PlugError};

pub(crate) const TABLE: Gpa = Gpa(0x1_0000);
pub(crate) const EVENTS: Gpa = Gpa(0x2000);
pub(crate) const SIDS: u8 = 6;

/// A backend that takes everything: what is sent is another file's matter.
struct Takes;

impl Backend for Takes {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            caches_contexts: true,
            ..BackendCapabilities::default()
        }
    }

    fn submit(&self, _: &Batch) -> Result<(), Rejected> {
        Ok(())
    }

    fn barrier(&self, _: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _: Arc<dyn Wake>) {}

    fn fail_closed(&self, _: Option<StreamId>) {}
}

pub(crate) struct World {
    pub(crate) host: Arc<FakeHost>,
    pub(crate) memory: Arc<HeapMemory>,
    pub(crate) streams: Arc<NestedStreams>,
    pub(crate) instance: Arc<HostInstance>,
    pub(crate) caps: Capabilities,
    pub(crate) frame: Frame,
    pub(crate) binding: Binding,
    _engine: Engine,
}

/// Frames that are at home on [`super::everything`].
pub(crate) fn offer(stalls: u16) -> Offer {
    Offer {
        stalls,
        ats: true,
        ..Offer::new(48)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(offer(0))
    }

    pub(crate) fn with(offer: Offer) -> Self {
        Self::interrupting(offer, Arc::new(NoInterrupts))
    }

    /// The guest's interrupts go somewhere.
    pub(crate) fn interrupting(offer: Offer, interrupts: Arc<dyn Interrupts>) -> Self {
        let host = FakeHost::new();
        let features = vcmdq_iommufd::HostFeatures::of_device(&*host, 101).unwrap();
        let caps = offer.capabilities(&features).unwrap();
        let memory = Arc::new(HeapMemory::new(1 << 18));
        let streams = NestedStreams::new(memory.clone());
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let mut seams = Seams::new(memory.clone());
        seams.streams = streams.clone();
        seams.interrupts = interrupts;
        let frame = engine.add_frame(
            FrameSettings {
                caps,
                ..FrameSettings::default()
            },
            seams,
        );
        streams.connect(&frame);
        frame.events().queue().configure(EVENTS, 7).unwrap();
        frame.events().enable();
        let flavour = Arc::new(ArmSmmuv3::new(true));
        let instance = HostInstance::new(host.clone(), flavour, 101, IOAS, &caps).unwrap();
        let binding = Self::behind(&frame, 0);
        Self {
            host,
            memory,
            streams,
            instance,
            caps,
            frame,
            binding,
            _engine: engine,
        }
    }

    /// Another instance of the frame.
    pub(crate) fn behind(frame: &Frame, smmu: u32) -> Binding {
        let placement = Placement { smmu, stage2: 1 };
        let instance: InstanceId = frame.add_instance(Arc::new(Takes), placement);
        Binding {
            instance,
            placement,
        }
    }

    pub(crate) fn plug(&self, stream: u32, device: u32) -> Result<(), PlugError> {
        let device = self.host.device(device);
        let id = StreamId(stream);
        self.streams
            .plug(&self.frame, id, device, &self.instance, self.binding)
    }

    pub(crate) fn enabled(&self) -> Traffic {
        Traffic::Enabled(Setup {
            streams: StreamTable {
                base: TABLE,
                log2size: SIDS,
                split: 6,
                two_level: false,
            },
            caps: self.caps,
            e2h: false,
            record_bad_stream_id: false,
        })
    }

    pub(crate) fn disabled(&self, abort: bool) -> Traffic {
        Traffic::Disabled(Gbpa::new().with_abort(abort), self.caps)
    }

    /// As a worker tells it, of each stream.
    pub(crate) fn traffic(&self, streams: &[u32], traffic: &Traffic) {
        for stream in streams {
            self.streams.traffic_changed(StreamId(*stream), traffic);
        }
    }

    pub(crate) fn write_ste(&self, stream: u32, words: &[u64]) {
        for (n, word) in (0..).zip(words) {
            let at = Gpa(TABLE.0 + u64::from(stream) * 64 + 8 * n);
            store_u64(&*self.memory, at, *word, Ordering::Relaxed).unwrap();
        }
    }

    /// Writes an STE and says so.
    pub(crate) fn configure(&self, stream: u32, words: &[u64]) {
        self.write_ste(stream, words);
        self.cfgi(stream);
    }

    pub(crate) fn cfgi(&self, stream: u32) {
        let stream = StreamId(stream);
        let change = Cfgi::Ste { stream, leaf: true };
        self.streams.configuration_changed(stream, &change);
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<EventRecord> {
        let prod = u64::from(self.frame.events().queue().prod() & 0xFF);
        let word =
            |at: u64| load_u64(&*self.memory, Gpa(EVENTS.0 + at), Ordering::Relaxed).unwrap();
        let record = |n: u64| EventRecord([0, 8, 16, 24].map(|at| word(n % 128 * 32 + at)));
        (0..prod).map(record).collect()
    }
}

/// An STE with a table of contexts.
pub(crate) fn stage1(contexts: u64) -> [u64; 2] {
    [1 | 5 << 1 | contexts, 0]
}

pub(crate) const ABORT: [u64; 2] = [1, 0];
pub(crate) const BYPASS: [u64; 2] = [1 | 4 << 1, 0];
