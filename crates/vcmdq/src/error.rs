//! What can go wrong between a VMM and the engine. What a guest does wrong is never here.

use crate::cmdqv::CmdqvStateError;
use crate::events::{EventRestoreError, SinkRestoreError};
use crate::instance::{InstanceId, Placement};
use smmu_core::{Gpa, StreamId};

/// An engine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A number of workers that cannot be had.
    #[error("{0} workers: choose 1 to 64")]
    Workers(usize),
    /// A number of rings that cannot be had.
    #[error("room for {0} rings: choose 1 to 4096")]
    Rings(usize),
    /// A worker that may take no command.
    #[error(
        "a slice of no time: a worker must be allowed to take a command; choose some microseconds"
    )]
    Slice,
    /// Workers that spin without ever giving way, on fewer cores.
    #[error(
        "{workers} workers spin without yielding on {cores} cores: choose fewer, or a \
         Settings::yield_after below Settings::spin"
    )]
    Spinning {
        /// Settings::workers.
        workers: usize,
        /// What the host offers.
        cores: usize,
    },
    /// A doorbell that consumes nothing, or more than a window.
    #[error("inline doorbells of {0} commands: choose 1 to 256, or None for none")]
    Inline(u32),
    /// The VMM's thread seam failed.
    #[error("worker {worker} could not be spawned")]
    Spawn {
        /// Which one.
        worker: usize,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

/// A ring could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The engine is full.
    #[error("the engine has room for {0} rings; raise Settings::max_rings")]
    Full(usize),
    /// The shared page is too small.
    #[error("the shared page has {0} words; a queue's window has at least 6")]
    PageTooSmall(usize),
    /// The page cannot be mapped into the guest.
    #[error("the shared page is at {0:#x} in this process: choose a multiple of 4096")]
    PageMisaligned(usize),
    /// Guest and engine would not see each other's stores.
    #[error(
        "the shared page is not coherent on this host: an Arm host needs FEAT_S2FWB, and \
         RingPage::is_coherent has to say so; trap doorbells instead"
    )]
    PageNotCoherent,
    /// The VMM's thread seam failed.
    #[error("the thread that opens and closes doorbells' ways could not be spawned: {0}")]
    ControlThread(std::io::ErrorKind),
    /// PROD is to lie where no aligned word of guest memory is.
    #[error("PROD at {0}: choose an address of guest memory that is a multiple of 4")]
    ProdNotMemory(Gpa),
    /// Another ring has this doorbell.
    #[error("another ring has this doorbell: each needs a page, a PROD and an eventfd of its own")]
    DoorbellTaken,
    /// The kernel does not let a worker sleep on the eventfd.
    #[error("a worker cannot sleep on this eventfd: {0}")]
    EventFd(std::io::ErrorKind),
}

/// An instance could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The VMM's thread seam failed.
    #[error("a thread for calls that can block could not be spawned: {0}")]
    Spare(std::io::ErrorKind),
}

/// A ring could not be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It is none of the frame's.
    #[error("the frame has no such ring")]
    NotOfFrame,
    /// It stands behind registers.
    #[error("the ring belongs to the frame's registers, or to its CMDQV: drop the frame")]
    OfRegisters,
}

/// A ring could not be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// It is running.
    #[error("the ring is enabled: disable it and wait until it says so")]
    Enabled,
}

/// A stream could not be bound (law 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No such instance.
    #[error("the frame has no instance {0:?}")]
    UnknownInstance(InstanceId),
    /// The stream is bound.
    #[error("stream {stream} is bound to instance {to:?}; unbind it first")]
    Bound {
        /// The stream.
        stream: StreamId,
        /// Where it is bound.
        to: InstanceId,
    },
    /// The stream is behind another physical SMMU.
    #[error(
        "stream {stream} is behind physical SMMU {} but its instance is on {}: \
         bind it to an instance of its own SMMU", .theirs.smmu, .ours.smmu
    )]
    OtherSmmu {
        /// The stream.
        stream: StreamId,
        /// Where the stream is.
        theirs: Placement,
        /// Where the instance is.
        ours: Placement,
    },
    /// The stream uses another stage 2.
    #[error(
        "stream {stream} uses stage 2 {} but its instance has {}: \
         all streams of an instance share one", .theirs.stage2, .ours.stage2
    )]
    OtherStage2 {
        /// The stream.
        stream: StreamId,
        /// What the stream uses.
        theirs: Placement,
        /// What the instance has.
        ours: Placement,
    },
    /// Nothing to unbind.
    #[error("stream {0} is not bound")]
    NotBound(StreamId),
    /// The StreamID has more bits than the frame advertises.
    #[error("stream {0} is beyond IDR1.SIDSIZE")]
    BeyondSidSize(StreamId),
}

/// A saved state could not be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The frame runs.
    #[error("the frame is not paused: pause it before restoring")]
    Running,
    /// Other identification registers (law 10).
    #[error("the saved frame advertises other capabilities; create this one with the same")]
    Capabilities,
    /// The events could not be put back.
    #[error(transparent)]
    Events(#[from] SinkRestoreError),
    /// The PRI queue could not be put back.
    #[error("PRI queue: {0}")]
    Pages(#[source] EventRestoreError),
    /// The CMDQV could not be put back.
    #[error(transparent)]
    Cmdqv(#[from] CmdqvStateError),
    /// Another number of rings.
    #[error("the saved frame has {saved} rings, this one {here}")]
    Rings {
        /// Saved.
        saved: usize,
        /// Present.
        here: usize,
    },
    /// A field that no engine writes.
    #[error("ring {ring}: {what} is not a value that a ring can have")]
    Malformed {
        /// Index of the ring.
        ring: usize,
        /// Field.
        what: &'static str,
    },
}
