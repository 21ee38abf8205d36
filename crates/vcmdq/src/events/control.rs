//! What control calls do to the event queue, or that of page requests: move it, exchange its memory, stop, save and
//! restore it.
//!
//! A call that rebuilds the queue first sets the word's busy bit, so that nothing can be
//! reserved, then exchanges the shape and waits for those who hold the old one, and only then
//! clears the bit. So no thread ever writes by an old shape into a rebuilt queue: it would have to
//! reserve, and cannot.

use super::queue::{RecordQueue, Shape};
use super::word::{REGISTER_FLAG, REGISTER_POINTER, Word};
use super::written::Written;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::{Gpa, GuestMemory};
use std::convert::Infallible;
use std::sync::Arc;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::sync::MutexGuard;

/// The guest wrote a register that it may write only while EVENTQEN and CR0ACK.EVENTQEN are 0.
/// The write is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event queue is enabled: disable it and wait until it says so")]
pub struct NotDisabled;

/// A saved event queue could not be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventRestoreError {
    /// It runs.
    #[error("the event queue is not paused: pause it before restoring")]
    Running,
    /// A field that no engine writes.
    #[error("event queue: {0} is not a value that it can have")]
    Malformed(&'static str),
}

/// An event queue as plain data (law 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventQueueState {
    /// First record.
    pub base: u64,
    /// Effective size.
    pub log2size: u8,
    /// EVENTQ_PROD: WR and OVFLG.
    pub prod: u32,
    /// EVENTQ_CONS: RD and OVACKFLG.
    pub cons: u32,
    /// GERROR, the bit of the event queue.
    pub gerror: u32,
    /// GERRORN likewise.
    pub gerrorn: u32,
    /// CR0.EVENTQEN.
    pub enabled: bool,
}

impl EventQueueState {
    /// Of a paused queue.
    pub(super) fn of<const N: usize>(queue: &RecordQueue<N>) -> Self {
        let shape = queue.shape.read();
        Self {
            base: shape.base.0,
            log2size: shape.ring.log2size(),
            prod: queue.prod(),
            cons: queue.cons(),
            gerror: queue.gerror(),
            gerrorn: queue.gerrorn(),
            enabled: queue.load().is_enabled(),
        }
    }

    /// Which field no engine writes, if any.
    fn validate(&self, cap: u8, words: usize, error: u32) -> Result<Geometry, EventRestoreError> {
        let malformed = |what| Err(EventRestoreError::Malformed(what));
        if self.log2size > cap.min(MAX_LOG2SIZE) {
            return malformed("LOG2SIZE");
        }
        let ring = Geometry::capped(self.log2size, cap);
        if Shape::align(Gpa(self.base), ring, words) != Gpa(self.base) {
            return malformed("BASE");
        }
        let prod = self.prod & !REGISTER_FLAG;
        if ring.pointer(prod).raw() != prod {
            return malformed("PROD");
        }
        if self.cons & !(REGISTER_FLAG | REGISTER_POINTER) != 0 {
            return malformed("CONS");
        }
        if (self.gerror | self.gerrorn) & !error != 0 {
            return malformed("GERROR");
        }
        Ok(ring)
    }
}

impl<const N: usize> RecordQueue<N> {
    fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(|dead| dead.into_inner())
    }

    /// EVENTQ_BASE: where the queue lies. LOG2SIZE above IDR1.EVENTQS is capped, the base aligned
    /// down to the size. PROD and CONS keep their values as far as the new size has bits for
    /// them. Refused while the queue is enabled. May wait for threads that finish a record.
    pub fn configure(&self, base: Gpa, log2size: u8) -> Result<(), NotDisabled> {
        let ring = Geometry::capped(log2size, self.cap);
        self.rebuild_disabled(|shape, prod| {
            let keep = |word: Word| word.with_cons(masked(ring, word));
            (
                Shape::align(base, ring, N),
                ring,
                ring.pointer(prod),
                shape.memory.clone(),
                keep,
            )
        })
    }

    /// EVENTQ_PROD: WR and OVFLG. Same conditions as [`configure`](Self::configure).
    pub fn write_prod(&self, register: u32) -> Result<(), NotDisabled> {
        self.rebuild_disabled(|shape, _| {
            let prod = shape.ring.pointer(register);
            let flag = |word: Word| word.with_overflow(register & REGISTER_FLAG != 0);
            (shape.base, shape.ring, prod, shape.memory.clone(), flag)
        })
    }

    /// Base, size, pointers, flags and errors as out of reset. Same conditions as
    /// [`configure`](Self::configure).
    pub fn reset(&self) -> Result<(), NotDisabled> {
        let ring = Geometry::capped(0, self.cap);
        self.rebuild_disabled(|shape, _| {
            let clear = |word: Word| {
                word.with_cons(0)
                    .with_overflow(false)
                    .with_error(false, false)
            };
            (Gpa(0), ring, ring.pointer(0), shape.memory.clone(), clear)
        })
    }

    fn rebuild_disabled<F: Fn(Word) -> Word>(
        &self,
        plan: impl FnOnce(&Shape, u32) -> Plan<F>,
    ) -> Result<(), NotDisabled> {
        let _turn = self.control();
        let mut seen = self.load();
        loop {
            if seen.is_enabled() || self.is_in_flight(seen) {
                return Err(NotDisabled);
            }
            match self.swap(seen, seen.with_busy(true)) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        self.rebuild(plan);
        Ok(())
    }

    /// Nothing is in flight and nothing can be reserved. Puts a new shape in the place of the old
    /// one, PROD where the plan says, and lets go.
    fn rebuild<F: Fn(Word) -> Word>(&self, plan: impl FnOnce(&Shape, u32) -> Plan<F>) {
        let shown = self.published.load(Ordering::Acquire);
        let (base, ring, prod, memory, change) = plan(&self.shape.read(), shown as u32);
        let written = Arc::new(Written::new(ring, prod));
        self.exchange(|_| Shape {
            memory,
            base,
            ring,
            written,
        });
        // A lap of the largest queue further on: no compare-and-swap of before can succeed.
        let next = ((shown >> 20) + 1) << 20 | u64::from(prod.raw());
        self.published.store(next, Ordering::Release);
        self.change(|word| {
            let word = change(word).with_ring(ring).with_reserved(prod);
            word.with_busy(false)
        });
    }

    /// Publishes a shape and waits until nobody holds the old one.
    fn exchange(&self, next: impl FnOnce(&Shape) -> Shape) {
        let Ok(()) = self.shape.replace(|old| Ok::<_, Infallible>(next(old)));
    }

    /// Exchanges the map of guest memory. When it returns, nothing uses the old one (law 9);
    /// faulting threads do not wait meanwhile, and no record is lost. Blocks until records that
    /// are being written are done.
    pub fn update_memory(&self, memory: Arc<dyn GuestMemory>) {
        let _turn = self.control();
        self.exchange(|old| Shape {
            memory,
            ..old.clone()
        });
    }

    /// Accepts no records until [`resume`](Self::resume). When it returns, those that were accepted
    /// are visible, their interrupts have been given, and no thread touches guest memory for
    /// the queue (law 10). Faults meanwhile find a full queue: those of stalled transactions wait,
    /// others are dropped and flagged, which a guest must be able to bear.
    pub fn pause(&self) {
        let _turn = self.control();
        self.change(|word| word.with_paused(true));
        // Whoever begins after the exchange sees the bit; it waits for those who began before.
        self.exchange(Shape::clone);
    }

    /// Goes on after [`pause`](Self::pause) or [`restore`](Self::restore).
    pub fn resume(&self) {
        self.change(|word| word.with_paused(false));
    }

    /// Whether the queue is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.load().is_paused()
    }

    /// Puts a saved state into a paused queue. Nothing is changed if it is refused.
    pub fn restore(&self, state: &EventQueueState) -> Result<(), EventRestoreError> {
        let ring = self.check(state)?;
        let _turn = self.control();
        self.change(|word| word.with_busy(true));
        self.rebuild(|shape, _| {
            let put = |word: Word| {
                word.with_cons(state.cons)
                    .with_overflow(state.prod & REGISTER_FLAG != 0)
                    .with_error(state.gerror != 0, state.gerrorn != 0)
                    .with_enabled(state.enabled)
            };
            let prod = ring.pointer(state.prod);
            (Gpa(state.base), ring, prod, shape.memory.clone(), put)
        });
        Ok(())
    }

    /// Whether a state can be restored now.
    pub(crate) fn check(&self, state: &EventQueueState) -> Result<Geometry, EventRestoreError> {
        if !self.is_paused() {
            return Err(EventRestoreError::Running);
        }
        state.validate(self.cap, N, self.kind.error)
    }
}

/// Base, size, PROD, memory, and what else changes in the word.
type Plan<F> = (Gpa, Geometry, QueueIndex, Arc<dyn GuestMemory>, F);

/// CONS with its flag, cut to the size.
fn masked(ring: Geometry, word: Word) -> u32 {
    let flag = if word.overflow_ack() {
        REGISTER_FLAG
    } else {
        0
    };
    ring.pointer(word.cons()).raw() | flag
}
