//! What a frame advertises in front of a host's SMMU: fixed when the frame is made, and checked against
//! every stream that is plugged in later.
//!
//! | the capabilities come from | by |
//! |---|---|
//! | one device's SMMU | [`HostFeatures::of_device`](crate::HostFeatures::of_device), [`Offer::capabilities`] |
//! | the lowest of a fleet | [`HostFeatures::lowest`], [`Offer::capabilities`] |
//! | a profile | [`Profile::features`], [`Offer::capabilities`] |
//! | a saved frame | `vcmdq::snapshot::SavedCaps::capabilities` |
//!
//! A frame's snapshot holds them, and it is restored only into a frame that has the same.

use crate::hw_info::{HostFeatures, StallModel};
use smmu_core::Capabilities;
use smmu_core::caps::{CapabilitiesError, Field, address_bits};
use std::str::FromStr;

/// What the VMM chooses beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// IDR5.OAS in bits: 32, 36, 40, 42, 44, 48 or 52. No more than the guest-physical addresses that the
    /// host's stage 2 can have; the kernel does not say how many (KVM does: `KVM_CAP_ARM_VM_IPA_SIZE`).
    pub output_bits: u8,
    /// IDR0.ATS: some device of the frame is shown to the guest with ATS, which is a property of the device. The
    /// SMMU must know ATC_INV for it ([`HostFeatures::ats`]).
    pub ats: bool,
    /// IDR0.STALL_MODEL and IDR5.STALL_MAX: how many accesses can wait for the guest, 0 for none. Somebody
    /// must read the page faults then ([`NestedStreams::drain`](crate::NestedStreams::drain)).
    pub stalls: u16,
}

impl Offer {
    /// Neither ATS nor stalls.
    #[must_use]
    pub fn new(output_bits: u8) -> Self {
        Self {
            output_bits,
            ats: false,
            stalls: 0,
        }
    }

    /// The identification registers of a frame whose streams are behind such SMMUs, and the most that they
    /// allow. Whatever the engine does itself (stream tables, queues, messages, StreamID bits) is as in
    /// [`Capabilities::default`].
    pub fn capabilities(&self, host: &HostFeatures) -> Result<Capabilities, OfferError> {
        if self.stalls != 0 && host.stalls != StallModel::Either {
            return Err(OfferError::Host(Lack::Less {
                field: Field("IDR0.STALL_MODEL"),
                frame: 0,
                host: stall_code(host.stalls),
            }));
        }
        let newest = host.ranges && host.break_before_make != 0;
        let mut caps = Capabilities::default();
        let minor = if newest { 2 } else { host.is_of_3_1().into() };
        caps.aidr.set_arch_minor(minor);
        caps.idr0.set_asid16(host.asid16);
        caps.idr0
            .set_cd2l(host.two_level_contexts && host.substream_bits != 0);
        caps.idr0
            .set_ttendian(match (host.little_endian, host.big_endian) {
                (true, true) => 0,
                (false, true) => 3,
                _ => 2,
            });
        caps.idr0.set_term_model(!host.terminates_silently);
        caps.idr0.set_ats(self.ats);
        caps.idr0.set_stall_model(u8::from(self.stalls == 0));
        caps.idr1.set_ssidsize(host.substream_bits);
        caps.idr3.set_had(host.is_of_3_1());
        caps.idr3.set_fwb(newest);
        caps.idr3.set_ril(host.ranges);
        caps.idr3.set_bbml(host.break_before_make);
        caps.idr5.set_oas(address_code(self.output_bits));
        caps.idr5.set_gran4k(host.granule_4k);
        caps.idr5.set_gran16k(host.granule_16k);
        caps.idr5.set_gran64k(host.granule_64k);
        caps.idr5
            .set_vax(u8::from(host.wide_input && host.granule_64k));
        caps.idr5.set_stall_max(self.stalls);
        caps.check()?;
        admits(host, &caps)?;
        Ok(caps)
    }
}

/// Why an SMMU cannot have a frame in front of it, or not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// The SMMU has less than the frame advertises.
    #[error(
        "the frame advertises {field}={frame}, the SMMU of the stream has {host}: put the stream behind a \
         frame of its own, or start the frame with what all of its SMMUs have"
    )]
    Less {
        /// The field.
        field: Field,
        /// Its value in the frame's identification registers.
        frame: u32,
        /// Its value in the host's.
        host: u32,
    },
    /// The host's kernel passes this on to no guest, whatever its SMMU has.
    #[error(
        "the frame advertises {0}, which the host passes on to no guest: start the frame without it"
    )]
    NotPassedOn(Field),
    /// The SMMU is such that no frame can stand for it.
    #[error(
        "the SMMU has {0}, which the engine cannot offer to a guest: the device cannot be used"
    )]
    Unusable(Field),
}

/// Capabilities could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The host does not have what was asked for.
    #[error(transparent)]
    Host(#[from] Lack),
    /// The architecture, or the engine, has no such SMMU.
    #[error(transparent)]
    Capabilities(#[from] CapabilitiesError),
}

/// SMMUs that a frame may be made for before any device is known. A name means the same in every release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `basic`: AArch64 tables of 4 KiB granules, little-endian, 16-bit ASIDs, two-level CD tables of 16
    /// SubstreamID bits. Nothing of SMMUv3.1 or later.
    Basic,
    /// `ranges`: that and invalidation by range, break-before-make level 1 and 64 KiB granules.
    Ranges,
}

impl Profile {
    /// What an SMMU must have at least.
    #[must_use]
    pub fn features(self) -> HostFeatures {
        let newer = self == Self::Ranges;
        HostFeatures {
            aarch64_tables: true,
            little_endian: true,
            big_endian: false,
            two_level_contexts: true,
            asid16: true,
            // Not asked for unless the frame offers it.
            ats: true,
            stalls: StallModel::Never,
            terminates_silently: false,
            substream_bits: 16,
            ranges: newer,
            break_before_make: newer.into(),
            wide_input: false,
            granule_4k: true,
            granule_16k: false,
            granule_64k: newer,
        }
    }
}

/// No profile has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no profile is called {0:?}: there are `basic` and `ranges`")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "basic" => Ok(Self::Basic),
            "ranges" => Ok(Self::Ranges),
            _ => Err(UnknownProfile(name.to_owned())),
        }
    }
}

/// IDR5.OAS; seven, which no frame can have, for what has no code.
fn address_code(bits: u8) -> u8 {
    let of = |code: &u8| address_bits(*code) == u32::from(bits);
    (0..7).find(of).unwrap_or(7)
}

fn stall_code(model: StallModel) -> u32 {
    match model {
        StallModel::Either => 0,
        StallModel::Never => 1,
        StallModel::Always => 2,
    }
}

/// Whether a stream behind this SMMU can be what a guest expects that sees these registers. OAS cannot be
/// checked: the host does not say what it has.
pub fn admits(host: &HostFeatures, frame: &Capabilities) -> Result<(), Lack> {
    if host.stalls == StallModel::Always {
        let forced = Field("IDR0.STALL_MODEL=2 (forced stalls)");
        return Err(Lack::Unusable(forced));
    }
    passed_on(frame)?;
    let (idr0, idr1, idr3, idr5) = (&frame.idr0, &frame.idr1, &frame.idr3, &frame.idr5);
    let least = [
        (
            "IDR0.TTF",
            idr0.ttf().into(),
            2 * u32::from(host.aarch64_tables),
        ),
        (
            "IDR0.CD2L",
            idr0.cd2l().into(),
            host.two_level_contexts.into(),
        ),
        ("IDR0.ASID16", idr0.asid16().into(), host.asid16.into()),
        ("IDR0.ATS", idr0.ats().into(), host.ats.into()),
        (
            "IDR1.SSIDSIZE",
            idr1.ssidsize().into(),
            host.substream_bits.into(),
        ),
        ("IDR3.HAD", idr3.had().into(), host.is_of_3_1().into()),
        ("IDR3.RIL", idr3.ril().into(), host.ranges.into()),
        (
            "IDR3.BBML",
            idr3.bbml().into(),
            host.break_before_make.into(),
        ),
        ("IDR5.VAX", idr5.vax().into(), host.wide_input.into()),
        ("IDR5.GRAN4K", idr5.gran4k().into(), host.granule_4k.into()),
        (
            "IDR5.GRAN16K",
            idr5.gran16k().into(),
            host.granule_16k.into(),
        ),
        (
            "IDR5.GRAN64K",
            idr5.gran64k().into(),
            host.granule_64k.into(),
        ),
    ];
    if let Some(&(field, frame, host)) = least.iter().find(|(_, frame, host)| frame > host) {
        return less(field, frame, host);
    }
    models(host, frame)
}

fn less(field: &'static str, frame: u32, host: u32) -> Result<(), Lack> {
    let field = Field(field);
    Err(Lack::Less { field, frame, host })
}

/// Fields of which no value is more than another.
fn models(host: &HostFeatures, frame: &Capabilities) -> Result<(), Lack> {
    let idr0 = &frame.idr0;
    if frame.stalls() && host.stalls != StallModel::Either {
        return less("IDR0.STALL_MODEL", 0, stall_code(host.stalls));
    }
    if !idr0.term_model() && !host.terminates_silently {
        return less("IDR0.TERM_MODEL", 0, 1);
    }
    let wants = |big| frame.endianness_allowed(big);
    if wants(false) && !host.little_endian || wants(true) && !host.big_endian {
        let code = if host.little_endian { 2 } else { 3 };
        return less("IDR0.TTENDIAN", idr0.ttendian().into(), code);
    }
    Ok(())
}

/// What the vSTE and the CDs of a guest cannot have, because the host does not let it through.
fn passed_on(frame: &Capabilities) -> Result<(), Lack> {
    let (idr0, idr1, idr3, idr5) = (&frame.idr0, &frame.idr1, &frame.idr3, &frame.idr5);
    let never = [
        (!idr0.s1p(), "no IDR0.S1P"),
        (idr0.s2p(), "IDR0.S2P"),
        (idr0.hyp(), "IDR0.HYP"),
        (idr0.httu() != 0, "IDR0.HTTU"),
        (idr0.btm(), "IDR0.BTM"),
        (idr1.attr_perms_ovr(), "IDR1.ATTR_PERMS_OVR"),
        (idr1.attr_types_ovr(), "IDR1.ATTR_TYPES_OVR"),
        (idr3.pbha(), "IDR3.PBHA"),
        (idr3.mpam(), "IDR3.MPAM"),
        (idr3.stt(), "IDR3.STT"),
        (idr3.e0pd(), "IDR3.E0PD"),
        (idr5.ds(), "IDR5.DS"),
        (idr5.d128(), "IDR5.D128"),
    ];
    match never.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(Lack::NotPassedOn(Field(field))),
        None => Ok(()),
    }
}
