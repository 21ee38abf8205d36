//! Command by command: each is decoded, and executed by a call to the backend of its own.
//!
//! It is meant to be honest, not bad: entries are read in runs as the engine does, decoded by the
//! same decoder, the backend is the same and is called with a batch of one, nothing is allocated on
//! the way, and CONS is published once, at the end of the drain. It has no lock;
//! [`Baseline`](crate::baseline::Baseline) puts it behind one.

use dispatch::dispatch::{Report, dispatch};
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId};
use smmu_core::command::{Command, Signal};
use smmu_core::decode::decode;
use smmu_core::guest_memory::load_le;
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::cerror;
use smmu_core::{Capabilities, Gpa, GuestMemory};
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands consumed.
    pub commands: u64,
    /// Requests to the backend.
    pub requests: u64,
    /// Calls to it.
    pub calls: u64,
    /// SYNCs completed.
    pub syncs: u64,
    /// Times that the queue was drained.
    pub drains: u64,
    /// Times that it stopped with an error.
    pub errors: u64,
}

/// Where a queue lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its first entry.
    pub base: Gpa,
    /// log2 of its entries, capped by what is advertised.
    pub log2size: u8,
}

/// See the [module](self).
pub struct OneByOne {
    caps: Capabilities,
    base: Gpa,
    geometry: Geometry,
    memory: Arc<dyn GuestMemory>,
    backend: Option<Arc<dyn Backend>>,
    prod: QueueIndex,
    cons: QueueIndex,
    /// Reused.
    batch: Batch,
    report: Report,
    /// An ATC_INV since the last SYNC was not answered.
    lost_atc_inv: bool,
    counts: Counts,
}

impl fmt::Debug for OneByOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneByOne")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl OneByOne {
    /// Over an empty queue.
    #[must_use]
    pub fn new(
        place: Place,
        caps: Capabilities,
        memory: Arc<dyn GuestMemory>,
        backend: Arc<dyn Backend>,
    ) -> Self {
        let geometry = Geometry::capped(place.log2size, caps.cmdq_log2size());
        let start = geometry.pointer(0);
        Self {
            caps,
            base: place.base,
            geometry,
            memory,
            backend: Some(backend),
            prod: start,
            cons: start,
            batch: Batch::new(),
            report: Report::default(),
            lost_atc_inv: false,
            counts: Counts::default(),
        }
    }

    /// The same without anybody to call: a request is made of each command and dropped.
    #[must_use]
    pub fn without_backend(mut self) -> Self {
        self.backend = None;
        self
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// CONS.
    #[must_use]
    pub fn cons(&self) -> u32 {
        self.cons.raw()
    }

    /// The queue is empty and begins at its first slot again.
    pub fn rewind(&mut self) {
        self.cons = self.geometry.pointer(0);
        self.prod = self.cons;
    }

    /// PROD after `count` more commands.
    #[must_use]
    pub fn prod_after(&self, count: u32) -> u32 {
        self.geometry.advance(self.prod, count).raw()
    }

    /// Takes a PROD over. Whether a legal producer can have written it; if not, nothing happens.
    pub fn publish(&mut self, prod: u32) -> bool {
        let prod = self.geometry.pointer(prod);
        let legal = self.geometry.published(self.cons, prod).is_ok();
        if legal {
            self.prod = prod;
        }
        legal
    }

    /// Consumes until the queue is empty.
    ///
    /// # Errors
    ///
    /// The code of the error (IHI 0070, 7.1) at which it stops; CONS then stands at the command.
    pub fn drain(&mut self) -> Result<(), u8> {
        self.counts.drains += 1;
        while self.cons != self.prod {
            if let Err(error) = self.consume_run() {
                self.counts.errors += 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Consumes the commands from CONS on that lie in one piece of host memory.
    fn consume_run(&mut self) -> Result<(), u8> {
        let published = self.geometry.published(self.cons, self.prod).unwrap_or(0);
        let count = published.min(self.geometry.until_wrap(self.cons)) as usize;
        let at = Gpa(self.base.0 + RawCommand::BYTES * u64::from(self.geometry.slot(self.cons)));
        let memory = self.memory.clone();
        let words = memory.words(at, 2 * count).map_err(|_| cerror::ABT)?;
        if words.len() < 2 {
            return Err(cerror::ABT);
        }
        for entry in words.chunks_exact(2) {
            let [dw0, dw1] = [&entry[0], &entry[1]].map(|word| load_le(word, Ordering::Relaxed));
            self.consume(RawCommand { dw0, dw1 })?;
            self.cons = self.geometry.advance(self.cons, 1);
            self.counts.commands += 1;
        }
        Ok(())
    }

    fn consume(&mut self, raw: RawCommand) -> Result<(), u8> {
        match decode(raw, &self.caps).map_err(|_| cerror::ILL)? {
            Command::Tlbi(tlbi) => self.execute(Invalidation::from_tlbi(tlbi)),
            Command::AtcInv(inv) => self.execute(Invalidation::from_atc_inv(&inv)),
            Command::Sync(signal) => return self.sync(signal),
            Command::Cfgi(_)
            | Command::PrefetchConfig { .. }
            | Command::PrefetchAddr { .. }
            | Command::PriResp { .. }
            | Command::Resume { .. }
            | Command::StallTerm { .. } => {}
        }
        Ok(())
    }

    fn execute(&mut self, request: Invalidation) {
        let Some(backend) = &self.backend else {
            black_box(&request);
            return;
        };
        self.batch.restart(request.vmid);
        self.batch.push(request, 0);
        self.report.clear();
        dispatch(&**backend, &mut self.batch, &mut self.report);
        self.counts.requests += self.report.requests;
        self.counts.calls += self.report.calls;
        self.lost_atc_inv |= !self.report.unanswered.is_empty();
    }

    fn sync(&mut self, signal: Signal) -> Result<(), u8> {
        if std::mem::take(&mut self.lost_atc_inv) {
            return Err(cerror::ATC_INV_SYNC);
        }
        if let Some(backend) = &self.backend {
            while backend.barrier(WaiterId(0)) == Barrier::Pending {
                std::thread::yield_now();
            }
        }
        if let Signal::Irq { msi: Some(msi) } = signal {
            // Nobody is told of a message that goes nowhere: its producer gives up.
            let _lost = self.memory.store_u32(msi.addr, msi.data, Ordering::Release);
        }
        self.counts.syncs += 1;
        Ok(())
    }
}
