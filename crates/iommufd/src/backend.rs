//! The backend: batches of the engine to HWPT_INVALIDATE of one vIOMMU.

use crate::account::{Accounted, Calls};
use crate::counters::{Counters, IommufdMetrics};
use crate::encode::{Encoder, Entries, MAX_ENTRIES, NotEncodable};
use crate::join::{Joined, Place};
use crate::learnt::Learnt;
use crate::target::Target;
use crate::uapi::Iommufd;
use dispatch::{
    Backend, BackendCapabilities, Barrier, Batch, Cause, Costs, Invalidation, Rejected, Scope,
    WaiterId, Wake,
};
use smmu_core::StreamId;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::queue::Queue;
use vcmdq_sync::weak::{Site, order, taken};

/// Of so many calls one is measured.
const MEASURED: u64 = 8;

/// The streams of an instance, as whoever attaches them to page tables knows them.
pub trait HostStreams: Send + Sync {
    /// Whether the host may have read context descriptors of this stream: it is attached to a page table
    /// made from a vSTE that translates. When it is attached to another one the host forgets them by
    /// itself. Called from workers: must not block.
    fn reads_contexts(&self, stream: StreamId) -> bool;

    /// Whether a stream has [failed closed](Self::fail_closed) by itself and nothing else has been attached since: what
    /// names it is not sent then, so that its guest cannot have the host asked again and again (law 8). Called from
    /// workers: must not block.
    fn aborts(&self, stream: StreamId) -> bool {
        let _ = stream;
        false
    }

    /// From now on accesses of `stream`, or of every stream of the instance, also of those that come
    /// later, end in an abort. Called from workers, may block, must not fail. Returns when it is so.
    fn fail_closed(&self, stream: Option<StreamId>);
}

/// How an [`IommufdBackend`] works.
#[derive(Clone)]
pub struct IommufdSettings {
    /// The most entries in a call, at most [`MAX_ENTRIES`] (1,008), which is the default: sixteen blocks,
    /// for each of which Linux's driver waits at most a second. So a call hangs for 16 s at worst.
    pub entries_per_call: usize,
    /// Buffers: how many calls may be under way at once without an allocation.
    pub buffers: usize,
    /// The instance's streams.
    pub streams: Arc<dyn HostStreams>,
}

impl IommufdSettings {
    /// 1,008 entries a call, four calls at once.
    #[must_use]
    pub fn new(streams: Arc<dyn HostStreams>) -> Self {
        Self {
            entries_per_call: MAX_ENTRIES,
            buffers: 4,
            streams,
        }
    }
}

impl fmt::Debug for IommufdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IommufdSettings")
            .field("entries_per_call", &self.entries_per_call)
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

/// One vIOMMU (or, for VT-d, one nested page table) of the host kernel.
///
/// `submit` blocks for as long as the kernel does; a call that has returned has been waited for by the
/// kernel, so a barrier is done at once. Nothing is allocated for a batch.
pub struct IommufdBackend {
    kernel: Arc<dyn Iommufd>,
    target: Target,
    encoder: Box<dyn Encoder>,
    settings: IommufdSettings,
    free: Queue<Box<Entries>>,
    learnt: Learnt,
    counters: Counters,
    /// The [generation](crate::target::Aim) in which every stream aborts and nothing is sent, or 0 for none: in
    /// a later one, with another stage 2 or all of the cache removed, nothing of before is cached. Never goes
    /// back: who closes a generation that is over has closed nothing.
    closed: AtomicU64,
}

impl fmt::Debug for IommufdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IommufdBackend")
            .field("target", &self.target)
            .field("settings", &self.settings)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

impl IommufdBackend {
    /// For the vIOMMU `target` of `kernel`, whose driver understands `encoder`'s entries: an ID, or the
    /// [target](crate::HostInstance::target) of an instance whose stage 2 may be replaced.
    #[must_use]
    pub fn new(
        kernel: Arc<dyn Iommufd>,
        target: impl Into<Target>,
        encoder: impl Encoder + 'static,
        settings: IommufdSettings,
    ) -> Self {
        let free = Queue::new(settings.buffers);
        for _ in 0..settings.buffers {
            // There is room for each of them.
            let _ = free.push(Box::new(Entries::new(encoder.entry_len())));
        }
        Self {
            kernel,
            target: target.into(),
            encoder: Box::new(encoder),
            settings,
            free,
            learnt: Learnt::default(),
            counters: Counters::default(),
            closed: AtomicU64::new(0),
        }
    }

    /// What it has done so far. Any thread; never blocks.
    #[must_use]
    pub fn metrics(&self) -> IommufdMetrics {
        self.counters.read()
    }

    /// Whether every stream aborts since an invalidation that names none of them could not be carried out.
    /// Any thread; never blocks.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed_in(self.target.generation())
    }

    fn is_closed_in(&self, generation: u64) -> bool {
        // Acquire: pairs with the Release in `close`, before which every stream aborts.
        self.closed.load(Ordering::Acquire) == generation
    }

    fn close(&self, generation: u64) {
        // Release: who sees it lets a SYNC complete. Model: `loom-tests/tests/host_closed.rs`.
        let release = order(Site::HostClosed, Ordering::Release);
        self.closed.fetch_max(generation, release);
    }

    /// After such a failure: has everything that the guest's streams have cached removed, and takes batches
    /// again. If it fails, nothing has changed. Streams abort until whoever keeps them attaches them
    /// anew, which must not be before this has returned `Ok`. Control thread; blocks.
    pub fn reopen(&self) -> Result<(), Cause> {
        let mut all = Batch::new();
        all.push(Invalidation::everything(), 0);
        // Before the call: what fails from here on is not made good by it, and closes the new generation.
        let renewed = self.target.renew();
        let target = self.target.read();
        let Some(id) = target.id else {
            return Ok(());
        };
        self.execute(&all, id).map_err(|rejected| {
            if self.is_closed_in(renewed - 1) {
                // Not one that has come meanwhile with another stage 2: its streams are attached again.
                self.close(match taken(Site::HostGeneration) {
                    true => renewed,
                    false => target.generation,
                });
            }
            rejected.cause
        })
    }

    fn execute(&self, batch: &Batch, target: u32) -> Result<(), Rejected> {
        let mut entries = self.free.pop().unwrap_or_else(|| {
            self.counters.buffers.add(1);
            Box::new(Entries::new(self.encoder.entry_len()))
        });
        let result = self.execute_in(batch, target, &mut entries);
        // One that was allocated beside the others goes.
        let _ = self.free.push(entries);
        if let Err(rejected) = &result {
            self.count(rejected.cause);
        }
        result
    }

    /// Encode, send, account, as often as the buffer must be filled for it.
    fn execute_in(
        &self,
        batch: &Batch,
        target: u32,
        entries: &mut Entries,
    ) -> Result<(), Rejected> {
        let joined = match self.encoder.joins() {
            true => Joined::of(batch),
            false => Joined::default(),
        };
        let mut next = 0;
        loop {
            entries.clear();
            let (end, encoded) = self.fill(batch, &joined, next, entries);
            let Accounted { certain, stopped } = self.send(entries, target);
            if let Some(cause) = stopped {
                let accepted = entries.request_of(certain);
                let cause = match cause {
                    // The kernel refuses what names a stream for one reason: it has no such vdevice.
                    Cause::Unsupported if batch.request(accepted).stream().is_some() => Cause::Gone,
                    other => other,
                };
                return Err(Rejected { accepted, cause });
            }
            if encoded.is_err() {
                self.counters.not_encodable.add(1);
                let cause = Cause::Unsupported;
                return Err(Rejected {
                    accepted: end,
                    cause,
                });
            }
            if end == batch.len() {
                self.counters.joined.add(joined.len() as u64);
                return Ok(());
            }
            next = end;
        }
    }

    /// Encodes requests from `next` on, as many as have room: up to where, and whether the one there can
    /// be.
    fn fill(
        &self,
        batch: &Batch,
        joined: &Joined,
        next: usize,
        entries: &mut Entries,
    ) -> (usize, Result<(), NotEncodable>) {
        let mut at = next;
        while at < batch.len() {
            let run = joined.own_from(at, batch.len());
            match self.encoder.encode_run(batch, run, entries) {
                0 => {}
                encoded => {
                    at += encoded;
                    continue;
                }
            }
            match self.fill_one(batch, joined, at, entries) {
                Ok(true) => at += 1,
                Ok(false) => return (at, Ok(())),
                Err(not) => return (at, Err(not)),
            }
        }
        (batch.len(), Ok(()))
    }

    /// Encodes one request: whether it had room.
    fn fill_one(
        &self,
        batch: &Batch,
        joined: &Joined,
        at: usize,
        entries: &mut Entries,
    ) -> Result<bool, NotEncodable> {
        // A batch has fewer requests than that.
        let number = at as u16;
        match joined.in_place_of(at) {
            Place::Elsewhere => Ok(true),
            Place::Both(both) => entries.add(number, |to| self.encoder.encode(both, to)),
            Place::Own => {
                let request = batch.request(at);
                if !self.concerns_host(&request) {
                    return Ok(true);
                }
                entries.add(number, |to| self.encoder.encode(&request, to))
            }
        }
    }

    /// Whether the host can have anything of what a request names. Not if its stream aborts for good. A guest may
    /// send CFGI_CD before its STE is valid: the host has read no descriptor then.
    #[inline]
    fn concerns_host(&self, request: &Invalidation) -> bool {
        let aborts = |stream| self.settings.streams.aborts(stream);
        if request.stream().is_some_and(aborts) {
            self.counters.closed.add(1);
            return false;
        }
        let Scope::ContextTable { stream, .. } = request.scope else {
            return true;
        };
        let reads = self.settings.streams.reads_contexts(stream);
        if !reads {
            self.counters.untranslated.add(1);
        }
        reads
    }

    fn send(&self, entries: &Entries, id: u32) -> Accounted {
        let target = Calls {
            kernel: &*self.kernel,
            id,
            data_type: self.encoder.data_type(),
            entry_len: self.encoder.entry_len(),
            limit: self.settings.entries_per_call.clamp(1, MAX_ENTRIES),
            counters: &self.counters,
        };
        let whole = entries.len() <= target.limit;
        let measured = whole && self.counters.calls.get().is_multiple_of(MEASURED);
        // To a model the same execution must be the same, however long it takes.
        if !measured || cfg!(loom) {
            return target.send(entries.bytes());
        }
        let begin = Instant::now();
        let accounted = target.send(entries.bytes());
        if accounted.stopped.is_none() {
            let ns = begin.elapsed().as_nanos() as u64;
            self.learnt.learn(entries.len(), ns);
        }
        accounted
    }

    fn count(&self, cause: Cause) {
        match cause {
            Cause::TimedOut => self.counters.timed_out.add(1),
            Cause::Gone => self.counters.gone.add(1),
            // Counted where they were found.
            Cause::Again | Cause::Unsupported | Cause::DeviceTimedOut => {}
        }
    }
}

impl Backend for IommufdBackend {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            may_block: true,
            ..self.encoder.capabilities()
        }
    }

    fn costs(&self) -> Costs {
        self.learnt.costs()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        // Held until the call has returned: whoever replaces the vIOMMU waits for it.
        let target = self.target.read();
        let Some(id) = target.id else {
            // Every stream aborts, and the next vIOMMU has nothing cached.
            return Ok(());
        };
        if self.is_closed_in(target.generation) {
            self.counters.closed.add(batch.len() as u64);
            return Ok(());
        }
        self.execute(batch, id)
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        // The call has returned, and the kernel had a SYNC of its own behind every block.
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {
        // No barrier is ever pending.
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        let before = self.target.generation();
        self.settings.streams.fail_closed(stream);
        if stream.is_none() {
            // Not before every stream aborts, and not one that has come meanwhile: nothing of this is cached in it,
            // and its streams may be attached again.
            self.close(match taken(Site::HostGeneration) {
                true => before,
                false => self.target.generation(),
            });
        }
    }
}
