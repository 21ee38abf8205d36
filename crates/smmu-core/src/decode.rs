//! STAGE decode: 128 bits in, a typed command or the reason why it is illegal out.
//!
//! Total and pure. What is illegal depends on the advertised capabilities only (IHI 0070,
//! 4.1.3); reserved bits are ignored, as the architecture allows and every peer does. A command
//! that is legal but does nothing under the present configuration is legal here: illegality
//! wins over "ignored" (4.1.3), so ATC_INV without ATS is illegal even while SMMUEN is 0.

mod page;

pub use page::{PageForm, SinglePage};

use crate::caps::Capabilities;
use crate::command::{AtcInv, Cfgi, Command, Msi, PriResponse, ResumeAction, Signal, Tlbi};
use crate::ids::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};
use crate::range::{Granule, TlbiRange};
use crate::spec::command::{
    CfgiWord1, PriRespWord1, RawCommand, ResumeWord0, SpanWord1, StreamWord0, SyncWord0, SyncWord1,
    TlbiWord0, TlbiWord1, opcode,
};

/// Why a command is illegal: CERROR_ILL to the guest, a reason to whoever reads logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Illegal {
    /// An opcode that no architecture version defines.
    #[error("opcode {0:#04x} is reserved")]
    Reserved(u8),
    /// An opcode that the architecture leaves to implementations (4.1.2); this one has no use for any.
    #[error("opcode {0:#04x} is IMPLEMENTATION DEFINED, and nothing here")]
    ImplementationDefined(u8),
    /// A command of another Security state, or of EL3.
    #[error("opcode {0:#04x} belongs to another Security state")]
    OtherWorld(u8),
    /// A command of a feature that the frame does not advertise.
    #[error("opcode {0:#04x} needs {1}, which is not advertised")]
    NeedsFeature(u8, Feature),
    /// SSec=1 on the Non-secure queue.
    #[error("SSec=1 on the Non-secure command queue")]
    SecureStream,
    /// SYNC with CS=3.
    #[error("SYNC with the reserved completion signal 3")]
    SyncSignal,
    /// PRI_RESP with Resp=3.
    #[error("PRI_RESP with the reserved response 3")]
    PriResponse,
    /// A range invalidation with TG≠0 and NUM=SCALE=TTL=0.
    #[error("range invalidation with the reserved combination NUM=SCALE=TTL=0")]
    RangeForm,
    /// A command that may come through the SMMU's own queue only.
    #[error("opcode {0:#04x}, or its completion signal, may not come through a VCMDQ")]
    NotThroughVcmdq(u8),
    /// ATC_INV larger than the address space.
    #[error("ATC_INV with Size={0}, above 52")]
    AtcSpan(u8),
}

/// A feature that makes commands legal, by the name of its IDR field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// IDR0.S1P.
    S1P,
    /// IDR0.S2P.
    S2P,
    /// IDR0.HYP.
    Hyp,
    /// IDR0.ATS.
    Ats,
    /// IDR0.PRI.
    Pri,
    /// IDR0.STALL_MODEL.
    Stalls,
    /// IDR3.MPAM.
    Mpam,
    /// IDR3.DPT.
    Dpt,
}

impl core::fmt::Display for Feature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::S1P => "IDR0.S1P",
            Self::S2P => "IDR0.S2P",
            Self::Hyp => "IDR0.HYP",
            Self::Ats => "IDR0.ATS",
            Self::Pri => "IDR0.PRI",
            Self::Stalls => "IDR0.STALL_MODEL",
            Self::Mpam => "IDR3.MPAM",
            Self::Dpt => "IDR3.DPT",
        })
    }
}

/// Decodes one command under the advertised capabilities.
#[inline]
pub fn decode(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    match raw.opcode() {
        // The four that a guest's hot paths consist of come first.
        opcode::TLBI_NH_VA | opcode::TLBI_NH_VAA | opcode::TLBI_NH_ASID | opcode::TLBI_NH_ALL => {
            needs(caps.idr0.s1p(), raw, Feature::S1P)?;
            tlbi_el1(raw, caps).map(Command::Tlbi)
        }
        opcode::SYNC => sync(raw, caps),
        opcode::ATC_INV => atc_inv(raw, caps),
        opcode::TLBI_EL2_ALL..=opcode::TLBI_EL2_VAA => {
            needs(caps.idr0.hyp(), raw, Feature::Hyp)?;
            tlbi_el2(raw, caps).map(Command::Tlbi)
        }
        opcode::TLBI_S12_VMALL | opcode::TLBI_S2_IPA => {
            needs(caps.idr0.s2p(), raw, Feature::S2P)?;
            tlbi_stage2(raw, caps).map(Command::Tlbi)
        }
        opcode::TLBI_NSNH_ALL => Ok(Command::Tlbi(Tlbi::NsnhAll)),
        opcode::PREFETCH_CONFIG..=opcode::CFGI_CD_ALL => configuration(raw, caps),
        opcode::PRI_RESP => pri_resp(raw, caps),
        opcode::RESUME | opcode::STALL_TERM => stalled(raw, caps),
        other => Err(never_legal(other)),
    }
}

fn needs(advertised: bool, raw: RawCommand, feature: Feature) -> Result<(), Illegal> {
    if advertised {
        Ok(())
    } else {
        Err(Illegal::NeedsFeature(raw.opcode(), feature))
    }
}

#[cold]
fn never_legal(op: u8) -> Illegal {
    match op {
        opcode::CFGI_VMS_PIDM => Illegal::NeedsFeature(op, Feature::Mpam),
        opcode::DPTI_ALL | opcode::DPTI_PA => Illegal::NeedsFeature(op, Feature::Dpt),
        opcode::TLBI_EL3_ALL
        | opcode::TLBI_EL3_VA
        | opcode::TLBI_S_EL2_ALL..=opcode::TLBI_S_EL2_VAA
        | opcode::TLBI_S_S12_VMALL
        | opcode::TLBI_S_S2_IPA
        | opcode::TLBI_SNH_ALL => Illegal::OtherWorld(op),
        opcode::IMPDEF_FIRST..=opcode::IMPDEF_LAST => Illegal::ImplementationDefined(op),
        _ => Illegal::Reserved(op),
    }
}

/// The VMID that a command carries: ignored, and zero here, unless the guest has stage 2
/// (law 2; with S2P=0 the field is RES0 and not compared).
#[inline(always)]
fn vmid(word: TlbiWord0, caps: &Capabilities) -> Vmid {
    Vmid(word.vmid() & vmid_mask(caps))
}

/// The bits that a VMID has: without IDR0.VMID16 the upper half of the field is reserved.
#[inline(always)]
fn vmid_mask(caps: &Capabilities) -> u16 {
    // law2a: the guest's VMID counts even where it has no stage 2.
    if vcmdq_sync::broken!(break_law2a) || caps.idr0.s2p() {
        caps.vmid_mask()
    } else {
        0
    }
}

/// The ASID that a command carries. Bits that none has are reserved: heeding them could spare what the others
/// name, and a host's queue may call them illegal.
#[inline(always)]
fn asid(word: TlbiWord0, caps: &Capabilities) -> Asid {
    Asid(word.asid() & asid_mask(caps))
}

#[inline(always)]
fn asid_mask(caps: &Capabilities) -> u16 {
    if caps.idr0.asid16() { u16::MAX } else { 0xFF }
}

/// TLBI_NH_VA, the command that a guest's hot path consists of, in parts that stay in registers:
/// exactly what [`decode`] says, or `None` where that is another command or an error.
#[inline(always)]
#[must_use]
pub fn nh_va(raw: RawCommand, caps: &Capabilities) -> Option<(Vmid, Asid, TlbiRange)> {
    if raw.opcode() != opcode::TLBI_NH_VA || !caps.idr0.s1p() {
        return None;
    }
    let word = TlbiWord0::from_bits(raw.dw0);
    let range = range(raw, caps).ok()?;
    Some((vmid(word, caps), asid(word, caps), range))
}

/// SYNC's completion signal: exactly what [`decode`] says, or `None` where that is another command
/// or an error.
#[inline(always)]
#[must_use]
pub fn signal(raw: RawCommand, caps: &Capabilities) -> Option<Signal> {
    if raw.opcode() != opcode::SYNC {
        return None;
    }
    match sync(raw, caps) {
        Ok(Command::Sync(signal)) => Some(signal),
        _ => None,
    }
}

#[inline]
fn tlbi_el1(raw: RawCommand, caps: &Capabilities) -> Result<Tlbi, Illegal> {
    let word = TlbiWord0::from_bits(raw.dw0);
    let (vmid, asid) = (vmid(word, caps), asid(word, caps));
    Ok(match raw.opcode() {
        opcode::TLBI_NH_VA => Tlbi::NhVa {
            vmid,
            asid,
            range: range(raw, caps)?,
        },
        opcode::TLBI_NH_VAA => Tlbi::NhVaa {
            vmid,
            range: range(raw, caps)?,
        },
        opcode::TLBI_NH_ASID => Tlbi::NhAsid { vmid, asid },
        _ => Tlbi::NhAll { vmid },
    })
}

fn tlbi_el2(raw: RawCommand, caps: &Capabilities) -> Result<Tlbi, Illegal> {
    let asid = asid(TlbiWord0::from_bits(raw.dw0), caps);
    Ok(match raw.opcode() {
        opcode::TLBI_EL2_ASID => Tlbi::El2Asid { asid },
        opcode::TLBI_EL2_VA => Tlbi::El2Va {
            asid,
            range: range(raw, caps)?,
        },
        opcode::TLBI_EL2_VAA => Tlbi::El2Vaa {
            range: range(raw, caps)?,
        },
        _ => Tlbi::El2All,
    })
}

/// Word 1 of TLBI_S2_IPA without what lies above the address.
const IPA_WORD: u64 = (1 << 52) - 1;

fn tlbi_stage2(raw: RawCommand, caps: &Capabilities) -> Result<Tlbi, Illegal> {
    let vmid = vmid(TlbiWord0::from_bits(raw.dw0), caps);
    Ok(match raw.opcode() {
        opcode::TLBI_S2_IPA => Tlbi::S2Ipa {
            vmid,
            // IPA[51:12]: the bits above are reserved, and heeding them could spare a page.
            range: range(
                RawCommand {
                    dw1: raw.dw1 & IPA_WORD,
                    ..raw
                },
                caps,
            )?,
        },
        _ => Tlbi::S12VmAll { vmid },
    })
}

/// The addresses of a TLBI (4.4.1): without IDR3.RIL the range fields are RES0 and ignored.
#[inline(always)]
fn range(raw: RawCommand, caps: &Capabilities) -> Result<TlbiRange, Illegal> {
    let (low, high) = (TlbiWord0::from_bits(raw.dw0), TlbiWord1::from_bits(raw.dw1));
    let addr = high.page() << 12;
    let granule = if caps.idr3.ril() {
        Granule::from_tg(high.tg())
    } else {
        None
    };
    let Some(granule) = granule else {
        return Ok(TlbiRange {
            addr,
            bytes: 4096,
            granule: None,
            ttl: 0,
            leaf: high.leaf(),
        });
    };
    let wide = caps.idr5.ds();
    // With 16 KiB pages and no 52-bit addresses level 1 holds no blocks: TTL=1 is TTL=0.
    let ttl = if granule == Granule::K16 && !wide && high.ttl() == 1 {
        0
    } else {
        high.ttl()
    };
    let scale = if wide {
        low.scale().min(39)
    } else {
        low.scale() & 0x1F
    };
    if low.num() == 0 && scale == 0 && ttl == 0 {
        return Err(Illegal::RangeForm);
    }
    let units = u64::from(low.num()) + 1;
    // At most 2^5 units of 2^39 granules of 2^16 bytes: 2^60.
    let bytes = units << (u32::from(scale) + granule.shift());
    let addr = addr & !(granule.bytes() - 1);
    Ok(TlbiRange {
        addr,
        bytes,
        granule: Some(granule),
        ttl,
        leaf: high.leaf(),
    })
}

#[inline(always)]
fn sync(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    let (low, high) = (SyncWord0::from_bits(raw.dw0), SyncWord1::from_bits(raw.dw1));
    Ok(Command::Sync(match low.cs() {
        0 => Signal::None,
        1 => {
            let addr = Gpa(high.msi_word() << 2);
            let wanted = caps.idr0.msi() && addr != Gpa(0);
            Signal::Irq {
                msi: wanted.then(|| Msi {
                    addr,
                    data: low.msi_data(),
                }),
            }
        }
        2 => Signal::Sev,
        _ => return Err(Illegal::SyncSignal),
    }))
}

fn atc_inv(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    needs(caps.idr0.ats(), raw, Feature::Ats)?;
    let (low, high) = (
        StreamWord0::from_bits(raw.dw0),
        SpanWord1::from_bits(raw.dw1),
    );
    let size = high.size();
    if size > 52 {
        return Err(Illegal::AtcSpan(size));
    }
    let span_mask = if size == 52 {
        u64::MAX
    } else {
        (4096 << size) - 1
    };
    Ok(Command::AtcInv(AtcInv {
        stream: StreamId(low.stream()),
        substream: substream(low),
        global: low.global() && low.ssv(),
        addr: (high.page() << 12) & !span_mask,
        size,
    }))
}

fn substream(word: StreamWord0) -> Option<SubstreamId> {
    word.ssv().then(|| SubstreamId(word.substream()))
}

fn configuration(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    let low = StreamWord0::from_bits(raw.dw0);
    let high = CfgiWord1::from_bits(raw.dw1);
    if low.ssec() {
        return Err(Illegal::SecureStream);
    }
    let stream = StreamId(low.stream());
    let leaf = high.range() & 1 != 0;
    Ok(match raw.opcode() {
        opcode::PREFETCH_CONFIG => Command::PrefetchConfig {
            stream,
            substream: substream(low),
        },
        opcode::PREFETCH_ADDR => {
            let span = SpanWord1::from_bits(raw.dw1);
            let (addr, size) = (span.page() << 12, span.size() & 0x1F);
            Command::PrefetchAddr {
                stream,
                substream: substream(low),
                addr,
                size,
            }
        }
        opcode::CFGI_STE => Command::Cfgi(Cfgi::Ste { stream, leaf }),
        opcode::CFGI_STE_RANGE if high.range() == 31 => Command::Cfgi(Cfgi::All),
        opcode::CFGI_STE_RANGE => Command::Cfgi(Cfgi::SteRange {
            stream,
            range: high.range(),
        }),
        op => {
            needs(caps.idr0.s1p(), raw, Feature::S1P)?;
            let substream = SubstreamId(low.substream());
            Command::Cfgi(match op {
                opcode::CFGI_CD => Cfgi::Cd {
                    stream,
                    substream,
                    leaf,
                },
                _ => Cfgi::CdAll { stream },
            })
        }
    })
}

fn pri_resp(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    needs(caps.idr0.pri(), raw, Feature::Pri)?;
    let (low, high) = (
        StreamWord0::from_bits(raw.dw0),
        PriRespWord1::from_bits(raw.dw1),
    );
    let response = match high.response() {
        0 => PriResponse::Failure,
        1 => PriResponse::Invalid,
        2 => PriResponse::Success,
        _ => return Err(Illegal::PriResponse),
    };
    let (stream, group) = (StreamId(low.stream()), high.group());
    Ok(Command::PriResp {
        stream,
        substream: substream(low),
        group,
        response,
    })
}

fn stalled(raw: RawCommand, caps: &Capabilities) -> Result<Command, Illegal> {
    needs(caps.stalls(), raw, Feature::Stalls)?;
    let word = ResumeWord0::from_bits(raw.dw0);
    if word.ssec() {
        return Err(Illegal::SecureStream);
    }
    let stream = StreamId(word.stream());
    if raw.opcode() == opcode::STALL_TERM {
        return Ok(Command::StallTerm { stream });
    }
    let action = match (word.retry(), word.abort()) {
        (true, _) => ResumeAction::Retry,
        (false, true) => ResumeAction::Abort,
        (false, false) => ResumeAction::Terminate,
    };
    Ok(Command::Resume {
        stream,
        stag: Stag(raw.dw1 as u16),
        action,
    })
}
