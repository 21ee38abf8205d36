//! Transactions that wait for the guest: STAG, RESUME and STALL_TERM (IHI 0070, 3.12.2, 4.6).
//!
//! A stalled transaction is an entry of a bounded table. The accessor holds a [`StalledAccess`]
//! and polls it, or sleeps in it, until the guest's verdict comes; then it translates anew,
//! aborts, or reads zero. **It must hold no guard meanwhile** (law 3): the guest removes the old
//! translation, waits for the SYNC behind it, and only then sends RESUME, possibly in the same
//! ring; a guard that is held across a stall would make that SYNC wait for the RESUME behind it.
//! Drop the guard before [`EventSink::fault`](super::EventSink::fault) is called, take a new one
//! after [`Resumption::Retry`].
//!
//! The rules of an entry's life stand in `entry`.

mod entry;
mod handle;
mod state;

use super::queue::EventQueue;
use entry::{Entry, Finished};
use smmu_core::command::ResumeAction;
use smmu_core::translate::Failed;
use smmu_core::{Stag, StreamId};
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, full_fence};

pub use handle::{Resumption, StalledAccess};
pub use state::{StallState, StallsRestoreError};

/// The most transactions that one frame can have stalled, whatever IDR5.STALL_MAX says: STALL_TERM
/// looks at each entry.
pub const MAX_STALLS: u16 = 4096;

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many transactions are stalled as the table has room for")]
pub struct Full;

/// The stalled transactions of a frame. All methods: from any thread, without a lock (waking a
/// sleeper is a system call), never waiting.
#[derive(Debug)]
pub struct Stalls {
    entries: Box<[Entry]>,
    /// Bits of a STAG that are the index of its entry.
    index_bits: u32,
    term_model: bool,
    /// Entries in use; counted up before one is taken and down after it has been given back.
    used: AtomicU32,
    /// Entries whose record waits for the queue; counted up before and down after.
    pending: AtomicU32,
    /// Where to look for a free entry.
    hint: AtomicU32,
    exhausted: AtomicU64,
}

impl Stalls {
    /// Room for `max` transactions (IDR5.STALL_MAX), at least one, at most [`MAX_STALLS`].
    /// `term_model` is IDR0.TERM_MODEL: terminating means aborting.
    #[must_use]
    pub fn new(max: u16, term_model: bool) -> Arc<Self> {
        let entries = u32::from(max.clamp(1, MAX_STALLS));
        Arc::new(Self {
            entries: (0..entries).map(|_| Entry::default()).collect(),
            index_bits: entries.next_power_of_two().trailing_zeros(),
            term_model,
            used: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            hint: AtomicU32::new(0),
            exhausted: AtomicU64::new(0),
        })
    }

    /// Stalls a transaction: gives it a tag and records its event, now or as soon as the queue has
    /// room. The caller holds no guard.
    pub fn stall(
        self: &Arc<Self>,
        failed: &Failed,
        queue: &EventQueue,
    ) -> Result<StalledAccess, Full> {
        let Some((index, generation)) = self.take() else {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        };
        let stag = self.stag(index, generation);
        let record = failed.record(Some(stag));
        // Known before it is recorded: the guest may answer at once.
        self.entries[index].occupy(failed.transaction.stream, generation, &record);
        self.offer(index, queue);
        Ok(StalledAccess::new(self.clone(), index, stag))
    }

    /// RESUME: delivers the guest's verdict. No effect if no transaction of the stream waits under
    /// the tag.
    pub fn resume(&self, stream: StreamId, stag: Stag, action: ResumeAction) {
        let verdict = match action {
            ResumeAction::Retry => Resumption::Retry,
            ResumeAction::Terminate if !self.term_model => Resumption::RazWi,
            ResumeAction::Abort | ResumeAction::Terminate => Resumption::Abort,
        };
        let index = self.index(stag);
        let Some(entry) = self.entries.get(index) else {
            return;
        };
        let matches =
            |of: StreamId, generation: u32| of == stream && self.stag(index, generation) == stag;
        self.deliver(entry, verdict, matches);
    }

    /// STALL_TERM: aborts every stalled transaction of a stream.
    pub fn terminate(&self, stream: StreamId) {
        self.abort_where(|of| of == stream);
    }

    /// SMMUEN has become 0: aborts every stalled transaction.
    pub fn terminate_all(&self) {
        self.abort_where(|_| true);
    }

    fn abort_where(&self, which: impl Fn(StreamId) -> bool) {
        if self.used.load(Ordering::Acquire) == 0 {
            return;
        }
        for entry in &self.entries {
            self.deliver(entry, Resumption::Abort, |stream, _| which(stream));
        }
    }

    /// A record that waits is not written any more: its transaction has ended.
    fn deliver(&self, entry: &Entry, verdict: Resumption, matches: impl Fn(StreamId, u32) -> bool) {
        if entry.deliver(verdict, matches) {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Transactions that are stalled, or resumed and not given back yet.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.used.load(Ordering::Acquire) as usize
    }

    /// Stalls that were refused because the table was full.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// The queue may have become writable: writes the records that wait, each once, as far as there
    /// is room. Looks at the table only if there are any.
    pub fn retry_records(&self, queue: &EventQueue) {
        // Pairs with the fence in `offer`: either this sees that a record waits, or the thread that
        // leaves it sees that the queue is writable. Model: `events_a_held_record_is_written`.
        full_fence(Site::StallHeld);
        if self.pending.load(Ordering::Relaxed) == 0 {
            return;
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if !entry.is_pending() {
                continue;
            }
            if !queue.is_writable() {
                return;
            }
            if entry.take_pending() {
                self.pending.fetch_sub(1, Ordering::Relaxed);
                self.offer(index, queue);
            }
        }
    }

    /// Writes the record of an entry, or leaves it to whoever makes the queue writable. Only the
    /// thread that has put the entry into `RECORDING` calls this, so each record is written once.
    fn offer(&self, index: usize, queue: &EventQueue) {
        let entry = &self.entries[index];
        loop {
            if queue.try_push(&entry.record()).is_ok() {
                if entry.recorded() == Finished::Abandoned {
                    self.give_back();
                }
                return;
            }
            self.pending.fetch_add(1, Ordering::Relaxed);
            match entry.hold() {
                Finished::Yes => {}
                ended => {
                    self.pending.fetch_sub(1, Ordering::Relaxed);
                    if ended == Finished::Abandoned {
                        self.give_back();
                    }
                    return;
                }
            }
            full_fence(Site::StallHeld);
            // Goes round again only if the queue has been made writable meanwhile.
            if !queue.is_writable() || !entry.take_pending() {
                return;
            }
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<(usize, u32)> {
        let room = self.entries.len() as u32;
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            if used == room {
                return None;
            }
            // Acquire pairs with `give_back`: at least one entry can be seen to be free.
            let (more, acquire) = (used + 1, Ordering::Acquire);
            match self
                .used
                .compare_exchange(used, more, acquire, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => used = now,
            }
        }
        // So many entries are free as may still be taken, at any time: who finds none was beaten to
        // what lay before him while another one was given back behind him, and looks again.
        loop {
            let start = self.hint.fetch_add(1, Ordering::Relaxed);
            let found = (0..room).find_map(|n| {
                let index = (start.wrapping_add(n) % room) as usize;
                Some((index, self.entries[index].claim()?))
            });
            if found.is_some() {
                return found;
            }
            vcmdq_sync::hint::spin_loop();
        }
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Release);
    }

    /// The accessor is done with an entry.
    fn release(&self, index: usize) {
        let (was_pending, finished) = self.entries[index].release();
        if was_pending {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        if finished == Finished::Yes {
            self.give_back();
        }
    }

    fn stag(&self, index: usize, generation: u32) -> Stag {
        Stag(((generation << self.index_bits) | index as u32) as u16)
    }

    fn index(&self, stag: Stag) -> usize {
        usize::from(stag.0) & ((1 << self.index_bits) - 1)
    }
}
