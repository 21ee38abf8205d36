//! The meaning of an STE (IHI 0070, 5.2), and when it is invalid (5.2.2).

use super::stage2::{self, Stage2Config};
use crate::access::{Access, Operation};
use crate::attributes::InputOverride;
use crate::caps::Capabilities;
use crate::fault::Fault;
use crate::ids::{Gpa, SubstreamId, Vmid};
use crate::spec::ste::{Ste, config};

/// What a stream is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamConfig {
    /// Transactions are aborted without a record.
    Abort,
    /// Neither stage translates.
    Bypass(StreamAttributes),
    /// Stage 1.
    Stage1(StreamAttributes, Stage1Config),
    /// Stage 2 of the guest's own.
    Stage2(StreamAttributes, Stage2Config),
    /// Both.
    Nested(StreamAttributes, Stage1Config, Stage2Config),
}

/// What holds for a stream under every Config that is not an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamAttributes {
    /// PRIVCFG: the privilege that replaces the transaction's.
    pub privileged: Option<bool>,
    /// INSTCFG: whether reads are instruction fetches, instead of what the transaction says.
    pub instruction: Option<bool>,
    /// MTCFG, ALLOCCFG, SHCFG: what the device's memory attributes are replaced with.
    pub memory: InputOverride,
    /// EATS.
    pub ats: Ats,
    /// PPAR: what the SMMU answers to page requests by itself carries their PASID.
    pub pasid_in_responses: bool,
    /// MEV: equal events may merge.
    pub merge_events: bool,
    /// S2VMID; zero without stage 2, and in EL2. It tags stage-1 translations too.
    pub vmid: Vmid,
}

/// STE.EATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ats {
    /// ATS requests are refused, and ATS-translated traffic if CR0.ATSCHK.
    Refused,
    /// ATS returns physical addresses. DPT checks (EATS=3) are not offered.
    Full,
    /// ATS returns intermediate addresses; as `Refused` if CR0.ATSCHK is 0.
    Split,
}

/// How stage 1 finds its contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage1Config {
    /// The CD table.
    pub contexts: ContextTable,
    /// S1DSS: what happens to traffic without SubstreamID. Only if the table has more than
    /// one CD; otherwise such traffic uses that one.
    pub default_substream: DefaultSubstream,
    /// S1STALLD: a CD with S=1 is invalid.
    pub stall_disabled: bool,
    /// STRW=2: contexts of EL2, of EL2-E2H if CR2.E2H.
    pub el2: bool,
}

/// The CD table of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextTable {
    /// Aligned to the table's size. An intermediate physical address under stage 2.
    pub base: Gpa,
    /// log2 of the number of CDs.
    pub log2size: u8,
    /// The form.
    pub format: ContextTableFormat,
}

/// STE.S1Fmt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextTableFormat {
    /// One level.
    Linear,
    /// Two levels, with this many SubstreamID bits in the second: 6 or 10.
    TwoLevel(u8),
}

/// STE.S1DSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DefaultSubstream {
    /// Terminate.
    Terminate,
    /// Bypass stage 1.
    Bypass,
    /// Use CD 0, which traffic with SubstreamID 0 then may not.
    UseContext0,
}

impl StreamConfig {
    /// What holds for the stream, unless it aborts.
    #[must_use]
    pub fn attributes(&self) -> Option<&StreamAttributes> {
        match self {
            Self::Abort => None,
            Self::Bypass(attributes)
            | Self::Stage1(attributes, _)
            | Self::Stage2(attributes, _)
            | Self::Nested(attributes, ..) => Some(attributes),
        }
    }

    /// Stage 1, if it translates.
    #[must_use]
    pub fn stage1(&self) -> Option<&Stage1Config> {
        match self {
            Self::Stage1(_, stage1) | Self::Nested(_, stage1, _) => Some(stage1),
            _ => None,
        }
    }

    /// The guest's own stage 2, if it translates.
    #[must_use]
    pub fn stage2(&self) -> Option<&Stage2Config> {
        match self {
            Self::Stage2(_, stage2) | Self::Nested(_, _, stage2) => Some(stage2),
            _ => None,
        }
    }

    /// Refuses a SubstreamID where stage 1 does not translate (3.3).
    pub fn check_substream(&self, substream: Option<SubstreamId>) -> Result<(), Fault> {
        match (self, substream) {
            (Self::Bypass(_) | Self::Stage2(..), Some(_)) => Err(Fault::BadSubstreamId),
            _ => Ok(()),
        }
    }
}

impl StreamAttributes {
    /// The access after PRIVCFG and INSTCFG. A write is never an instruction.
    #[must_use]
    #[inline]
    pub fn apply(&self, access: Access) -> Access {
        let operation = match (access.operation, self.instruction) {
            (Operation::Write, _) => Operation::Write,
            (_, Some(true)) => Operation::Execute,
            (_, Some(false)) => Operation::Read,
            (as_is, None) => as_is,
        };
        Access {
            operation,
            privileged: self.privileged.unwrap_or(access.privileged),
            ..access
        }
    }
}

/// What an STE says, or C_BAD_STE.
pub fn interpret(ste: &Ste, caps: &Capabilities) -> Result<StreamConfig, Fault> {
    let first = ste.dw0();
    if !first.v() {
        return Err(Fault::BadSte);
    }
    let stages = first.config();
    // Aborting without a record is never invalid, whatever else the entry holds.
    if stages & config::BYPASS == 0 {
        return Ok(StreamConfig::Abort);
    }
    let stage1 = match stages {
        config::STAGE1 | config::NESTED => Some(stage1(ste, caps)?),
        _ => None,
    };
    let stage2 = match stages {
        config::STAGE2 | config::NESTED => Some(stage2::interpret(ste, caps)?),
        _ => None,
    };
    let el2 = stage1.as_ref().is_some_and(|stage1| stage1.el2);
    let attributes = attributes(ste, el2, caps)?;
    Ok(match (stage1, stage2) {
        (None, None) => StreamConfig::Bypass(attributes),
        (Some(stage1), None) => StreamConfig::Stage1(attributes, stage1),
        (None, Some(stage2)) => StreamConfig::Stage2(attributes, stage2),
        (Some(stage1), Some(stage2)) => StreamConfig::Nested(attributes, stage1, stage2),
    })
}

fn attributes(ste: &Ste, el2: bool, caps: &Capabilities) -> Result<StreamAttributes, Fault> {
    let word = ste.dw1();
    let overridden = |field: u8| match field {
        2 if caps.idr1.attr_perms_ovr() => Some(false),
        3 if caps.idr1.attr_perms_ovr() => Some(true),
        _ => None,
    };
    Ok(StreamAttributes {
        privileged: overridden(word.privcfg()),
        instruction: overridden(word.instcfg()),
        memory: InputOverride::of_ste(word, caps),
        ats: ats(ste, caps)?,
        pasid_in_responses: word.ppar(),
        merge_events: word.mev(),
        // EL2 has no VMIDs. With a stage 2 the bits that no VMID has are ILLEGAL; of a stream of stage 1 alone they
        // are ignored, as those of a TLBI are.
        vmid: Vmid(if caps.idr0.s2p() && !el2 {
            ste.dw2().s2vmid() & caps.vmid_mask()
        } else {
            0
        }),
    })
}

/// EATS, which is looked at only where ATS exists and a stage translates.
fn ats(ste: &Ste, caps: &Capabilities) -> Result<Ats, Fault> {
    let stages = ste.dw0().config();
    if !caps.idr0.ats() || stages == config::BYPASS {
        return Ok(Ats::Refused);
    }
    let stage2_stalls = stages & config::STAGE2 == config::STAGE2 && ste.dw2().s2s();
    match ste.dw1().eats() {
        0 => Ok(Ats::Refused),
        2 if stages == config::NESTED && !stage2_stalls && !caps.idr0.ns1ats() => Ok(Ats::Split),
        1 | 3 if !stage2_stalls => Ok(Ats::Full),
        _ => Err(Fault::BadSte),
    }
}

fn stage1(ste: &Ste, caps: &Capabilities) -> Result<Stage1Config, Fault> {
    let (first, second) = (ste.dw0(), ste.dw1());
    let nested = first.config() == config::NESTED;
    // STRW is RES0 without EL2 and ignored under stage 2.
    let strw = if caps.idr0.hyp() && !nested {
        second.strw()
    } else {
        0
    };
    let stalls_both_ways = caps.idr0.stall_model() == 0;
    if !caps.idr0.s1p() || strw & 1 != 0 || (second.s1stalld() && !stalls_both_ways) {
        return Err(Fault::BadSte);
    }
    Ok(Stage1Config {
        contexts: context_table(ste, caps, nested)?,
        default_substream: match second.s1dss() {
            1 => DefaultSubstream::Bypass,
            2 => DefaultSubstream::UseContext0,
            _ => DefaultSubstream::Terminate,
        },
        stall_disabled: second.s1stalld(),
        el2: strw == 2,
    })
}

fn context_table(ste: &Ste, caps: &Capabilities, nested: bool) -> Result<ContextTable, Fault> {
    let word = ste.dw0();
    let substreams = caps.idr1.ssidsize();
    // Without SubstreamIDs the two fields are RES0.
    let (log2size, format) = if substreams == 0 {
        (0, 0)
    } else {
        (word.s1cdmax(), word.s1fmt())
    };
    if log2size > substreams {
        return Err(Fault::BadSte);
    }
    let format = match format {
        1 if log2size > 0 => ContextTableFormat::TwoLevel(6),
        2 if log2size > 0 => ContextTableFormat::TwoLevel(10),
        _ => ContextTableFormat::Linear,
    };
    if format != ContextTableFormat::Linear && !caps.idr0.cd2l() {
        return Err(Fault::BadSte);
    }
    let base = word.s1contextptr() << 6;
    let bits = if nested {
        caps.ias_bits()
    } else {
        caps.oas_bits()
    };
    if base >> bits != 0 {
        return Err(Fault::BadSte);
    }
    let log2_bytes = match format {
        ContextTableFormat::Linear => log2size + 6,
        ContextTableFormat::TwoLevel(leaf) => (log2size.saturating_sub(leaf) + 3).max(6),
    };
    Ok(ContextTable {
        base: Gpa(base & !((1 << log2_bytes) - 1)),
        log2size,
        format,
    })
}
