//! The event queue (IHI 0070, 3.5, 7.2 to 7.4): many faulting threads write, the guest reads.
//!
//! Rules:
//!
//! 1. A thread reserves a slot by one compare-and-swap on the word that decides (`word`), having
//!    looked up the slot's memory first: what is reserved can always be written.
//! 2. It writes the record, reports it to the dirty log, and turns the slot's bit (`written`).
//! 3. Then, behind a full fence, it moves PROD over every slot from PROD on whose bit is turned.
//!    Of several threads that finish at the same time the last to pass its fence sees
//!    all the others' bits, so nothing stays unpublished; and nobody waits for a slower one:
//!    what lies behind a slot that is not written yet is published by whoever writes that.
//! 4. Who moves PROD away from where CONS stands pulses the interrupt. The full fence between the
//!    two pairs with the one behind a write of CONS: a guest that has said "empty" and then looks at
//!    PROD once more either sees the record or is interrupted.
//!
//! 5. Behind the same fence it wakes the rings whose SYNC waits for records (`waiters`).
//!
//! The PRI queue is the same with records of two words, but that it takes nothing until an overflow has been
//! acknowledged (`Kind`).
//!
//! A thread holds the queue's `Shape` from before the reservation until after the interrupt;
//! control calls exchange it and wait for those who hold the old one.

use super::control::EventQueueState;
use super::metrics::{Counters, EventMetrics};
use super::waiters::Waiters;
use super::word::Word;
use super::written::Written;
use crate::gerror::gerror_bits;
use crate::seams::{Interrupts, Line};
use arrayvec::ArrayVec;
use dispatch::{Barrier, WaiterId, Wake};
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::event::EventRecord;
use smmu_core::{Gpa, GuestMemory, MemoryError};
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::sync::Mutex;
use vcmdq_sync::weak::{Site, full_fence, order};

/// Why a record cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unwritable {
    /// EVENTQEN is 0.
    #[error("the event queue is disabled")]
    Disabled,
    /// EVENTQ_ABT_ERR is active: the queue lies where there is no memory.
    #[error("the event queue has stopped at an abort that the guest has not acknowledged")]
    Error,
    /// The VMM has paused the frame; counts as full.
    #[error("the event queue is paused")]
    Paused,
    /// No slot is free.
    #[error("the event queue is full")]
    Full,
}

/// A place in the stream of records; see [`EventQueue::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// Where the queue lies, as long as nobody changes it.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) memory: Arc<dyn GuestMemory>,
    pub(super) base: Gpa,
    pub(super) ring: Geometry,
    pub(super) written: Arc<Written>,
}

/// The words of a slot.
pub(super) type Words<'m, const N: usize> = ArrayVec<&'m AtomicU64, N>;

impl Shape {
    /// The base is aligned down to the size of the queue, at least 32 bytes (IHI 0070, 6.3.29).
    pub(super) fn align(base: Gpa, ring: Geometry, words: usize) -> Gpa {
        let bytes = u64::from(ring.entries()) * 8 * words as u64;
        Gpa(base.0 & !(bytes.max(32) - 1))
    }

    /// The words of a slot, to be written; they may lie in several pieces of memory.
    pub(super) fn slot<const N: usize>(
        &self,
        at: QueueIndex,
    ) -> Result<(Gpa, Words<'_, N>), MemoryError> {
        let first = Gpa(self.base.0 + u64::from(self.ring.slot(at)) * 8 * N as u64);
        let run = self.memory.words_to_write(first, N)?;
        if run.len() >= N {
            return Ok((first, run.iter().take(N).collect()));
        }
        let word = |n: usize| {
            let at = Gpa(first.0 + 8 * n as u64);
            let run = self.memory.words_to_write(at, 1)?;
            run.first().ok_or(MemoryError::NotBacked(first))
        };
        Ok((first, (0..N).map(word).collect::<Result<_, _>>()?))
    }
}

/// What tells the queues of a frame apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Its bit in GERROR.
    pub(super) error: u32,
    line: Line,
    /// Nothing is written until an overflow has been acknowledged.
    stops: bool,
}

impl Kind {
    pub(super) const EVENTS: Self = Self {
        error: gerror_bits::EVENTQ_ABT_ERR,
        line: Line::EventQueue,
        stops: false,
    };
    pub(super) const PAGES: Self = Self {
        error: gerror_bits::PRIQ_ABT_ERR,
        line: Line::PriQueue,
        stops: true,
    };

    fn refusal(self, word: Word, ring: Geometry) -> Option<Unwritable> {
        if self.stops {
            word.refusal_until_acknowledged(ring)
        } else {
            word.refusal(ring)
        }
    }
}

/// The event queue of a frame. See the [module](self) for how, [`super`] for who may call what.
pub type EventQueue = RecordQueue<4>;

/// A queue of records of `N` words that many threads write and the guest reads.
pub struct RecordQueue<const N: usize> {
    pub(super) kind: Kind,
    pub(super) word: CachePadded<AtomicU64>,
    /// How many records have ever been published, in steps of whole laps after a control call; its
    /// low bits are PROD. It only grows, so a late compare-and-swap never succeeds by accident.
    pub(super) published: CachePadded<AtomicU64>,
    pub(super) shape: Snapshot<Shape>,
    /// Control calls exclude each other.
    pub(super) control: Mutex<()>,
    /// Log2 of the largest queue: IDR1.EVENTQS.
    pub(super) cap: u8,
    waiters: Waiters,
    /// Interrupt whenever PROD moves; of the PRI queue only.
    each: AtomicBool,
    interrupts: Arc<dyn Interrupts>,
    pub(super) counters: Counters,
}

impl<const N: usize> fmt::Debug for RecordQueue<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordQueue")
            .field("kind", &self.kind)
            .field("word", &self.load())
            .field("prod", &self.prod())
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

enum Fate<'m, const N: usize> {
    Written(QueueIndex, Gpa, Words<'m, N>),
    Refused(Unwritable),
}

impl EventQueue {
    /// A disabled queue of one record at address zero: [`configure`](Self::configure) moves it.
    /// `cap` is log2 of the largest queue (IDR1.EVENTQS). The interrupts are called from any thread
    /// that faults.
    #[must_use]
    pub fn new(cap: u8, memory: Arc<dyn GuestMemory>, interrupts: Arc<dyn Interrupts>) -> Self {
        Self::of(Kind::EVENTS, cap, memory, interrupts)
    }

    /// Records an event of a transaction that does not stall. If there is no room the record is
    /// dropped and OVFLG toggled, unless it is active already; with EVENTQEN=0, or while
    /// EVENTQ_ABT_ERR is active, it is only dropped. From any thread, never waits.
    pub fn push(&self, record: &EventRecord) -> Result<(), Unwritable> {
        self.push_words(&record.0)
    }

    /// Records the event of a stalled transaction. If that is not possible now the caller keeps
    /// the record and tries again when the queue has become writable, which a write of CONS, an
    /// enable, an acknowledgement or a resumption can bring about; OVFLG stays as it is. From any
    /// thread, never waits.
    pub fn try_push(&self, record: &EventRecord) -> Result<(), Unwritable> {
        self.append(&record.0, false)
    }

    /// Records have been lost before they got here, such as in a host's queue: counted, and OVFLG
    /// toggles as if they had found this queue full, unless it is active already or EVENTQEN is 0. From any
    /// thread, never waits.
    pub fn lost(&self, count: u64) {
        self.counters.lost(count);
        self.change(|word| match word.is_enabled() {
            true => word.overflowed(),
            false => word,
        });
    }
}

impl<const N: usize> RecordQueue<N> {
    /// A disabled queue of one record at address zero.
    pub(super) fn of(
        kind: Kind,
        cap: u8,
        memory: Arc<dyn GuestMemory>,
        interrupts: Arc<dyn Interrupts>,
    ) -> Self {
        let ring = Geometry::capped(0, cap);
        let shape = Shape {
            memory,
            base: Gpa(0),
            ring,
            written: Arc::new(Written::new(ring, ring.pointer(0))),
        };
        Self {
            kind,
            word: CachePadded::new(AtomicU64::new(Word::default().0)),
            published: CachePadded::new(AtomicU64::new(0)),
            shape: Snapshot::new(shape),
            control: Mutex::new(()),
            cap,
            waiters: Waiters::default(),
            each: AtomicBool::new(false),
            interrupts,
            counters: Counters::default(),
        }
    }

    pub(super) fn load(&self) -> Word {
        // Acquire pairs with every change of the word: a slot that CONS has passed has been read.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Changes the word; returns what it was.
    pub(super) fn change(&self, change: impl Fn(Word) -> Word) -> Word {
        let mut seen = self.load();
        while let Err(now) = self.swap(seen, change(seen)) {
            seen = now;
        }
        seen
    }

    pub(super) fn swap(&self, old: Word, new: Word) -> Result<(), Word> {
        self.word
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }

    /// Writes a record. If there is no room it is dropped and OVFLG toggled, unless it is active already.
    pub(super) fn push_words(&self, record: &[u64; N]) -> Result<(), Unwritable> {
        self.append(record, true)
            .inspect_err(|why| self.counters.dropped(*why))
    }

    /// Whether a record could be written now.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let ring = self.shape.read().ring;
        self.kind.refusal(self.load(), ring).is_none()
    }

    fn append(&self, record: &[u64; N], droppable: bool) -> Result<(), Unwritable> {
        let shape = self.shape.read();
        let mut seen = self.load();
        loop {
            let (next, fate) = decide(&shape, self.kind, seen, droppable);
            // A decision that changes nothing was right when the word was loaded.
            if next != seen {
                if let Err(now) = self.swap(seen, next) {
                    seen = now;
                    continue;
                }
                if next.error() != seen.error() {
                    self.interrupts.pulse(Line::Gerror);
                }
            }
            return match fate {
                Fate::Refused(why) => Err(why),
                Fate::Written(at, first, words) => {
                    write(&*shape.memory, first, &words, record);
                    shape.written.set(at);
                    // Rule 3. Without it two threads may each miss the other's bit, and a record
                    // stays unpublished. Model: `events_every_record_is_published`.
                    full_fence(Site::EventBits);
                    self.publish(&shape);
                    self.counters.written();
                    Ok(())
                }
            };
        }
    }

    /// Moves PROD over all that is written from it on.
    fn publish(&self, shape: &Shape) {
        let ring = shape.ring;
        let mut from = self.published.load(Ordering::Acquire);
        loop {
            let at = ring.pointer(from as u32);
            let written = |n: &u32| shape.written.get(ring.advance(at, *n));
            let count = (0..ring.entries()).take_while(written).count() as u64;
            if count == 0 {
                return;
            }
            // Release pairs with the acquire in `prod`: a guest that sees PROD sees the records.
            // Model: `events_record_is_whole_when_prod_shows_it`.
            let release = order(Site::EventProd, Ordering::AcqRel);
            match self
                .published
                .compare_exchange(from, from + count, release, Ordering::Acquire)
            {
                Ok(_) => return self.published_from(ring, at),
                Err(now) => from = now,
            }
        }
    }

    fn published_from(&self, ring: Geometry, at: QueueIndex) {
        // Rules 4 and 5; pairs with the fences in `write_cons` and `barrier`. Models:
        // `events_interrupt_is_not_lost`, `law3_sync_waits_for_an_event_behind_a_slower_one`.
        full_fence(Site::EventEdge);
        self.waiters.wake();
        let first = ring.pointer(self.load().cons()) == at;
        if first || self.kind.stops && self.each.load(Ordering::Relaxed) {
            self.interrupts.pulse(self.kind.line);
        }
    }

    /// Who is told when a [`barrier`](Self::barrier) that was pending may be done. The first call
    /// counts: a queue belongs to one engine. Frames do it for their own.
    pub fn attach(&self, wake: Arc<dyn Wake>) {
        self.waiters.attach(wake);
    }

    /// A place behind every record that has been accepted by now. A SYNC that waits for the events
    /// of aborted accesses (law 3) takes one and asks for the [`barrier`](Self::barrier). From any
    /// thread, never waits.
    #[must_use]
    pub fn mark(&self) -> Mark {
        // In this order: what PROD passes meanwhile makes the mark earlier only by records that it
        // shows already.
        let shown = self.published.load(Ordering::Acquire);
        let word = self.load();
        if word.is_busy() {
            // While the queue is rebuilt nothing is in flight, and the pointers do not agree.
            return Mark(shown);
        }
        let ring = word.ring();
        let (from, to) = (ring.pointer(shown as u32), ring.pointer(word.reserved()));
        let ahead = to.raw().wrapping_sub(from.raw()) & (2 * ring.entries() - 1);
        Mark(shown + u64::from(ahead))
    }

    /// Whether PROD shows every record before the mark.
    #[must_use]
    pub fn is_visible(&self, mark: Mark) -> bool {
        self.published.load(Ordering::Acquire) >= mark.0
    }

    /// [`is_visible`](Self::is_visible) for somebody who sleeps meanwhile: if the answer is
    /// [`Barrier::Pending`], `waiter` is woken when PROD has moved, and asks again. From any thread,
    /// never waits.
    #[must_use]
    pub fn barrier(&self, mark: Mark, waiter: WaiterId) -> Barrier {
        if !self.is_visible(mark) {
            self.waiters.note(waiter);
            // Pairs with the fence in `published_from`.
            full_fence(Site::EventWaiter);
            if !self.is_visible(mark) {
                return Barrier::Pending;
            }
        }
        Barrier::Done
    }

    /// From now on an interrupt is given whenever PROD moves, or only when the queue was empty. Who makes it
    /// move may show others' records, so it is all or none.
    pub(super) fn interrupt_on_each(&self, each: bool) {
        self.each.store(each, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(super) fn interrupts_on_each(&self) -> bool {
        self.each.load(Ordering::Relaxed)
    }

    /// Shows the map of guest memory that the queue lies in.
    pub(super) fn with_memory<R>(&self, show: impl FnOnce(&dyn GuestMemory) -> R) -> R {
        show(&*self.shape.read().memory)
    }

    /// Counters since the queue was made.
    #[must_use]
    pub fn metrics(&self) -> EventMetrics {
        self.counters.read()
    }

    /// The state as plain data. Pauses the queue if it is not paused.
    #[must_use]
    pub fn save(&self) -> EventQueueState {
        self.pause();
        EventQueueState::of(self)
    }
}

/// What becomes of a record, and the word with it. A function of its arguments and of the map.
fn decide<const N: usize>(
    shape: &Shape,
    kind: Kind,
    seen: Word,
    droppable: bool,
) -> (Word, Fate<'_, N>) {
    if let Some(why) = kind.refusal(seen, shape.ring) {
        let overflow = matches!(why, Unwritable::Full | Unwritable::Paused);
        let next = if droppable && overflow {
            seen.overflowed()
        } else {
            seen
        };
        return (next, Fate::Refused(why));
    }
    let at = shape.ring.pointer(seen.reserved());
    match shape.slot(at) {
        Ok((first, words)) => (seen.reserve(shape.ring), Fate::Written(at, first, words)),
        Err(_) => (seen.failed(), Fate::Refused(Unwritable::Error)),
    }
}

/// Relaxed: the slot's bit, then PROD, publish the words.
fn write<const N: usize>(
    memory: &dyn GuestMemory,
    first: Gpa,
    words: &Words<'_, N>,
    record: &[u64; N],
) {
    for (word, value) in words.iter().zip(record) {
        word.store(value.to_le(), Ordering::Relaxed);
    }
    memory.mark_dirty(first, 8 * N);
}
