//! What everybody does: PROD's write handler takes a lock and consumes until the queue is
//! empty, each command on its own, in the thread of the producer that wrote PROD.
//!
//! It is meant to be honest, not bad: entries are read in runs as the engine does, decoded by
//! the same decoder, the backend is the same and is called with a batch of one, nothing is
//! allocated on the way, and CONS is published once, at the end of the drain.

use super::Figures;
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId};
use smmu_core::command::{Command, Signal};
use smmu_core::decode::decode;
use smmu_core::guest_memory::load_le;
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::cerror;
use smmu_core::{Capabilities, Gpa, GuestMemory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq::testing::QueueRegisters;
use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// GERROR.CMDQ_ERR.
const CMDQ_ERR: u32 = 1;

/// A synchronous consumer under a lock.
pub(crate) struct Baseline {
    caps: Capabilities,
    base: Gpa,
    geometry: Geometry,
    memory: Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    /// CONS with ERR, as a read of the register sees it.
    shown: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    state: Mutex<State>,
}

struct State {
    prod: QueueIndex,
    cons: QueueIndex,
    /// Reused.
    batch: Batch,
    /// An ATC_INV since the last SYNC was not answered.
    lost_atc_inv: bool,
    figures: Figures,
}

impl Baseline {
    pub(crate) fn new(
        (base, log2size): (Gpa, u8),
        caps: Capabilities,
        memory: Arc<dyn GuestMemory>,
        backend: Arc<dyn Backend>,
    ) -> Self {
        let geometry = Geometry::capped(log2size, caps.cmdq_log2size());
        let start = geometry.pointer(0);
        Self {
            caps,
            base,
            geometry,
            memory,
            backend,
            shown: AtomicU32::new(0),
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
            state: Mutex::new(State {
                prod: start,
                cons: start,
                batch: Batch::new(),
                lost_atc_inv: false,
                figures: Figures::default(),
            }),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        let difference = self.gerror.load(Ordering::Acquire) ^ self.gerrorn.load(Ordering::Acquire);
        difference & CMDQ_ERR != 0
    }

    /// Consumes until the queue is empty or stops with an error, then shows CONS.
    fn drain(&self, state: &mut State) {
        if self.is_stopped() {
            return;
        }
        state.figures.windows += 1;
        let mut error = cerror::NONE;
        while state.cons != state.prod && error == cerror::NONE {
            error = self.consume_run(state).err().unwrap_or(cerror::NONE);
        }
        let shown = state.cons.raw() | u32::from(error) << 24;
        // Release: whoever sees CONS sees what the commands before it did.
        self.shown.store(shown, Ordering::Release);
        if error != cerror::NONE {
            state.figures.errors += 1;
            self.gerror.fetch_xor(CMDQ_ERR, Ordering::Release);
        }
    }

    /// Consumes the commands from CONS on that lie in one piece of host memory, or says why the
    /// queue stops at one of them, where CONS then stands.
    fn consume_run(&self, state: &mut State) -> Result<(), u8> {
        let published = self.geometry.published(state.cons, state.prod).unwrap_or(0);
        let count = published.min(self.geometry.until_wrap(state.cons)) as usize;
        let at = Gpa(self.base.0 + RawCommand::BYTES * u64::from(self.geometry.slot(state.cons)));
        let words = self.memory.words(at, 2 * count).map_err(|_| cerror::ABT)?;
        if words.len() < 2 {
            return Err(cerror::ABT);
        }
        for entry in words.chunks_exact(2) {
            let [dw0, dw1] = [&entry[0], &entry[1]].map(|word| load_le(word, Ordering::Relaxed));
            self.consume(state, RawCommand { dw0, dw1 })?;
            state.cons = self.geometry.advance(state.cons, 1);
            state.figures.commands += 1;
        }
        Ok(())
    }

    fn consume(&self, state: &mut State, raw: RawCommand) -> Result<(), u8> {
        match decode(raw, &self.caps).map_err(|_| cerror::ILL)? {
            Command::Tlbi(tlbi) => self.execute(state, Invalidation::from_tlbi(tlbi)),
            Command::AtcInv(inv) => self.execute(state, Invalidation::from_atc_inv(&inv)),
            Command::Sync(signal) => return self.sync(state, signal),
            Command::Cfgi(_)
            | Command::PrefetchConfig { .. }
            | Command::PrefetchAddr { .. }
            | Command::PriResp { .. }
            | Command::Resume { .. }
            | Command::StallTerm { .. } => {}
        }
        Ok(())
    }

    fn execute(&self, state: &mut State, request: Invalidation) {
        state.batch.restart(request.vmid);
        state.batch.push(request, 0);
        state.figures.requests += 1;
        state.figures.calls += 1;
        if self.backend.submit(&state.batch).is_err() {
            state.lost_atc_inv = true;
        }
    }

    fn sync(&self, state: &mut State, signal: Signal) -> Result<(), u8> {
        if std::mem::take(&mut state.lost_atc_inv) {
            return Err(cerror::ATC_INV_SYNC);
        }
        while self.backend.barrier(WaiterId(0)) == Barrier::Pending {
            std::thread::yield_now();
        }
        if let Signal::Irq { msi: Some(msi) } = signal {
            // Nobody is told of a message that goes nowhere: its producer gives up.
            let _lost = self.memory.store_u32(msi.addr, msi.data, Ordering::Release);
        }
        state.figures.syncs += 1;
        Ok(())
    }
}

impl QueueRegisters for Baseline {
    fn write_prod(&self, raw: u32) {
        let mut state = self.lock();
        let prod = self.geometry.pointer(raw);
        if self.geometry.published(state.cons, prod).is_ok() {
            state.prod = prod;
            self.drain(&mut state);
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
        let mut state = self.lock();
        self.gerrorn.store(raw, Ordering::Release);
        self.drain(&mut state);
    }
}
