//! One transaction from its StreamID to an output address, without any cache: stream table,
//! context, walk. What caches stand in for, and what they are tested against.

use crate::access::{Access, Transaction};
use crate::caps::Capabilities;
use crate::config::context::{ContextLookup, lookup};
use crate::config::{Stage1Config, StreamConfig, StreamTable};
use crate::fault::{Fault, FaultPolicy, FaultRules, Verdict};
use crate::guest_memory::GuestMemory;
use crate::ids::Stag;
use crate::spec::event::EventRecord;
use crate::walk::{IpaSpace, Leaf, NoStage2, Stage2, bypass_stage1, translate as walk_stage1};

/// What an SMMU is set up with, apart from its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The stream table.
    pub streams: StreamTable,
    /// The identification registers.
    pub caps: Capabilities,
    /// CR2.E2H.
    pub e2h: bool,
    /// CR2.RECINVSID.
    pub record_bad_stream_id: bool,
}

/// What becomes of a transaction that does not fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Translated {
    /// The stream is set to abort, without a record.
    Aborted,
    /// The address is used as it is.
    Bypassed(u64),
    /// The page or block that the address lies in.
    Mapped(Leaf),
}

/// A transaction that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failed {
    /// Why.
    pub fault: Fault,
    /// The transaction as the STE's overrides have made it, which is how its record shows it.
    pub transaction: Transaction,
    /// What the device and the event queue get.
    pub verdict: Verdict,
}

impl Failed {
    /// The event record; `stalled` is the tag of the transaction if it waits for RESUME.
    #[must_use]
    pub fn record(&self, stalled: Option<Stag>) -> EventRecord {
        self.fault.record(&self.transaction, stalled)
    }
}

impl Setup {
    /// Translates a transaction. Reads a bounded number of descriptors (some
    /// fifty with two stages, several times if the guest changes one that is being updated). Writes
    /// access flags and dirty state where CD and STE ask for that, and nothing else.
    pub fn translate<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        transaction: &Transaction,
    ) -> Result<Translated, Failed> {
        let mut transaction = *transaction;
        let mut rules = FaultRules {
            stage1: FaultPolicy::ABORT,
            stage2: FaultPolicy::ABORT,
            record_bad_stream_id: self.record_bad_stream_id,
            merge: false,
        };
        self.attempt(memory, &mut transaction, &mut rules)
            .map_err(|fault| Failed {
                fault,
                transaction,
                verdict: fault.verdict(&rules),
            })
    }

    fn attempt<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        transaction: &mut Transaction,
        rules: &mut FaultRules,
    ) -> Result<Translated, Fault> {
        let config = self.streams.ste(memory, transaction.stream, &self.caps)?;
        config.check_substream(transaction.substream)?;
        if let Some(attributes) = config.attributes() {
            transaction.access = attributes.apply(transaction.access);
            rules.merge = attributes.merge_events;
        }
        let access = transaction.access;
        match &config {
            StreamConfig::Abort => Ok(Translated::Aborted),
            StreamConfig::Bypass(_) => {
                bypass_stage1(access.address, self.caps.oas_bits()).map(Translated::Bypassed)
            }
            StreamConfig::Stage1(_, stage1) => {
                self.through_stage1(memory, &NoStage2, stage1, transaction, rules)
            }
            StreamConfig::Stage2(_, stage2) => {
                rules.stage2 = stage2.policy;
                // Without a stage 1 its bypass still checks the size of the input (3.4).
                let ipa = bypass_stage1(access.address, self.caps.ias_bits())?;
                let leaf = Stage2::new(memory, stage2).translate(ipa, &access)?;
                Ok(Translated::Mapped(leaf))
            }
            StreamConfig::Nested(_, stage1, stage2) => {
                rules.stage2 = stage2.policy;
                let ipas = Stage2::new(memory, stage2);
                let first = self.through_stage1(memory, &ipas, stage1, transaction, rules)?;
                self.through_stage2(&ipas, first, &access)
            }
        }
    }

    /// The second half of a nested translation.
    pub(crate) fn through_stage2<M: GuestMemory + ?Sized>(
        &self,
        stage2: &Stage2<'_, M>,
        first: Translated,
        access: &Access,
    ) -> Result<Translated, Fault> {
        let ipa = match &first {
            Translated::Aborted => return Ok(Translated::Aborted),
            Translated::Bypassed(address) => *address,
            Translated::Mapped(leaf) => leaf.output(access.address),
        };
        let second = stage2.translate(ipa, access)?;
        Ok(Translated::Mapped(match &first {
            Translated::Mapped(leaf) => leaf.combined(&second, access.address),
            _ => second,
        }))
    }

    pub(crate) fn through_stage1<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
        &self,
        memory: &M,
        ipas: &S,
        stage1: &Stage1Config,
        transaction: &Transaction,
        rules: &mut FaultRules,
    ) -> Result<Translated, Fault> {
        let substream = transaction.substream;
        match lookup(memory, ipas, stage1, substream, &self.caps, self.e2h)? {
            ContextLookup::BypassStage1 => {
                bypass_stage1(transaction.access.address, self.caps.ias_bits())
                    .map(Translated::Bypassed)
            }
            ContextLookup::Context(context) => {
                rules.stage1 = context.policy;
                walk_stage1(memory, ipas, &context, &transaction.access).map(Translated::Mapped)
            }
        }
    }
}
