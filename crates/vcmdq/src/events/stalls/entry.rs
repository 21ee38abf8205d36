//! One entry of the table of stalls.
//!
//! Its word goes through these phases, each step one compare-and-swap:
//!
//! 1. `FREE → CLAIMED`: an accessor fills in the record.
//! 2. `CLAIMED → STALLED` (release): RESUME and STALL_TERM find it.
//! 3. `STALLED → RETRY, ABORT or RAZWI` (release): the verdict, once; the accessor is woken if it said
//!    that it sleeps.
//! 4. `STALLED or verdict → FREE`: the accessor gives it back, with or without a verdict. If
//!    somebody is just writing its record: `→ GONE`, and that thread frees it.
//!
//! Beside the phase runs the record: `RECORDING` is held by the one thread that writes it; it becomes
//! `NONE` when written, or `PENDING` when the queue had no room; whoever makes the queue writable
//! takes it `PENDING → RECORDING`. A verdict ends a pending record.
//!
//! | bits | what |
//! |---|---|
//! | 2:0 | phase |
//! | 4:3 | record |
//! | 5 | the accessor sleeps |
//! | 6 | restored, and no accessor has come for it yet |
//! | 31:8 | generation: how often the entry has been given back |
//! | 63:32 | StreamID |

use super::handle::Resumption;
use smmu_core::StreamId;
use smmu_core::spec::event::EventRecord;
use std::array;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::thread::Parker;
use vcmdq_sync::weak::{Site, order};

const PHASE: u64 = 7;
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const STALLED: u64 = 2;
const RETRY: u64 = 3;
const ABORT: u64 = 4;
const RAZWI: u64 = 5;
const GONE: u64 = 6;

const RECORD: u64 = 3 << 3;
const PENDING: u64 = 1 << 3;
const RECORDING: u64 = 2 << 3;

const SLEEPS: u64 = 1 << 5;
const ORPHAN: u64 = 1 << 6;
const GENERATION: u64 = 0xFF_FFFF << 8;

/// How a step that can meet the end of an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// As intended.
    Yes,
    /// Not, or not by this thread: the transaction has its verdict, or the record's writer frees
    /// the entry.
    No,
    /// The accessor has gone meanwhile and this step has freed the entry.
    Abandoned,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Entry {
    word: AtomicU64,
    record: [AtomicU64; 4],
    bed: Parker,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(FREE),
            record: array::from_fn(|_| AtomicU64::new(0)),
            bed: Parker::new(),
        }
    }
}

/// What an entry holds, for a snapshot.
pub(super) struct Contents {
    pub(super) stream: StreamId,
    pub(super) generation: u32,
    pub(super) verdict: Option<Resumption>,
    pub(super) recorded: bool,
}

fn generation(word: u64) -> u32 {
    ((word & GENERATION) >> 8) as u32
}

fn stream(word: u64) -> StreamId {
    StreamId((word >> 32) as u32)
}

fn freed(word: u64) -> u64 {
    word.wrapping_add(1 << 8) & GENERATION | FREE
}

fn verdict(word: u64) -> Option<Resumption> {
    match word & PHASE {
        RETRY => Some(Resumption::Retry),
        ABORT => Some(Resumption::Abort),
        RAZWI => Some(Resumption::RazWi),
        _ => None,
    }
}

fn phase(verdict: Resumption) -> u64 {
    match verdict {
        Resumption::Retry => RETRY,
        Resumption::Abort => ABORT,
        Resumption::RazWi => RAZWI,
    }
}

impl Entry {
    /// One step: `next` of the present word, if it is there. Returns the word before.
    fn step(&self, success: Ordering, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            match self
                .word
                .compare_exchange(seen, next(seen)?, success, Ordering::Acquire)
            {
                Ok(_) => return Some(seen),
                Err(now) => seen = now,
            }
        }
    }

    /// Step 1. The generation, if the entry was free. One try: whoever is beaten looks elsewhere.
    pub(super) fn claim(&self) -> Option<u32> {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & PHASE != FREE {
            return None;
        }
        let next = seen & GENERATION | CLAIMED;
        self.word
            .compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(generation)
    }

    /// Step 2; the caller goes on to write the record.
    pub(super) fn occupy(&self, of: StreamId, generation: u32, record: &EventRecord) {
        let word = u64::from(of.0) << 32 | u64::from(generation) << 8;
        self.put(word | STALLED | RECORDING, record);
    }

    /// Puts a restored transaction into a free entry.
    pub(super) fn restore(&self, contents: &Contents, record: &EventRecord) {
        let word = u64::from(contents.stream.0) << 32 | u64::from(contents.generation) << 8;
        let phase = contents.verdict.map_or(STALLED, phase);
        let pending = if contents.recorded { 0 } else { PENDING };
        self.put(word | phase | pending | ORPHAN, record);
    }

    fn put(&self, word: u64, record: &EventRecord) {
        for (to, from) in self.record.iter().zip(record.0) {
            to.store(from, Ordering::Relaxed);
        }
        // Release: whoever finds the transaction finds its record.
        self.word.store(word, Ordering::Release);
    }

    pub(super) fn record(&self) -> EventRecord {
        EventRecord(array::from_fn(|n| self.record[n].load(Ordering::Relaxed)))
    }

    /// Step 3, if the entry is stalled and `matches` stream and generation. Returns whether that
    /// ended a pending record.
    pub(super) fn deliver(
        &self,
        verdict: Resumption,
        matches: impl Fn(StreamId, u32) -> bool,
    ) -> bool {
        // Release pairs with the acquire in `verdict`: what the guest did before its RESUME, and
        // what the worker removed for it, is seen by the retry. Model:
        // `events_resume_hands_over`.
        let release = order(Site::StallVerdict, Ordering::AcqRel);
        let before = self.step(release, |word| {
            let hit = word & PHASE == STALLED && matches(stream(word), generation(word));
            let mut next = word & !(PHASE | SLEEPS) | phase(verdict);
            if word & RECORD == PENDING {
                next &= !RECORD;
            }
            hit.then_some(next)
        });
        let Some(before) = before else { return false };
        if before & SLEEPS != 0 {
            self.bed.unpark();
        }
        before & RECORD == PENDING
    }

    pub(super) fn verdict(&self) -> Option<Resumption> {
        verdict(self.word.load(Ordering::Acquire))
    }

    /// Sleeps, unless the verdict is there. May return without one.
    pub(super) fn sleep(&self, limit: Option<Duration>) {
        let stalled = |word: u64| (word & PHASE == STALLED).then_some(word | SLEEPS);
        // One word: the verdict either comes before and is seen here, or after and wakes.
        if self.step(Ordering::AcqRel, stalled).is_some() {
            self.bed.park(limit);
        }
    }

    /// `RECORDING → NONE`: the record is written.
    pub(super) fn recorded(&self) -> Finished {
        self.end_recording(0)
    }

    /// `RECORDING → PENDING`, unless the transaction has ended.
    pub(super) fn hold(&self) -> Finished {
        self.end_recording(PENDING)
    }

    fn end_recording(&self, to: u64) -> Finished {
        let before = self.step(Ordering::AcqRel, |word| {
            Some(match word & PHASE {
                GONE => freed(word),
                STALLED => word & !RECORD | to,
                _ => word & !RECORD,
            })
        });
        match before.map(|word| word & PHASE) {
            Some(GONE) => Finished::Abandoned,
            Some(STALLED) => Finished::Yes,
            _ => Finished::No,
        }
    }

    /// Whether the record waits, by a look that may be late.
    pub(super) fn is_pending(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (PHASE | RECORD) == STALLED | PENDING
    }

    /// `PENDING → RECORDING`: the caller writes the record now.
    pub(super) fn take_pending(&self) -> bool {
        let take = |word: u64| {
            let pending = word & PHASE == STALLED && word & RECORD == PENDING;
            pending.then_some(word & !RECORD | RECORDING)
        };
        self.step(Ordering::AcqRel, take).is_some()
    }

    /// Step 4. Whether a pending record ended with it, and whether the entry is free.
    pub(super) fn release(&self) -> (bool, Finished) {
        let before = self.step(Ordering::AcqRel, |word| {
            Some(match word & RECORD {
                RECORDING => word & !PHASE | GONE,
                _ => freed(word),
            })
        });
        match before.map_or(0, |word| word & RECORD) {
            RECORDING => (false, Finished::No),
            record => (record == PENDING, Finished::Yes),
        }
    }

    /// The accessor of a restored transaction has come. Once, and only for that tag.
    pub(super) fn adopt(&self, matches: impl Fn(StreamId, u32) -> bool) -> bool {
        let take = |word: u64| {
            let hit = word & ORPHAN != 0 && matches(stream(word), generation(word));
            hit.then_some(word & !ORPHAN)
        };
        self.step(Ordering::AcqRel, take).is_some()
    }

    /// What it holds, if it is in use.
    pub(super) fn contents(&self) -> Option<Contents> {
        let word = self.word.load(Ordering::Acquire);
        matches!(word & PHASE, STALLED | RETRY | ABORT | RAZWI).then(|| Contents {
            stream: stream(word),
            generation: generation(word),
            verdict: verdict(word),
            recorded: word & RECORD == 0,
        })
    }
}
