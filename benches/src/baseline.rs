//! The baseline: what a VMM does that consumes synchronously.
//!
//! In the producer's thread, under a mutex, entry by entry: read 16 bytes of guest memory,
//! decode, execute on the same backend as a batch of one. CONS is published at the end. Memory,
//! decoder and backend are the engine's own; what differs is the way of working.

use crate::rig::{BASE, LOG2SIZE, write};
use dispatch::{Backend, Batch, Invalidation};
use smmu_core::command::{Command, Signal};
use smmu_core::decode::decode;
use smmu_core::guest_memory::{GuestMemory, load_le};
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Gpa};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct State {
    cons: QueueIndex,
    batch: Batch,
}

/// See the [module](self).
pub struct Baseline {
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    caps: Capabilities,
    geometry: Geometry,
    state: Mutex<State>,
    cons: AtomicU32,
}

impl fmt::Debug for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Baseline").finish_non_exhaustive()
    }
}

impl Baseline {
    /// Over the same ring, memory and backend as an engine.
    #[must_use]
    pub fn new(memory: Arc<dyn GuestMemory>, backend: Arc<dyn Backend>) -> Self {
        let geometry = Geometry::capped(LOG2SIZE, MAX_LOG2SIZE);
        let state = State {
            cons: geometry.pointer(0),
            batch: Batch::new(),
        };
        Self {
            memory,
            backend,
            caps: crate::rig::capabilities(),
            geometry,
            state: Mutex::new(state),
            cons: AtomicU32::new(0),
        }
    }

    /// Puts commands into the ring, from its first slot on.
    ///
    /// # Panics
    ///
    /// If another thread has died in [`consume`](Self::consume).
    pub fn fill(&self, commands: &[RawCommand]) {
        self.state.lock().expect("nobody has died").cons = self.geometry.pointer(0);
        write(&*self.memory, commands);
    }

    /// A write of PROD: consumes `count` commands. Returns how long that took.
    ///
    /// # Panics
    ///
    /// If a command is illegal: streams to measure with have none.
    pub fn consume(&self, count: usize) -> Duration {
        let start = Instant::now();
        let mut state = self.state.lock().expect("nobody has died");
        let State { cons, batch } = &mut *state;
        let prod = self.geometry.advance(*cons, count as u32);
        while *cons != prod {
            self.execute(self.slot(*cons), batch);
            *cons = self.geometry.advance(*cons, 1);
        }
        self.cons.store(cons.raw(), Ordering::Release);
        drop(state);
        start.elapsed()
    }

    /// CONS as a guest sees it.
    #[must_use]
    pub fn cons(&self) -> u32 {
        self.cons.load(Ordering::Acquire)
    }

    fn slot(&self, at: QueueIndex) -> Gpa {
        Gpa(BASE.0 + u64::from(self.geometry.slot(at)) * RawCommand::BYTES)
    }

    fn execute(&self, slot: Gpa, batch: &mut Batch) {
        let words = self.memory.words(slot, 2).expect("the ring is RAM");
        let raw = RawCommand {
            dw0: load_le(&words[0], Ordering::Relaxed),
            dw1: load_le(&words[1], Ordering::Relaxed),
        };
        match decode(raw, &self.caps).expect("the stream is legal") {
            Command::Tlbi(tlbi) => self.submit(Invalidation::from_tlbi(tlbi), batch),
            Command::AtcInv(inv) => self.submit(Invalidation::from_atc_inv(&inv), batch),
            Command::Sync(Signal::Irq { msi: Some(msi) }) => self
                .memory
                .store_u32(msi.addr, msi.data, Ordering::Release)
                .expect("the message goes into RAM"),
            _ => {}
        }
    }

    fn submit(&self, request: Invalidation, batch: &mut Batch) {
        batch.restart(request.vmid);
        batch.push(request, 0);
        self.backend
            .submit(batch)
            .expect("the software backend takes everything");
    }
}
