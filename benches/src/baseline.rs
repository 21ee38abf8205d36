//! The baseline: what a VMM does that consumes synchronously.
//!
//! PROD's write handler takes a lock and consumes until the queue is empty, [one command after the
//! other](crate::one_by_one), in the thread of the producer that wrote PROD. Memory, decoder and
//! backend are the engine's own; what differs is the way of working.

use crate::one_by_one::{Counts, OneByOne, Place};
use dispatch::Backend;
use smmu_core::{Capabilities, GuestMemory};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq::testing::QueueRegisters;

/// GERROR.CMDQ_ERR.
const CMDQ_ERR: u32 = 1;

/// See the [module](self).
pub struct Baseline {
    /// CONS with ERR, as a read of the register sees it.
    shown: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    consumer: Mutex<OneByOne>,
}

impl fmt::Debug for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Baseline").finish_non_exhaustive()
    }
}

impl Baseline {
    /// Over an empty queue in the same memory and with the same backend as an engine.
    #[must_use]
    pub fn new(
        place: Place,
        caps: Capabilities,
        memory: Arc<dyn GuestMemory>,
        backend: Arc<dyn Backend>,
    ) -> Self {
        Self::over(OneByOne::new(place, caps, memory, backend))
    }

    /// Puts a consumer of an empty queue behind the lock.
    #[must_use]
    pub fn over(consumer: OneByOne) -> Self {
        Self {
            shown: AtomicU32::new(0),
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
            consumer: Mutex::new(consumer),
        }
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// The queue is empty and begins at its first slot again.
    pub fn rewind(&self) {
        let mut consumer = self.lock();
        consumer.rewind();
        self.shown.store(consumer.cons(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, OneByOne> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        let difference = self.gerror.load(Ordering::Acquire) ^ self.gerrorn.load(Ordering::Acquire);
        difference & CMDQ_ERR != 0
    }

    /// Consumes until the queue is empty or stops with an error, then shows CONS.
    fn drain(&self, consumer: &mut OneByOne) {
        if self.is_stopped() {
            return;
        }
        let error = consumer.drain().err();
        let shown = consumer.cons() | u32::from(error.unwrap_or(0)) << 24;
        // Release: whoever sees CONS sees what the commands before it did.
        self.shown.store(shown, Ordering::Release);
        if error.is_some() {
            self.gerror.fetch_xor(CMDQ_ERR, Ordering::Release);
        }
    }
}

impl QueueRegisters for Baseline {
    fn write_prod(&self, raw: u32) {
        let mut consumer = self.lock();
        if consumer.publish(raw) {
            self.drain(&mut consumer);
        }
    }

    fn read_cons(&self) -> u32 {
        self.shown.load(Ordering::Acquire)
    }

    fn read_gerror(&self) -> u32 {
        self.gerror.load(Ordering::Acquire)
    }

    fn read_gerrorn(&self) -> u32 {
        self.gerrorn.load(Ordering::Acquire)
    }

    fn write_gerrorn(&self, raw: u32) {
        let mut consumer = self.lock();
        self.gerrorn.store(raw, Ordering::Release);
        self.drain(&mut consumer);
    }
}
