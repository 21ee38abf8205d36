//! A thread that unwinds while it works on a ring, because a backend or a callback of the VMM's has
//! panicked.
//!
//! The thread goes on. What was fetched from CONS onwards is forgotten and read again (law 6), so the
//! guest loses nothing. If that ends so again and again at the same CONS, the frame's instances fail
//! closed, the VMM is told, and the ring is not served any more: it is stopped for good, which the
//! guest sees as a queue that does not go on.

use crate::consumer::Consumer;
use crate::ring::Ring;
use crate::window::Desk;
use dispatch::Cause;
use smmu_core::queue_index::QueueIndex;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// So many at the same CONS are the last.
const MOST: u8 = 3;

/// Those of one ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deaths {
    at: Option<QueueIndex>,
    count: u8,
}

impl Deaths {
    /// Whether the ring is not served any more.
    #[inline]
    pub(crate) fn is_given_up(&self) -> bool {
        self.count >= MOST
    }

    /// One more. Whether it was the last.
    fn add(&mut self, cons: QueueIndex) -> bool {
        if self.is_given_up() {
            return false;
        }
        if self.at.replace(cons) != Some(cons) {
            self.count = 0;
        }
        self.count += 1;
        self.is_given_up()
    }
}

/// Works on a ring. `None`, if that has unwound: then the ring is ready, or given up.
#[inline]
pub(super) fn survive<R>(
    ring: &Ring,
    desk: &mut Desk,
    work: impl FnOnce(&mut Desk) -> R,
) -> Option<R> {
    let done = try_once(ring, desk, work);
    if done.is_none() {
        has_died(ring);
    }
    done
}

/// The same, if it is not known whose end it was: nothing is charged to the ring.
#[inline]
pub(crate) fn try_once<R>(
    ring: &Ring,
    desk: &mut Desk,
    work: impl FnOnce(&mut Desk) -> R,
) -> Option<R> {
    // A model that fails does so by unwinding, which must not be caught.
    if cfg!(loom) {
        return Some(work(desk));
    }
    let done = catch_unwind(AssertUnwindSafe(|| work(desk))).ok();
    if done.is_none() {
        desk.clear();
        ring.bell.count_panic();
        let ring = ring.index;
        tracing::error!(
            ring,
            "a thread has died by a panic while it served the ring"
        );
    }
    done
}

/// The claim was given up on the way.
#[cold]
fn has_died(ring: &Ring) {
    if let Some(mut claim) = ring.consumer.enter() {
        claim.with(|consumer| consumer.has_died(ring));
        ring.release(claim);
    }
    // Also for whoever came meanwhile and was not told so.
    ring.rouse();
}

impl Consumer {
    fn has_died(&mut self, ring: &Ring) {
        self.forget_window(ring);
        if self.deaths.add(self.cons) {
            self.give_up(ring);
        }
    }

    fn give_up(&self, ring: &Ring) {
        ring.bell.count_broken();
        tracing::error!(
            ring = ring.index,
            cons = self.cons.raw(),
            "given up: whoever serves it dies at this command"
        );
        let host = &self.frame.host;
        // They may panic as well.
        for instance in &self.instances {
            let _ = catch_unwind(AssertUnwindSafe(|| instance.backend.fail_closed(None)));
            let tell = || host.failed_closed(instance.id, None, Cause::Gone);
            let _ = catch_unwind(AssertUnwindSafe(tell));
        }
    }
}
