//! What the engine makes of a world: the cached backend, held against the walk without any cache.

use crate::layout::{READER_SLOT, WRITER_SLOT, stream_of};
use crate::trace::Traced;
use crate::words;
use crate::world::{Request, World};
use anyhow::{Context, Result, bail, ensure};
use dispatch::backend::Software;
use dispatch::backend::software::{Denied, Port};
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::command::Command;
use smmu_core::decode::decode;
use smmu_core::encode::encode;
use smmu_core::fault::{Fault, Response};
use smmu_core::spec::event::EventRecord;
use smmu_core::translate::{Setup, Translated};
use smmu_core::{GuestMemory, StreamId};
use std::sync::Arc;

/// What becomes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it goes, if it goes on.
    pub reached: Option<u64>,
    /// What is recorded.
    pub record: Option<EventRecord>,
    /// Why it does not go on, recorded or not. `None` if the STE says abort.
    pub fault: Option<Fault>,
}

fn transaction(request: &Request) -> Transaction {
    let slot = if request.read {
        READER_SLOT
    } else {
        WRITER_SLOT
    };
    Transaction {
        stream: StreamId(stream_of(slot)),
        substream: None,
        access: Access {
            address: request.address,
            operation: if request.read {
                Operation::Read
            } else {
                Operation::Write
            },
            // QEMU takes every access for a privileged one.
            privileged: true,
        },
    }
}

/// The engine's backend over a memory, with what it has cached so far.
pub struct Engine {
    setup: Setup,
    memory: Arc<dyn GuestMemory>,
    core: Arc<Software>,
    writer: Port,
    reader: Port,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Nothing is cached yet.
    ///
    /// # Errors
    ///
    /// There are no guards for two devices.
    pub fn new(setup: &Setup, memory: &Arc<dyn GuestMemory>) -> Result<Self> {
        let core = Arc::new(Software::default());
        core.memory_changed(memory.clone());
        core.set_up(Some(*setup));
        let port = |slot| core.port(StreamId(stream_of(slot)));
        let (writer, reader) = (port(WRITER_SLOT)?, port(READER_SLOT)?);
        Ok(Self {
            setup: *setup,
            memory: memory.clone(),
            core,
            writer,
            reader,
        })
    }

    /// Every access of a world, in order.
    ///
    /// # Errors
    ///
    /// With its caches the engine says something else than without.
    pub fn outcomes(&mut self, world: &World) -> Result<Vec<Outcome>> {
        let mut all = Vec::with_capacity(world.requests.len());
        for request in &world.requests {
            let port = if request.read {
                &mut self.reader
            } else {
                &mut self.writer
            };
            let transaction = transaction(request);
            let cached = cached(port, &transaction);
            let uncached = uncached(&self.setup, &*self.memory, &transaction)?;
            ensure!(
                cached == uncached,
                "{request}: the engine's caches and its walk say different things\n  cached: {cached}\n  walked: {uncached}"
            );
            all.push(uncached);
        }
        Ok(all)
    }

    /// Executes commands, one after the other, as a ring would have them.
    ///
    /// # Errors
    ///
    /// A command is illegal or no invalidation, or the backend refuses it.
    pub fn execute(&self, commands: &[Command]) -> Result<()> {
        const WAITER: WaiterId = WaiterId(0);
        let mut batch = Batch::new();
        batch.set_waiter(WAITER);
        for command in commands {
            match decode(encode(command), &self.setup.caps) {
                Ok(Command::Tlbi(tlbi)) => {
                    let request = Invalidation::from_tlbi(tlbi);
                    batch.restart(request.vmid);
                    batch.push(request, 0);
                    let refused = self.core.submit(&batch).err();
                    ensure!(
                        refused.is_none(),
                        "the engine refuses {}: {refused:?}",
                        words::command(command)
                    );
                }
                Ok(Command::Cfgi(change)) => self.core.configuration_changed(&change, WAITER),
                Ok(_) => bail!("{} is no invalidation", words::command(command)),
                Err(illegal) => bail!("{} is illegal: {illegal}", words::command(command)),
            }
        }
        let done = self.core.barrier(WAITER) == Barrier::Done;
        ensure!(done, "a SYNC would wait, though nobody accesses anything");
        Ok(())
    }
}

fn cached(port: &mut Port, transaction: &Transaction) -> Outcome {
    let translated = port.translate(None, transaction.access, 4, |_| {});
    match translated {
        Ok(guarded) => passed(guarded.output().address),
        Err(Denied::Aborted) => ABORTED,
        Err(Denied::Fault(failed)) => Outcome {
            reached: None,
            record: failed.verdict.record.then(|| failed.record(None)),
            fault: Some(failed.fault),
        },
    }
}

fn uncached(setup: &Setup, memory: &dyn GuestMemory, transaction: &Transaction) -> Result<Outcome> {
    let address = transaction.access.address;
    match setup.translate(memory, transaction) {
        Ok(Translated::Aborted) => Ok(ABORTED),
        Ok(Translated::Bypassed(output)) => Ok(passed(output)),
        Ok(Translated::Mapped(leaf)) => Ok(passed(leaf.output(address))),
        Err(failed) => {
            // IDR0.STALL_MODEL and TERM_MODEL leave nothing else.
            let aborts = failed.verdict.response == Response::Abort;
            aborts
                .then_some(())
                .context("a fault that does not abort")?;
            Ok(Outcome {
                reached: None,
                record: failed.verdict.record.then(|| failed.record(None)),
                fault: Some(failed.fault),
            })
        }
    }
}

const ABORTED: Outcome = Outcome {
    reached: None,
    record: None,
    fault: None,
};

fn passed(address: u64) -> Outcome {
    Outcome {
        reached: Some(address),
        record: None,
        fault: None,
    }
}

/// What the uncached walk of an access reads: the first word of each read.
#[must_use]
pub fn reads(setup: &Setup, memory: &dyn GuestMemory, request: &Request) -> Vec<u64> {
    let traced = Traced::new(memory);
    // The outcome is known; only the reads are wanted.
    let _known = setup.translate(&traced, &transaction(request));
    traced.into_reads()
}
