//! What went wrong with a transaction, as the guest sees it: an event record and an answer
//! to the device (IHI 0070, 7.3 and 5.5). Never a host error.

use crate::access::{Operation, Transaction};
use crate::ids::{Gpa, Stag};
use crate::spec::event::{Class, EventId, EventRecord, EventWord0, EventWord1};

/// A guest-visible failure of a transaction. [`record`](Self::record) has the event of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// C_BAD_STREAMID: no such entry in the stream table.
    #[error("the StreamID is outside the stream table")]
    BadStreamId,
    /// F_STE_FETCH: abort on reading the stream table.
    #[error("external abort on reading the stream table at {0}")]
    SteFetch(Gpa),
    /// C_BAD_STE.
    #[error("the STE is invalid")]
    BadSte,
    /// F_BAD_ATS_TREQ: an ATS translation request where the STE, or SMMUEN=0, allows none.
    #[error("ATS translation requests are not enabled for the stream")]
    BadAtsRequest,
    /// F_TRANSL_FORBIDDEN: an ATS-translated transaction where the STE, or SMMUEN=0, allows none.
    #[error("ATS-translated transactions are not allowed for the stream")]
    TranslationForbidden,
    /// F_STREAM_DISABLED: traffic without SubstreamID, or with 0, where there may be none.
    #[error("the STE disables this kind of traffic")]
    StreamDisabled,
    /// C_BAD_SUBSTREAMID.
    #[error("the SubstreamID is outside the CD table")]
    BadSubstreamId,
    /// F_CD_FETCH: abort on reading the CD table.
    #[error("external abort on reading the CD table at {0}")]
    CdFetch(Gpa),
    /// C_BAD_CD.
    #[error("the CD is invalid")]
    BadCd,
    /// F_WALK_EABT: abort on reading a translation table.
    #[error("external abort on reading a translation table at {1}")]
    WalkAbort(Place, Gpa),
    /// F_TRANSLATION.
    #[error("no translation")]
    Translation(Place),
    /// F_ADDR_SIZE from a translation.
    #[error("output address too wide")]
    AddressSize(Place),
    /// F_ADDR_SIZE because a bypassed stage 1 was given too wide an address.
    #[error("input address too wide for a bypassed stage")]
    InputSize,
    /// F_ACCESS.
    #[error("access flag clear")]
    AccessFlag(Place),
    /// F_PERMISSION.
    #[error("permission denied")]
    Permission(Place),
    /// F_PERMISSION: a descriptor of stage 1 is to be updated, and stage 2 does not let it be written.
    #[error("stage 2 forbids the update of the descriptor at {0:#x}")]
    TableUpdate(u64),
}

/// Where in the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Stage 1.
    Stage1,
    /// Stage 2.
    Stage2 {
        /// What was being translated.
        class: Class,
        /// Its intermediate physical address.
        ipa: u64,
    },
}

/// What becomes of faulting transactions: CD.{A,R,S}, or STE.{S2R,S2S} with A=1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultPolicy {
    /// A: abort; otherwise reads are zero and writes ignored.
    pub abort: bool,
    /// R: leave a record.
    pub record: bool,
    /// S: stall.
    pub stall: bool,
}

/// What the verdict on a fault depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultRules {
    /// The CD's.
    pub stage1: FaultPolicy,
    /// The STE's.
    pub stage2: FaultPolicy,
    /// CR2.RECINVSID.
    pub record_bad_stream_id: bool,
    /// STE.MEV, if an STE has been read.
    pub merge: bool,
}

/// What the device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// The transaction is aborted.
    Abort,
    /// Reads return zero, writes are ignored.
    RazWi,
    /// The transaction waits for RESUME.
    Stall,
}

/// What happens because of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What the device is told.
    pub response: Response,
    /// Whether there is an event record.
    pub record: bool,
    /// STE.MEV: the record may merge with an equal one. Not of a transaction that stalls, nor of a
    /// structure that could not be fetched.
    pub merge: bool,
}

impl FaultPolicy {
    /// Abort and record: of everything that is not a translation fault.
    pub const ABORT: Self = Self {
        abort: true,
        record: true,
        stall: false,
    };

    /// The table of 5.5: S wins and implies a record, then A decides the answer and R the
    /// record.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        let response = match self {
            Self { stall: true, .. } => Response::Stall,
            Self { abort: true, .. } => Response::Abort,
            _ => Response::RazWi,
        };
        Verdict {
            response,
            record: self.stall || self.record,
            merge: false,
        }
    }
}

impl Fault {
    /// The event that reports it.
    #[must_use]
    pub fn event(&self) -> EventId {
        match self {
            Self::BadStreamId => EventId::BadStreamId,
            Self::SteFetch(_) => EventId::SteFetch,
            Self::BadSte => EventId::BadSte,
            Self::BadAtsRequest => EventId::BadAtsRequest,
            Self::TranslationForbidden => EventId::TranslationForbidden,
            Self::StreamDisabled => EventId::StreamDisabled,
            Self::BadSubstreamId => EventId::BadSubstreamId,
            Self::CdFetch(_) => EventId::CdFetch,
            Self::BadCd => EventId::BadCd,
            Self::WalkAbort(..) => EventId::WalkAbort,
            Self::Translation(_) => EventId::Translation,
            Self::AddressSize(_) | Self::InputSize => EventId::AddressSize,
            Self::AccessFlag(_) => EventId::AccessFlag,
            Self::Permission(_) | Self::TableUpdate(_) => EventId::Permission,
        }
    }

    /// What happens: translation faults go by the policy of their stage, everything else is an
    /// abort with a record.
    #[must_use]
    pub fn verdict(&self, rules: &FaultRules) -> Verdict {
        let verdict = match self {
            Self::Translation(place)
            | Self::AddressSize(place)
            | Self::AccessFlag(place)
            | Self::Permission(place) => match place {
                Place::Stage1 => rules.stage1.verdict(),
                Place::Stage2 { .. } => rules.stage2.verdict(),
            },
            Self::TableUpdate(_) => rules.stage2.verdict(),
            Self::BadStreamId => Verdict {
                response: Response::Abort,
                record: rules.record_bad_stream_id,
                merge: false,
            },
            _ => FaultPolicy::ABORT.verdict(),
        };
        Verdict {
            merge: rules.merge
                && verdict.response != Response::Stall
                && !matches!(self, Self::SteFetch(_) | Self::CdFetch(_)),
            ..verdict
        }
    }

    /// The record (7.3). `stalled` is the tag of the transaction if it waits for RESUME.
    #[must_use]
    pub fn record(&self, transaction: &Transaction, stalled: Option<Stag>) -> EventRecord {
        let first = self.first_word(transaction);
        match *self {
            Self::BadStreamId
            | Self::BadSte
            | Self::StreamDisabled
            | Self::BadSubstreamId
            | Self::BadCd => EventRecord([first, 0, 0, 0]),
            // The request's own flags are not among the fields that every access has.
            Self::BadAtsRequest => EventRecord([first, 0, transaction.access.address, 0]),
            Self::TranslationForbidden => {
                let read = transaction.access.operation != Operation::Write;
                let second = EventWord1::new().with_rnw(read).into_bits();
                EventRecord([first, second, transaction.access.address, 0])
            }
            Self::SteFetch(at) | Self::CdFetch(at) => EventRecord([first, 0, 0, fetch_addr(at)]),
            Self::WalkAbort(place, at) => {
                let class = match place {
                    Place::Stage1 => Class::TranslationTable,
                    Place::Stage2 { class, .. } => class,
                };
                let second = access_word(transaction)
                    .with_s2(place != Place::Stage1)
                    .with_class(class as u8);
                let input = transaction.access.address;
                EventRecord([first, second.into_bits(), input, fetch_addr(at)])
            }
            Self::InputSize => translation_record(first, Place::Stage1, transaction, stalled),
            Self::Translation(place) | Self::AddressSize(place) | Self::AccessFlag(place) => {
                translation_record(first, place, transaction, stalled)
            }
            Self::Permission(place) => {
                let mut record = translation_record(first, place, transaction, stalled);
                let table = record.dw1().class() == Class::TranslationTable as u8;
                record.0[1] = record.dw1().with_ttrnw(table).into_bits();
                record
            }
            // TTRnW stays clear: it is the writing of the table that is denied.
            Self::TableUpdate(ipa) => {
                let class = Class::TranslationTable;
                translation_record(first, Place::Stage2 { class, ipa }, transaction, stalled)
            }
        }
    }

    /// Event, StreamID and SubstreamID. C_BAD_SUBSTREAMID has a SubstreamID and no SSV,
    /// F_STREAM_DISABLED has neither.
    fn first_word(&self, transaction: &Transaction) -> u64 {
        let (ssv, substream) = match (self, transaction.substream) {
            (Self::StreamDisabled | Self::TranslationForbidden, _) | (_, None) => (false, 0),
            (Self::BadSubstreamId, Some(substream)) => (false, substream.0),
            (_, Some(substream)) => (true, substream.0),
        };
        EventWord0::new()
            .with_id(self.event() as u8)
            .with_ssv(ssv)
            .with_substream(substream & 0xF_FFFF)
            .with_stream(transaction.stream.0)
            .into_bits()
    }
}

fn fetch_addr(at: Gpa) -> u64 {
    at.0 & 0x00FF_FFFF_FFFF_FFF8
}

fn access_word(transaction: &Transaction) -> EventWord1 {
    let access = &transaction.access;
    EventWord1::new()
        .with_pnu(access.privileged)
        .with_ind(access.operation == Operation::Execute)
        .with_rnw(access.operation != Operation::Write)
}

fn translation_record(
    first: u64,
    place: Place,
    transaction: &Transaction,
    stalled: Option<Stag>,
) -> EventRecord {
    let (s2, class, ipa) = match place {
        Place::Stage1 => (false, Class::Input, 0),
        Place::Stage2 { class, ipa } => (true, class, ipa & 0x00FF_FFFF_FFFF_F000),
    };
    let second = access_word(transaction)
        .with_stag(stalled.map_or(0, |stag| stag.0))
        .with_stall(stalled.is_some())
        .with_s2(s2)
        .with_class(class as u8);
    let input = transaction.access.address;
    EventRecord([first, second.into_bits(), input, ipa])
}
