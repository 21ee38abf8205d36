//! What the engine makes of a world: the cached backend, held against the walk without any cache.

use crate::layout::{READER_SLOT, WRITER_SLOT, stream_of};
use crate::trace::Traced;
use crate::world::{Request, World};
use anyhow::{Context, Result, ensure};
use dispatch::backend::software::{Denied, Port};
use dispatch::backend::{Backend, Software};
use smmu_core::access::{Access, Operation, Transaction};
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

/// Every access of a world, in order, through a backend whose caches are empty at first.
///
/// # Errors
///
/// With its caches the engine says something else than without.
pub fn outcomes(
    setup: &Setup,
    memory: &Arc<dyn GuestMemory>,
    world: &World,
) -> Result<Vec<Outcome>> {
    let core = Arc::new(Software::default());
    core.memory_changed(memory.clone());
    core.set_up(Some(*setup));
    let port = |slot| core.port(StreamId(stream_of(slot)));
    let (mut writer, mut reader) = (port(WRITER_SLOT)?, port(READER_SLOT)?);
    let mut all = Vec::with_capacity(world.requests.len());
    for request in &world.requests {
        let port = if request.read {
            &mut reader
        } else {
            &mut writer
        };
        let transaction = transaction(request);
        let cached = cached(port, &transaction);
        let uncached = uncached(setup, &**memory, &transaction)?;
        ensure!(
            cached == uncached,
            "{request:x?}: cached {cached:x?}, walked {uncached:x?}"
        );
        all.push(uncached);
    }
    Ok(all)
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
