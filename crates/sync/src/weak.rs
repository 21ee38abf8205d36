//! Places where a protocol can be weakened on purpose, to show that its model would notice.
//!
//! Every loom model has a twin: the same model with one ordering, fence or step taken away,
//! which must fail. The place names itself with a [`Site`]. In a product build the functions
//! here are the plain fence, the plain ordering and `true`.

use crate::atomic::Ordering;

/// A place that a twin weakens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The fence between publishing work and looking for sleepers.
    BellFence,
    /// The fence between giving up a round and looking whether something is ready.
    VacantFence,
    /// A ready bit that is left behind when another one is taken shows further up again.
    ReadyLeft,
    /// What an inline doorbell leaves is a worker's, for whom the bell rings.
    InlineRest,
    /// A gate's rings are looked at once more when it has been flipped.
    GateRings,
    /// A zone is drained when it has been closed.
    ZoneDrain,
    /// A PROD that comes late does not undo a newer one.
    ProdForward,
    /// The release of PROD in a doorbell.
    ProdPublish,
    /// The release of CONS.
    ConsPublish,
    /// A SYNC's word in the ring comes before CONS.
    OwnWordFirst,
    /// The release of CONS for the other rings of a VINTF.
    LaneCons,
    /// A SYNC executes what other rings of its VINTF have published.
    CoverOthers,
    /// A SYNC asks for the accesses that other rings' accepted invalidations concern.
    CoverUnsynced,
    /// It says that it waits before it asks.
    CoverWaits,
    /// Who has left calls to other threads waits for them.
    FanOutJoin,
    /// A thread that has made such calls wakes who sleeps until they are done.
    FanOutDone,
    /// A call that rings share says whose each request is.
    SharedWaiters,
    /// The fences between a change of what is wanted of a ring and a look at what has come about,
    /// and the other way round.
    EnableFence,
    /// The fences between an error of a VCMDQ and a look at the mask of its interrupt, and the other
    /// way round.
    MaskFence,
    /// The release with which a claim is given up.
    ClaimLeave,
    /// The request to go round again that a claim in use is left with.
    ClaimAgain,
    /// The fence between storing an entry of the translation cache and checking that it is true.
    FillFence,
    /// The fence between the version of a slot of the translation cache and what is filled into it.
    RefillFence,
    /// The fence between what a lookup reads of such a slot and its second look at the version.
    LookupFence,
    /// The look whether the log of sweeps has gone round while it was read.
    LogAgain,
    /// Removed tables are counted before the sweep that removes them has its number.
    TablesFirst,
    /// The acquire with which a walk takes its ticket.
    TicketAcquire,
    /// The fence between opening a guard and looking up.
    GuardFence,
    /// The fence between saying more in an open guard and looking up again.
    GuardRestate,
    /// A port says that it is going to read tables, by which other addresses may name what it uses.
    PortSaysWalk,
    /// The second look of a translation whose guard had said too little.
    PortLooksAgain,
    /// The fence between closing a guard and what its slot says when it is opened again.
    GuardReopen,
    /// An open guard is opened again without forgetting who waits for it.
    GuardLeaked,
    /// The release with which a guard is closed.
    GuardClose,
    /// The request to be woken that a SYNC leaves on a guard.
    GuardWaited,
    /// The comparison with which a walk updates a descriptor.
    TableExchange,
    /// The release of a device's answer to an invalidation of its own cache.
    AtcAnswer,
    /// The fences between an entry of a device's cache and the number of invalidations, and the other
    /// way round.
    AtcFill,
    /// The note that a SYNC waits for such an answer, in the word that counts them.
    AtcWaited,
    /// The look at the open guards when what translations start from has been exchanged.
    WorldGuards,
    /// A watch is passed by as told only when the call that tells has returned.
    WatchTold,
    /// The second look of a translation that leaves the process, behind saying whose it is.
    RemoteLooksAgain,
    /// The release with which an answer of a device in another process is noted.
    RemoteAnswer,
    /// The fences between noting an answer and looking who waits, and the other way round.
    RemoteWaiter,
    /// What has been taken from a device is still said to be there until it has answered.
    RemoteKept,
    /// The release with which a slot of the event queue is said to be written.
    EventWritten,
    /// The fence between saying so and looking whether the slots before are written.
    EventBits,
    /// The release of the event queue's PROD.
    EventProd,
    /// The fences between PROD and a look at CONS, and between CONS and a look at PROD.
    EventEdge,
    /// The fence between noting a SYNC that waits for records and looking at PROD again.
    EventWaiter,
    /// The release of the verdict on a stalled transaction.
    StallVerdict,
    /// The fences between saying that a host reads a stream's contexts and attaching the stream, and between a
    /// context and asking.
    HostContexts,
    /// The release with which a host's backend, or one of its streams, is closed, behind the last abort.
    HostClosed,
    /// What is closed is the generation in which the invalidation failed.
    HostGeneration,
    /// The fences between leaving a record to others and looking whether the queue is writable,
    /// and the other way round.
    StallHeld,
}

#[cfg(loom)]
mod switch {
    use super::Site;
    use std::cell::Cell;

    // Loom runs all threads of a model on the thread that called it.
    std::thread_local!(static WEAK: Cell<Option<Site>> = const { Cell::new(None) });

    /// Runs `model` with one place weakened.
    pub fn weakened<R>(site: Site, model: impl FnOnce() -> R) -> R {
        WEAK.set(Some(site));
        let result = model();
        WEAK.set(None);
        result
    }

    pub(super) fn is_weak(site: Site) -> bool {
        WEAK.get() == Some(site)
    }
}

#[cfg(loom)]
pub use switch::weakened;

#[cfg(loom)]
fn is_weak(site: Site) -> bool {
    switch::is_weak(site)
}

#[cfg(not(loom))]
#[inline(always)]
fn is_weak(_site: Site) -> bool {
    false
}

/// A full fence.
#[inline(always)]
pub fn full_fence(site: Site) {
    if !is_weak(site) {
        crate::atomic::fence(Ordering::SeqCst);
    }
}

/// A fence of the given ordering.
#[inline(always)]
pub fn fence_at(site: Site, ordering: Ordering) {
    if !is_weak(site) {
        crate::atomic::fence(ordering);
    }
}

/// `ordering`, or relaxed in a twin.
#[inline(always)]
#[must_use]
pub fn order(site: Site, ordering: Ordering) -> Ordering {
    if is_weak(site) {
        Ordering::Relaxed
    } else {
        ordering
    }
}

/// Whether a step is taken: always, but in a twin.
#[inline(always)]
#[must_use]
pub fn taken(site: Site) -> bool {
    !is_weak(site)
}
