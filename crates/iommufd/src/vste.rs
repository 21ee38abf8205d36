//! From the guest's STE to what the host is asked for.
//!
//! The kernel takes two words of an STE and of those some fields
//! (`struct iommu_hwpt_arm_smmuv3`); any other bit, or a Config other than abort, bypass and stage 1, is
//! -EIO. So the guest's STE is interpreted first, by the frame's identification registers, as the
//! software SMMU does it (`smmu_core::config`), and what is passed on is made anew from what it means. What a
//! frame does not advertise (overrides of attributes, STRW, EATS without ATS) never gets there.

use crate::hw_info::StallModel;
use dispatch::Traffic;
use smmu_core::config::{StreamConfig, interpret};
use smmu_core::fault::Fault;
use smmu_core::spec::ste::{Ste, SteWord0, SteWord1, config};
use smmu_core::{Capabilities, GuestMemory, StreamId};

/// The two words of a vSTE, as the kernel wants them but for their byte order (`ste` is little-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vste(pub [u64; 2]);

impl Vste {
    /// V=1, Config=0: the stream aborts.
    pub const ABORT: Self = Self([1, 0]);
    /// V=1, Config=4: stage 2 alone.
    pub const BYPASS: Self = Self([1 | (config::BYPASS as u64) << 1, 0]);
}

/// What a stream is to be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The abort table.
    Abort,
    /// Stage 2 alone.
    Bypass,
    /// The guest's stage 1 on top of it.
    Stage1(Vste),
}

/// What the guest's registers and stream table say about a stream now.
///
/// The fault is the event that the architecture has for the stream's traffic (IHI 0070, 7.3); it goes with an
/// abort. An STE with V=0 and a stream outside of the table have none here: that is what streams look like that
/// nobody uses, and whether there is traffic is not seen. Without any word of the registers (`None`) the stream
/// aborts.
#[must_use]
pub fn wanted(
    traffic: Option<&Traffic>,
    memory: &dyn GuestMemory,
    stream: StreamId,
    host: StallModel,
) -> (Wanted, Option<Fault>) {
    match traffic {
        None => (Wanted::Abort, None),
        Some(Traffic::Disabled(gbpa, _)) if gbpa.abort() => (Wanted::Abort, None),
        Some(Traffic::Disabled(..)) => (Wanted::Bypass, None),
        Some(Traffic::Enabled(setup)) => {
            let ste = match setup.streams.raw_ste(memory, stream) {
                Ok(ste) if !ste.dw0().v() => return (Wanted::Abort, None),
                Err(Fault::BadStreamId) => return (Wanted::Abort, None),
                read => read,
            };
            match ste.and_then(|ste| from_ste(&ste, &setup.caps, host)) {
                Ok(wanted) => (wanted, None),
                Err(fault) => (Wanted::Abort, Some(fault)),
            }
        }
    }
}

/// What an STE asks for, or C_BAD_STE.
pub fn from_ste(ste: &Ste, caps: &Capabilities, host: StallModel) -> Result<Wanted, Fault> {
    match interpret(ste, caps)? {
        StreamConfig::Abort => Ok(Wanted::Abort),
        StreamConfig::Bypass(_) => Ok(Wanted::Bypass),
        StreamConfig::Stage1(_, stage1) if !stage1.el2 => {
            Ok(Wanted::Stage1(translating(ste, caps, host)))
        }
        // No frame in front of a host advertises these (`admits`).
        StreamConfig::Stage1(..) | StreamConfig::Stage2(..) | StreamConfig::Nested(..) => {
            Err(Fault::BadSte)
        }
    }
}

/// Of an STE that has been found valid.
fn translating(ste: &Ste, caps: &Capabilities, host: StallModel) -> Vste {
    let (first, second) = (ste.dw0(), ste.dw1());
    let log2size = if caps.idr1.ssidsize() == 0 {
        0
    } else {
        first.s1cdmax()
    };
    let word0 = SteWord0::new()
        .with_v(true)
        .with_config(config::STAGE1)
        .with_s1contextptr(first.s1contextptr())
        .with_s1cdmax(log2size)
        .with_s1fmt(match first.s1fmt() {
            format @ (1 | 2) if log2size != 0 => format,
            _ => 0,
        });
    let ats = caps.idr0.ats() && second.eats() != 0;
    // A guest without stalls has S=1 in a CD refused (C_BAD_CD), as its SMMU does. One of both models needs
    // to be told; to one that never stalls the bit would be illegal.
    let no_stalls = match host {
        StallModel::Either => second.s1stalld() || !caps.stalls(),
        StallModel::Never | StallModel::Always => false,
    };
    let word1 = SteWord1::new()
        .with_s1dss(if second.s1dss() == 3 {
            0
        } else {
            second.s1dss()
        })
        .with_s1cir(second.s1cir())
        .with_s1cor(second.s1cor())
        .with_s1csh(second.s1csh())
        .with_s1stalld(no_stalls)
        .with_eats(ats.into());
    Vste([word0.into_bits(), word1.into_bits()])
}
