//! Address Translation Services: what the SMMU answers to a device that keeps translations of its
//! own, and what it makes of transactions that such a device has translated (IHI 0070, 3.9).
//!
//! | what the request meets | answer | event |
//! |---|---|---|
//! | SMMUEN=0; a stream that bypasses; EATS=0, or EATS=2 without CR0.ATSCHK | Unsupported Request | F_BAD_ATS_TREQ |
//! | STE.Config=0xx | Unsupported Request | none |
//! | no such stream; an STE, a CD or a table that is invalid or cannot be read; a substream that there is not | Completer Abort | none (IDR0.ATSRECERR is not offered) |
//! | F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION | success without any right | none, whatever CD.{A,R,S} say |
//!
//! An answer never has No-Snoop restrictions (N=0): all memory behind a software SMMU is coherent.

use crate::access::{Access, Operation, Transaction};
use crate::config::{Ats, StreamAttributes, StreamConfig};
use crate::fault::{Fault, FaultPolicy, FaultRules};
use crate::guest_memory::GuestMemory;
use crate::ids::{StreamId, SubstreamId, Vmid};
use crate::translate::{Failed, Setup, Translated};
use crate::walk::{Leaf, NoStage2, Permissions, Stage2, bypass_stage1};

/// log2 of the smallest unit that an answer covers: STU=0.
pub const UNIT_SHIFT: u32 = 12;

/// A PCIe ATS Translation Request for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AtsRequest {
    /// The device.
    pub stream: StreamId,
    /// PASID, if the request carries one.
    pub substream: Option<SubstreamId>,
    /// Untranslated address; its low twelve bits do not count.
    pub address: u64,
    /// NW: the device is not going to write. The answer then never allows it.
    pub no_write: bool,
    /// Execute Requested. Means nothing without a PASID.
    pub execute: bool,
    /// Privileged Mode Requested. Means nothing without a PASID.
    pub privileged: bool,
}

/// A successful answer: one translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AtsTranslation {
    /// First untranslated address that it covers.
    pub from: u64,
    /// Translated address of the first byte. Means nothing without a right.
    pub to: u64,
    /// log2 of its bytes, at least [`UNIT_SHIFT`].
    pub shift: u32,
    /// R.
    pub read: bool,
    /// W.
    pub write: bool,
    /// Exe.
    pub execute: bool,
    /// Priv: the rights are those of privileged accesses, as was asked for.
    pub privileged: bool,
    /// Global: the translation is that of every PASID of the device.
    pub global: bool,
    /// U: what lies there is reached by untranslated requests only.
    pub untranslated_only: bool,
}

impl AtsTranslation {
    /// Without any right: what a place for an answer holds before there is one.
    pub const NOTHING: Self = Self {
        from: 0,
        to: 0,
        shift: UNIT_SHIFT,
        read: false,
        write: false,
        execute: false,
        privileged: false,
        global: false,
        untranslated_only: false,
    };

    /// Whether the device may do anything there.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.read || self.write
    }

    /// Whether the device may access what lies there by itself.
    #[must_use]
    pub fn allows(&self, operation: Operation) -> bool {
        !self.untranslated_only
            && match operation {
                Operation::Read => self.read,
                Operation::Write => self.write,
                Operation::Execute => self.execute,
            }
    }

    /// Last untranslated address that it covers.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.from | ((1u64 << self.shift) - 1)
    }

    /// Where an address inside of it ends up.
    #[must_use]
    pub fn output(&self, address: u64) -> u64 {
        self.to | (address & ((1u64 << self.shift) - 1))
    }
}

/// An unsuccessful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtsRefusal {
    /// UR: the device is to switch ATS off. With an event, or without.
    #[error("unsupported request: ATS is not enabled for the stream")]
    Unsupported(Option<Failed>),
    /// CA: the configuration is not such that anything can be translated.
    #[error("completer abort: {0}")]
    Abort(Fault),
}

/// Where an ATS-translated transaction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// To the address that it names.
    AsIs,
    /// Through the guest's own stage 2 (EATS=2), under this VMID.
    Stage2(Vmid, Leaf),
}

impl AtsRequest {
    /// The transaction that an event of the request shows.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction {
            stream: self.stream,
            substream: self.substream,
            access: self.access(Operation::Read),
        }
    }

    /// The refusal with F_BAD_ATS_TREQ.
    #[must_use]
    pub fn unsupported(&self, merge: bool) -> AtsRefusal {
        let failed = rejected(Fault::BadAtsRequest, self.transaction(), merge);
        AtsRefusal::Unsupported(Some(failed))
    }

    fn access(&self, operation: Operation) -> Access {
        Access {
            address: self.address & !((1 << UNIT_SHIFT) - 1),
            operation,
            privileged: self.privileged && self.substream.is_some(),
        }
    }

    /// What the device asks for, the most it can use first: a walk that fails for one right may
    /// succeed for another.
    fn operations(&self) -> impl Iterator<Item = Operation> {
        let write = (!self.no_write).then_some(Operation::Write);
        write.into_iter().chain([Operation::Read])
    }

    /// The answer for what a page or block allows.
    fn granted(
        &self,
        attributes: &StreamAttributes,
        (to, shift): (u64, u32),
        rights: Permissions,
        global: bool,
    ) -> AtsTranslation {
        let shift = shift.max(UNIT_SHIFT);
        let allows = |operation| rights.allow(&attributes.apply(self.access(operation)));
        let read = allows(Operation::Read);
        let pasid = self.substream.is_some();
        AtsTranslation {
            from: self.address & !((1u64 << shift) - 1),
            to: to & !((1u64 << shift) - 1),
            shift,
            read,
            write: allows(Operation::Write) && !self.no_write,
            execute: read && pasid && self.execute && allows(Operation::Execute),
            privileged: pasid && self.privileged,
            global: pasid && global,
            untranslated_only: false,
        }
    }
}

/// A transaction that is aborted with an event.
#[must_use]
pub fn rejected(fault: Fault, transaction: Transaction, merge: bool) -> Failed {
    let rules = FaultRules {
        stage1: FaultPolicy::ABORT,
        stage2: FaultPolicy::ABORT,
        record_bad_stream_id: false,
        merge,
    };
    Failed {
        fault,
        transaction,
        verdict: fault.verdict(&rules),
    }
}

/// Faults that leave the answer a success, without any right.
fn is_only_denied(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Translation(_)
            | Fault::AddressSize(_)
            | Fault::InputSize
            | Fault::AccessFlag(_)
            | Fault::Permission(_)
            | Fault::TableUpdate(_)
    )
}

/// EATS as it takes effect: EATS=2 needs CR0.ATSCHK.
fn effective(ats: Ats, checks: bool) -> Ats {
    match ats {
        Ats::Split if !checks => Ats::Refused,
        as_is => as_is,
    }
}

impl Setup {
    /// Answers an ATS Translation Request; `checks` is CR0.ATSCHK. Reads a bounded number of
    /// structures (three walks at most).
    pub fn answer_ats<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        request: &AtsRequest,
        checks: bool,
    ) -> Result<AtsTranslation, AtsRefusal> {
        let config = self
            .streams
            .ste(memory, request.stream, &self.caps)
            .map_err(AtsRefusal::Abort)?;
        let Some(attributes) = config.attributes() else {
            return Err(AtsRefusal::Unsupported(None));
        };
        let ats = effective(attributes.ats, checks);
        if ats == Ats::Refused {
            return Err(request.unsupported(attributes.merge_events));
        }
        config
            .check_substream(request.substream)
            .map_err(AtsRefusal::Abort)?;
        for operation in request.operations() {
            let mut transaction = request.transaction();
            transaction.access = attributes.apply(request.access(operation));
            match self.find(memory, &config, &transaction, ats) {
                Ok(Translated::Aborted) => return Err(AtsRefusal::Unsupported(None)),
                Ok(Translated::Bypassed(to)) => {
                    return Ok(request.granted(
                        attributes,
                        (to, UNIT_SHIFT),
                        Permissions::ALL,
                        false,
                    ));
                }
                Ok(Translated::Mapped(leaf)) => {
                    let to = leaf.output(transaction.access.address);
                    let rights = leaf.permissions;
                    return Ok(request.granted(attributes, (to, leaf.shift), rights, leaf.global));
                }
                // Another right may be there.
                Err(Fault::Permission(_) | Fault::TableUpdate(_)) => {}
                Err(fault) if is_only_denied(&fault) => break,
                Err(fault) => return Err(AtsRefusal::Abort(fault)),
            }
        }
        let nothing = Permissions::default();
        Ok(request.granted(attributes, (0, UNIT_SHIFT), nothing, false))
    }

    /// The translation that the device is to keep: of both stages, or of stage 1 alone.
    fn find<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        config: &StreamConfig,
        transaction: &Transaction,
        ats: Ats,
    ) -> Result<Translated, Fault> {
        let access = &transaction.access;
        let mut rules = FaultRules {
            stage1: FaultPolicy::ABORT,
            stage2: FaultPolicy::ABORT,
            record_bad_stream_id: false,
            merge: false,
        };
        match config {
            StreamConfig::Abort => Ok(Translated::Aborted),
            StreamConfig::Bypass(_) => {
                bypass_stage1(access.address, self.caps.oas_bits()).map(Translated::Bypassed)
            }
            StreamConfig::Stage1(_, stage1) => {
                self.through_stage1(memory, &NoStage2, stage1, transaction, &mut rules)
            }
            StreamConfig::Stage2(_, stage2) => {
                // Without a stage 1 its bypass still checks the size of the input (3.4).
                let ipa = bypass_stage1(access.address, self.caps.ias_bits())?;
                let leaf = Stage2::new(memory, stage2).translate(ipa, access)?;
                Ok(Translated::Mapped(leaf))
            }
            StreamConfig::Nested(_, stage1, stage2) => {
                let ipas = Stage2::new(memory, stage2);
                let first = self.through_stage1(memory, &ipas, stage1, transaction, &mut rules)?;
                if ats == Ats::Split {
                    return Ok(first);
                }
                self.through_stage2(&ipas, first, access)
            }
        }
    }

    /// What becomes of an ATS-translated transaction, whose address is the translated one, while
    /// SMMUEN is 1; `checks` is CR0.ATSCHK. Without checks no structure is read. The error is the
    /// event, if there is one; the transaction is aborted.
    pub fn admit_translated<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        transaction: &Transaction,
        checks: bool,
    ) -> Result<Admitted, Option<Failed>> {
        let address = transaction.access.address;
        let straight = bypass_stage1(address, self.caps.oas_bits());
        if !checks {
            return straight.map(|_| Admitted::AsIs).map_err(|_| None);
        }
        // Only an ordinary transaction reports what is wrong with its configuration.
        let config = self.streams.ste(memory, transaction.stream, &self.caps);
        let Ok(config) = config else {
            return Err(None);
        };
        let Some(attributes) = config.attributes() else {
            return Err(None);
        };
        let merge = attributes.merge_events;
        match (attributes.ats, config.stage2()) {
            (Ats::Full, _) => straight.map(|_| Admitted::AsIs).map_err(|_| None),
            (Ats::Split, Some(stage2)) => {
                let mut transaction = *transaction;
                transaction.access = attributes.apply(transaction.access);
                let found = Stage2::new(memory, stage2).translate(address, &transaction.access);
                found
                    .map(|leaf| Admitted::Stage2(attributes.vmid, leaf))
                    .map_err(|fault| {
                        let mut failed = rejected(fault, transaction, merge);
                        failed.verdict = fault.verdict(&FaultRules {
                            stage1: FaultPolicy::ABORT,
                            // A device that has its translations from the SMMU is never stalled.
                            stage2: FaultPolicy {
                                stall: false,
                                ..stage2.policy
                            },
                            record_bad_stream_id: false,
                            merge,
                        });
                        Some(failed)
                    })
            }
            _ => Err(Some(rejected(
                Fault::TranslationForbidden,
                *transaction,
                merge,
            ))),
        }
    }
}
