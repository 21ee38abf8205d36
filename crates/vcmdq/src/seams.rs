//! What the engine needs of a VMM.
//!
//! | seam | called from | may block | may call the engine |
//! |---|---|---|---|
//! | [`Interrupts`] | workers, threads whose DMA faults, and vCPUs in register writes | no | [`Ring::doorbell`](crate::Ring::doorbell) only |
//! | [`StreamHost`] | workers; `failed_closed` also inline doorbells ([`Settings::inline`](crate::Settings::inline)) | if it says so ([`may_block`](StreamHost::may_block)); `failed_closed` briefly | as above, and [`EventReporter`](crate::events::EventReporter) |
//! | [`Threads`] | the thread that starts the engine, or adds an instance | yes | no |
//! | [`Clock`] | workers, and doorbells while lateness is measured | no | no |
//! | [`GuestMemory`] | workers | no | no |
//! | [`Passage`], [`CoalescedZone`] `open`, `close` | the engine's thread for gates | yes | no |
//! | [`CoalescedZone::drain`] | that thread, worker 0, vCPUs in register accesses, control calls | for a lock of the VMM's | [`Ring::coalesced`](crate::Ring::coalesced) only |

use crate::instance::InstanceId;
use dispatch::{Cause, Traffic};
use smmu_core::command::{Cfgi, Msi, PriResponse, ResumeAction};
use smmu_core::{GuestMemory, Stag, StreamId, SubstreamId};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wired interrupt of the frame; all are edges (IHI 0070, 3.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// The event queue is no longer empty.
    EventQueue,
    /// The PRI queue has something.
    PriQueue,
    /// GERROR has become active.
    Gerror,
    /// A SYNC with CS=1 is complete.
    CommandSync,
    /// The CMDQV's error interrupt: a VCMDQ has stopped or could not be set up.
    Cmdqv,
}

/// The message went nowhere: the frame raises GERROR.MSI_*_ABT_ERR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no target takes a message at this address")]
pub struct NoTarget;

/// The VMM's interrupt controller.
pub trait Interrupts: Send + Sync {
    /// Pulses a wired interrupt.
    fn pulse(&self, line: Line);

    /// Delivers a message whose address is no RAM. (Messages into RAM are stored by the engine.)
    fn message(&self, device_id: u32, msi: Msi) -> Result<(), NoTarget>;
}

/// What the VMM knows of the devices behind the frame. It owns their file descriptors, so it
/// attaches them; the engine says when. Every method has a default that does nothing, for
/// VMMs without the feature.
pub trait StreamHost: Send + Sync {
    /// Whether a call of the others can take long, or wait for somebody (an ioctl that waits for
    /// hardware, a lock). Then the worker gives up its other work before it (law 11), which costs a
    /// wake-up if there is any. Asked once, when the frame is added.
    fn may_block(&self) -> bool {
        true
    }

    /// A bound stream's configuration may have changed (CFGI_*): what was derived from its STE or
    /// CDs is to be derived anew before this returns. In ring order: every invalidation before it
    /// has been accepted, none behind it.
    fn configuration_changed(&self, stream: StreamId, change: &Cfgi) {
        let _ = (stream, change);
    }

    /// A bound stream's traffic goes another way: SMMUEN has changed, or GBPA while it is 0. While it
    /// is 1, what is derived from the stream's STE is to be derived anew. In ring order with CFGI
    /// commands; CR0ACK follows when every stream has been told.
    fn traffic_changed(&self, stream: StreamId, traffic: &Traffic) {
        let _ = (stream, traffic);
    }

    /// RESUME. Without effect if no such transaction is stalled. Those of the frame's own
    /// [`events`](crate::Frame::events) have been told already; this is for transactions that are
    /// stalled elsewhere, such as in a host's fault queue.
    fn resume(&self, stream: StreamId, stag: Stag, action: ResumeAction) {
        let _ = (stream, stag, action);
    }

    /// STALL_TERM: every stalled transaction of the stream ends in an abort.
    fn terminate_stalls(&self, stream: StreamId) {
        let _ = stream;
    }

    /// PRI_RESP for a page request group.
    fn page_response(
        &self,
        stream: StreamId,
        substream: Option<SubstreamId>,
        group: u16,
        response: PriResponse,
    ) {
        let _ = (stream, substream, group, response);
    }

    /// An invalidation could be carried out in no way: the stream, or with `None` every stream of
    /// the instance, aborts from now on (law 4). Other instances have done it, or are told of by
    /// themselves. The guest has not been told.
    fn failed_closed(&self, instance: InstanceId, stream: Option<StreamId>, cause: Cause) {
        let _ = (instance, stream, cause);
    }
}

/// Where threads come from: a VMM may name them, pin them and confine them first.
pub trait Threads: Send + Sync {
    /// Starts a thread that runs `body` to its end.
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<std::thread::JoinHandle<()>>;
}

/// Plain threads of the standard library.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdThreads;

impl Threads for StdThreads {
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new().name(name).spawn(body)
    }
}

/// A shared page that the VMM maps into the guest, or lets trap.
///
/// The engine calls these from one thread of its own, at most 20 times a second for each passage.
pub trait Passage: Send + Sync {
    /// The guest's accesses reach the page from now on. If it fails they trap as before.
    fn open(&self) -> std::io::Result<()>;

    /// Makes the guest's accesses trap. When it returns, each store that went to the page has
    /// happened and is seen by the caller, and each later one leads to
    /// [`Ring::doorbell`](crate::Ring::doorbell) or a register write. If it fails, the page is open
    /// as before.
    fn close(&self) -> std::io::Result<()>;
}

/// KVM's coalesced MMIO over the PROD register of one ring.
///
/// The ring of queued writes is one for each VM and the VMM's. Whoever drains it hands each entry
/// to the ring that its address stands for ([`Ring::coalesced`](crate::Ring::coalesced)), in their
/// order and under one lock, from which nothing else of the engine is called. The ring owns its
/// zone, so what finds the ring for an address should not own it.
pub trait CoalescedZone: Send + Sync {
    /// Has the hypervisor queue writes of PROD from now on (KVM_REGISTER_COALESCED_MMIO). It may
    /// still let one exit, when its queue is full. If it fails, all of them exit as before.
    fn open(&self) -> std::io::Result<()>;

    /// Has each write of PROD exit (KVM_UNREGISTER_COALESCED_MMIO). When it returns, each write
    /// is in the queue or exits. If it fails, the zone is open as before.
    fn close(&self) -> std::io::Result<()>;

    /// Hands over what is queued. When it returns, every entry of this zone that was queued before
    /// the call has been handed over. Called often: an empty queue should cost a look at it.
    fn drain(&self);
}

/// A monotonic clock. Only differences count.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

/// The host's own clock.
#[derive(Clone, Copy, Debug)]
pub struct StdClock(Instant);

impl Default for StdClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for StdClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Interrupts go nowhere: for a guest that polls, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInterrupts;

impl Interrupts for NoInterrupts {
    fn pulse(&self, _line: Line) {}

    fn message(&self, _device_id: u32, _msi: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

/// A VMM without stalls, PRI or derived configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassiveStreams;

impl StreamHost for PassiveStreams {
    fn may_block(&self) -> bool {
        false
    }
}

/// The seams of one frame.
#[derive(Clone)]
pub struct Seams {
    /// The guest's memory; exchanged with [`Frame::update_memory`](crate::Frame::update_memory).
    pub memory: Arc<dyn GuestMemory>,
    /// Interrupts.
    pub interrupts: Arc<dyn Interrupts>,
    /// Devices.
    pub streams: Arc<dyn StreamHost>,
}

impl Seams {
    /// Guest memory alone: no interrupts, no derived configuration.
    #[must_use]
    pub fn new(memory: Arc<dyn GuestMemory>) -> Self {
        Self {
            memory,
            interrupts: Arc::new(NoInterrupts),
            streams: Arc::new(PassiveStreams),
        }
    }
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}
