//! The streams of a frame that belong to SMMUs of the host: what the engine says about them becomes what
//! their devices are attached to.
//!
//! | the engine says | here |
//! |---|---|
//! | `traffic_changed` (SMMUEN, GBPA) | abort, bypass, or what the STE says |
//! | `configuration_changed` (CFGI of STEs) | the STE is read, a nested table made, attached, the old one freed |
//! | the backend's last rung (law 4) | [`NestedStreams::fail_closed`] |
//! | `resume`, `terminate_stalls` | an answer to a page fault |
//!
//! | locks, in this order | of |
//! |---|---|
//! | table | the map from vSIDs to streams; held for a look |
//! | stream | one stream, for a change of what it is attached to; several in the order of their vSIDs |
//! | faults | what has been read of the page faults; held while a device is attached (`faults.rs`) |
//!
//! No lock is held while a call of the frame's is made that waits for workers (`bind`, `unbind`): these wait
//! here, inside callbacks, for streams.

use crate::faults::FaultCounts;
use crate::instance::HostInstance;
use crate::joint::{FailedClosed, ReadsContexts};
use crate::metrics::{Counters, StreamMetrics};
use crate::observer::{NobodyWatches, StreamObserver};
use crate::stream::{Attachment, Stream, Trouble};
use crate::uapi::Errno;
use crate::vste::wanted;
use dispatch::{Cause, Traffic};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::command::{Cfgi, ResumeAction};
use smmu_core::fault::Fault;
use smmu_core::{Capabilities, GuestMemory, Stag, StreamId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use vcmdq::events::{EventReporter, EventSink};
use vcmdq::{Frame, InstanceId, StreamHost};

/// A stream and where it belongs.
#[derive(Clone)]
pub(crate) struct Plugged {
    pub(crate) instance: Arc<HostInstance>,
    pub(crate) stream: Arc<Mutex<Stream>>,
    pub(crate) reads: Arc<ReadsContexts>,
    pub(crate) closed: Arc<FailedClosed>,
}

/// What the frame said when it was made known.
pub(crate) struct Front {
    pub(crate) reporter: EventReporter,
    pub(crate) caps: Capabilities,
}

/// The streams of a frame that belong to SMMUs of the host: what the engine says about them becomes what their
/// devices are attached to.
///
/// Made before the frame, as one of its seams, and made known to it with [`connect`](Self::connect).
pub struct NestedStreams {
    memory: RwLock<Arc<dyn GuestMemory>>,
    pub(crate) table: RwLock<BTreeMap<StreamId, Plugged>>,
    pub(crate) front: OnceLock<Front>,
    observer: Arc<dyn StreamObserver>,
    pub(crate) counters: Counters,
    /// Control calls exclude each other.
    pub(crate) control: Mutex<()>,
}

/// A stream, as [`NestedStreams::stream`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// What its device is attached to.
    pub attached: Attachment,
    /// It aborts whatever the guest says, because an invalidation was not carried out.
    pub closed: bool,
}

pub(crate) fn locked(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NestedStreams {
    /// No streams. `memory` is the guest's, where STEs are read.
    #[must_use]
    pub fn new(memory: Arc<dyn GuestMemory>) -> Arc<Self> {
        Self::with_observer(memory, Arc::new(NobodyWatches))
    }

    /// The same, and somebody is told what the guest is not.
    #[must_use]
    pub fn with_observer(
        memory: Arc<dyn GuestMemory>,
        observer: Arc<dyn StreamObserver>,
    ) -> Arc<Self> {
        Arc::new(Self {
            observer,
            memory: RwLock::new(memory),
            table: RwLock::default(),
            front: OnceLock::new(),
            counters: Counters::default(),
            control: Mutex::default(),
        })
    }

    /// Makes the frame known whose seam this is. Once, before the first stream; later calls have no effect.
    pub fn connect(&self, frame: &Frame) {
        let reporter = frame.event_reporter();
        let caps = frame.capabilities();
        let _known_already = self.front.set(Front { reporter, caps });
    }

    /// Exchanges the map of guest memory. When it returns, nothing here uses the old one (law 9); call it with
    /// `Frame::update_memory`. Control path; waits for STEs that are just being read.
    pub fn update_memory(&self, memory: Arc<dyn GuestMemory>) {
        *self.memory.write().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    /// Counters. From any thread, never waits.
    #[must_use]
    pub fn metrics(&self) -> StreamMetrics {
        self.counters.read()
    }

    /// A stream, if it is plugged in. From any thread; waits for a change under way.
    #[must_use]
    pub fn stream(&self, stream: StreamId) -> Option<StreamState> {
        let plugged = self.plugged(stream)?;
        let stream = locked(&plugged.stream);
        Some(StreamState {
            attached: stream.attachment(),
            closed: stream.is_closed(),
        })
    }

    /// Page faults that wait for the guest's answer. From any thread.
    #[must_use]
    pub fn pending_faults(&self, instance: &HostInstance) -> usize {
        instance.faults().map_or(0, |faults| faults.pending_count())
    }

    pub(crate) fn plugged(&self, stream: StreamId) -> Option<Plugged> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&stream).cloned()
    }

    /// The streams of an instance, in the order of their vSIDs.
    pub(crate) fn of(&self, instance: &HostInstance) -> Vec<Plugged> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let own = |plugged: &&Plugged| std::ptr::eq(&*plugged.instance, instance);
        table.values().filter(own).cloned().collect()
    }

    /// Attaches a stream to what the guest says now. If the host cannot, which is counted, it aborts: `false`.
    pub(crate) fn follow(&self, instance: &HostInstance, stream: &mut Stream) -> bool {
        if stream.is_closed() {
            self.abort(stream);
            return true;
        }
        let (wanted, fault) = {
            let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
            let traffic = stream.traffic.as_ref();
            wanted(traffic, &**memory, stream.id, instance.features.stalls)
        };
        let settled = stream.settle(wanted);
        if let Some(fault) = fault {
            self.counters.invalid.add(1);
            self.report(stream.id, fault);
        }
        match settled {
            Ok(changed) => self.counters.attached.add(changed.into()),
            Err(Trouble::Refused(error)) => {
                tracing::debug!(stream = %stream.id, %error, "the host refuses the vSTE");
                self.counters.refused.add(1);
                self.report(stream.id, Fault::BadSte);
            }
            Err(Trouble::Failed(error)) => {
                let times = self.counters.failed.one_more();
                // A guest can have this again and again: it must not fill the host's log (law 8).
                if times.is_power_of_two() {
                    tracing::warn!(stream = %stream.id, %error, times, "the stream could not be attached");
                }
            }
            Err(Trouble::Gone) => self.gone(stream),
        }
        if settled.is_err() {
            self.abort(stream);
        }
        !matches!(settled, Err(Trouble::Failed(_) | Trouble::Gone))
    }

    /// Tells the guest about a stream's configuration. What its queue has no room for it counts itself.
    fn report(&self, stream: StreamId, fault: Fault) {
        let transaction = Transaction {
            stream,
            substream: None,
            access: Access {
                address: 0,
                operation: Operation::Read,
                privileged: false,
            },
        };
        let record = fault.record(&transaction, None);
        self.with_events(|events| _ = events.record(&record));
    }

    pub(crate) fn with_events<R>(&self, tell: impl FnOnce(&EventSink) -> R) -> Option<R> {
        self.front.get()?.reporter.with(tell)
    }

    /// The last rung of the ladder (law 4): the stream, or every stream of the instance, aborts when this
    /// returns, whatever the guest says later. One stream does until it is unplugged; all of an instance do
    /// until its backend is [reopened](Self::reopened); either until its stage 2 has been replaced. From a worker; blocks.
    pub fn fail_closed(&self, instance: &HostInstance, stream: Option<StreamId>) {
        let all = stream.is_none() && instance.distrust();
        for plugged in self.of(instance) {
            let mut own = locked(&plugged.stream);
            match stream {
                Some(stream) if stream != own.id => continue,
                // On another vIOMMU meanwhile, or behind a reopening: of what failed nothing is cached.
                None if !own.is_closed() => continue,
                Some(_) => self.counters.closed.add((!own.is_closed()).into()),
                None => self.counters.closed.add((all && !own.has_failed()).into()),
            }
            self.abort(&mut own);
            if stream.is_some() {
                own.set_failed(true);
            }
        }
    }

    /// Behind [`IommufdBackend::reopen`](crate::IommufdBackend::reopen): nothing is cached any more, and the
    /// streams of an instance that had failed closed as a whole go on. Those that the host could not attach now
    /// are named; they abort until their STE is told anew, or this is called once more. Control call; blocks.
    pub fn reopened(&self, instance: &HostInstance) -> Vec<StreamId> {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        instance.trust();
        let left = self.of(instance).into_iter().filter_map(|plugged| {
            let mut own = locked(&plugged.stream);
            (!self.follow(instance, &mut own)).then_some(own.id)
        });
        left.collect()
    }

    /// Whatever it takes.
    pub(crate) fn abort(&self, stream: &mut Stream) {
        if let Err(error) = stream.abort() {
            self.stuck(stream, error);
        }
    }

    /// Once, until something has been attached or detached.
    pub(crate) fn stuck(&self, stream: &mut Stream, error: Errno) {
        if !std::mem::replace(&mut stream.told.stuck, true) {
            self.counters.stuck.add(1);
            self.observer.stuck(stream.id, error);
        }
    }

    fn gone(&self, stream: &mut Stream) {
        if !std::mem::replace(&mut stream.told.gone, true) {
            self.counters.gone.add(1);
            self.observer.gone(stream.id);
        }
    }

    fn each_fault(&self, stream: StreamId, answer: impl FnOnce(&HostInstance, &mut FaultCounts)) {
        if let Some(plugged) = self.plugged(stream) {
            let mut counts = FaultCounts::default();
            answer(&plugged.instance, &mut counts);
            self.counters.faults(counts);
        }
    }
}

impl StreamHost for NestedStreams {
    fn may_block(&self) -> bool {
        true
    }

    fn configuration_changed(&self, stream: StreamId, change: &Cfgi) {
        if !change.reaches_ste() {
            return;
        }
        if let Some(plugged) = self.plugged(stream) {
            self.follow(&plugged.instance, &mut locked(&plugged.stream));
        }
    }

    fn traffic_changed(&self, stream: StreamId, traffic: &Traffic) {
        let Some(plugged) = self.plugged(stream) else {
            return;
        };
        {
            let mut own = locked(&plugged.stream);
            own.traffic = Some(*traffic);
            self.follow(&plugged.instance, &mut own);
        }
        if !traffic.is_enabled() {
            self.terminate_stalls(stream);
        }
    }

    fn resume(&self, stream: StreamId, stag: Stag, _: ResumeAction) {
        self.each_fault(stream, |instance, counts| {
            if let Some(faults) = instance.faults() {
                faults.resume(stream, stag, counts);
            }
        });
    }

    fn terminate_stalls(&self, stream: StreamId) {
        self.each_fault(stream, |instance, counts| {
            if let Some(faults) = instance.faults() {
                faults.terminate(stream, counts);
            }
        });
    }

    fn failed_closed(&self, instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        // The backend has seen to it: `fail_closed`.
        self.observer.failed_closed(instance, stream, cause);
    }
}

impl fmt::Debug for NestedStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NestedStreams")
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
