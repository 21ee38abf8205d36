//! Waiting: politely, with a limit, and without letting a slot be reused under a waiter.

use super::queue::{Completion, GuestQueue, QueueError};
use super::reserve::Reservation;
use smmu_core::guest_memory::load_u64;
use smmu_core::ids::Gpa;
use smmu_core::queue_index::QueueIndex;
use smmu_core::spec::register::CmdqCons;
use std::time::{Duration, Instant};
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// How many looks lie between two looks at the clock and at GERROR.
const LOOKS_PER_ROUND: u32 = 16;

/// After so many rounds the other threads of a small machine get their turn.
const BUSY_ROUNDS: u32 = 4;

/// Counts looks; says when it is time to look at the clock, and when it is too late.
#[derive(Debug, Default)]
pub struct Patience {
    looks: u32,
    rounds: u32,
    since: Option<Instant>,
}

impl Patience {
    /// Waits a little. True once in a round: then the caller looks at what is dear.
    pub fn pause(&mut self) -> bool {
        self.looks += 1;
        if self.looks < LOOKS_PER_ROUND {
            vcmdq_sync::hint::spin_loop();
            return false;
        }
        self.looks = 0;
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > BUSY_ROUNDS {
            vcmdq_sync::thread::yield_now();
        }
        true
    }

    /// Whether `limit` has passed since the first call.
    pub fn is_over(&mut self, limit: Duration) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= limit
    }

    /// The queue moves: the limit starts anew.
    pub fn renew(&mut self) {
        self.since = None;
    }
}

/// Who waits for a SYNC: while anybody does, the producers' knowledge of CONS must not pass
/// the waiter's slot, or the slot could be filled again before the waiter has looked.
#[derive(Debug, Default)]
pub struct Waiters(CachePadded<AtomicU32>);

/// Somebody moves CONS: nobody may begin to wait.
const EXCLUSIVE: u32 = 1 << 31;

impl Waiters {
    /// Begins to wait.
    pub(super) fn enter(&self) {
        let join = |count: u32| (count & EXCLUSIVE == 0).then(|| count + 1);
        // Acquire pairs with the Release in `with_nobody_waiting`.
        while self
            .0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, join)
            .is_err()
        {
            vcmdq_sync::hint::spin_loop();
        }
    }

    /// Whether the caller, who waits, is the only one.
    pub(super) fn is_alone(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// Ends waiting. Release: the waiter has looked for the last time.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Does something while nobody waits; false if somebody does.
    pub(super) fn with_nobody_waiting(&self, something: impl FnOnce()) -> bool {
        // Acquire pairs with the Release in `leave`.
        if self
            .0
            .compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        something();
        self.0.store(0, Ordering::Release);
        true
    }
}

/// A SYNC that has been inserted and not been waited for. Dropping it is giving up: its slot
/// may be filled again as soon as CONS has passed it, whether the SYNC has completed or not.
#[derive(Debug)]
#[must_use = "dropping it means not to wait for the SYNC"]
pub struct PendingSync<'a> {
    queue: &'a GuestQueue,
    at: QueueIndex,
}

impl<'a> PendingSync<'a> {
    /// For the SYNC at `at`, which must not have been published yet.
    pub(super) fn new(queue: &'a GuestQueue, at: QueueIndex) -> Self {
        queue.waiters.enter();
        Self { queue, at }
    }

    /// The pointer of the SYNC's slot.
    #[must_use]
    pub fn index(&self) -> QueueIndex {
        self.at
    }

    /// Whether the SYNC has completed, as the queue's [`Completion`] tells.
    pub fn is_done(&self) -> Result<bool, QueueError> {
        let queue = self.queue;
        match queue.settings.completion {
            Completion::Word => {
                // Acquire: what the SYNC waited for has happened.
                let word = load_u64(
                    &*queue.memory,
                    queue.slot_address(self.at),
                    Ordering::Acquire,
                )?;
                Ok(word as u32 == 0)
            }
            Completion::Cons => Ok(queue.has_passed(self.at)),
        }
    }

    /// Waits until the SYNC has completed, serving errors of the queue meanwhile.
    ///
    /// # Errors
    ///
    /// [`QueueError::SyncTimedOut`] when the queue's limit has passed, as the driver's own
    /// "CMD_SYNC timeout".
    pub fn wait(self) -> Result<(), QueueError> {
        let limit = self.queue.settings.patience;
        let mut patience = Patience::default();
        while !self.is_done()? {
            if !patience.pause() {
                continue;
            }
            // An error served does not lengthen the wait: the driver's clock runs on.
            self.queue.serve_error()?;
            if patience.is_over(limit) && !self.is_done()? {
                return Err(QueueError::SyncTimedOut {
                    slot: self.queue.geometry.slot(self.at),
                    waited: limit,
                });
            }
        }
        if self.queue.waiters.is_alone() {
            // Nobody else's slot is at stake: everything up to this SYNC is free.
            let next = self.queue.geometry.advance(self.at, 1);
            self.queue.shadow.advance_cons(next);
        }
        Ok(())
    }
}

impl Drop for PendingSync<'_> {
    fn drop(&mut self) {
        self.queue.waiters.leave();
    }
}

impl GuestQueue {
    /// Waits until `count` slots can be taken, and takes them.
    pub(super) fn reserve(&self, count: u32) -> Result<Reservation, QueueError> {
        let mut patience = Patience::default();
        loop {
            if let Some(taken) = self.shadow.try_reserve(count) {
                return Ok(taken);
            }
            let before = self.shadow.cons();
            let refresh = || self.shadow.advance_cons(self.read_cons());
            if self.waiters.with_nobody_waiting(refresh) && self.shadow.cons() != before {
                patience.renew();
                continue;
            }
            if !patience.pause() {
                continue;
            }
            self.serve_error()?;
            if patience.is_over(self.settings.patience) {
                return Err(QueueError::Full {
                    wanted: count,
                    waited: self.settings.patience,
                });
            }
        }
    }

    /// CONS as the register says now.
    pub(super) fn read_cons(&self) -> QueueIndex {
        let cons = CmdqCons::from_bits(self.registers.read_cons());
        self.geometry.pointer(cons.rd())
    }

    /// Whether CONS lies behind the slot at `at`, which has been published.
    fn has_passed(&self, at: QueueIndex) -> bool {
        // The slot is still ours, so CONS is at most a queue's length ahead of it; before it, the
        // distance comes out as more than that.
        let ahead = self.geometry.published(at, self.read_cons());
        ahead.is_ok_and(|distance| distance > 0)
    }

    /// Where the slot at `at` lies.
    pub(super) fn slot_address(&self, at: QueueIndex) -> Gpa {
        Gpa(self.settings.base.0 + 16 * u64::from(self.geometry.slot(at)))
    }
}
