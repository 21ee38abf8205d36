//! Which capabilities can be: what IHI 0070 forbids (6.3.1 to 6.3.8, and the lists of what each
//! version makes mandatory), and what the engine does not do.

use super::Capabilities;
use crate::queue_index::MAX_LOG2SIZE;
use core::fmt;

/// A field of an identification register, as the architecture names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub &'static str);

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Capabilities that cannot be, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilitiesError {
    /// An SMMU translates.
    #[error("neither stage is offered: set IDR0.S1P, IDR0.S2P or both")]
    NoStage,
    /// No granule.
    #[error("no granule is offered: set one of IDR5.GRAN4K, GRAN16K, GRAN64K")]
    NoGranule,
    /// The engine does not do this.
    #[error("{0} is not offered by the engine: leave it clear")]
    NotOffered(Field),
    /// The engine needs this.
    #[error("{0} must be set: the engine does nothing else")]
    Needed(Field),
    /// A value that the architecture reserves or that is too large.
    #[error("{field} is {value}: at most {most} can be")]
    TooLarge {
        /// The field.
        field: Field,
        /// Its value.
        value: u32,
        /// The largest.
        most: u32,
    },
    /// A field that means nothing without another one is RES0.
    #[error("{field} needs {needs}: set that, or clear {field}")]
    Needs {
        /// The field.
        field: Field,
        /// What is missing.
        needs: Field,
    },
    /// A feature of a later version.
    #[error("{field} appeared with SMMUv3.{since}, AIDR says 3.{version}: raise AIDR or clear it")]
    Newer {
        /// The feature.
        field: Field,
        /// The first version that has it.
        since: u8,
        /// AIDR.
        version: u8,
    },
    /// A version has features that it must have.
    #[error(
        "{field} is mandatory from SMMUv3.{since} on, AIDR says 3.{version}: \
             set it or lower AIDR"
    )]
    Mandatory {
        /// The feature.
        field: Field,
        /// The version that made it mandatory.
        since: u8,
        /// AIDR.
        version: u8,
    },
    /// More than 64 streams need two-level tables (3.3.1).
    #[error("IDR1.SIDSIZE is {0}, above 6: IDR0.ST_LEVEL must offer two-level stream tables")]
    StreamTables(u8),
}

use CapabilitiesError as Error;

/// Passes if the value is small enough.
fn at_most(field: &'static str, value: u8, most: u8) -> Result<(), Error> {
    if value <= most {
        return Ok(());
    }
    Err(Error::TooLarge {
        field: Field(field),
        value: value.into(),
        most: most.into(),
    })
}

fn needs(set: bool, field: &'static str, there: bool, what: &'static str) -> Result<(), Error> {
    if !set || there {
        return Ok(());
    }
    let (field, needs) = (Field(field), Field(what));
    Err(Error::Needs { field, needs })
}

/// The latest version whose mandatory features the engine has.
const NEWEST: u8 = 3;

/// The fields that have a name here; what lies beside them is reserved, or newer.
const IDR0_KNOWN: u32 = 0x1FFF_FFFF;
const IDR3_KNOWN: u32 = 0x0000_FFBC;
const IDR5_KNOWN: u32 = 0xFFFF_0DF7;

impl Capabilities {
    /// Whether a frame can advertise these. Any others decode and translate, too, but no SMMU
    /// that a driver expects is like that.
    pub fn check(&self) -> Result<(), CapabilitiesError> {
        self.check_offered()?;
        self.check_sizes()?;
        self.check_dependent()?;
        self.check_version()
    }

    /// What the engine has not.
    fn check_offered(&self) -> Result<(), Error> {
        let (idr0, idr1, idr3, idr5) = (&self.idr0, &self.idr1, &self.idr3, &self.idr5);
        if !idr0.s1p() && !idr0.s2p() {
            return Err(Error::NoStage);
        }
        if !(idr5.gran4k() || idr5.gran16k() || idr5.gran64k()) {
            return Err(Error::NoGranule);
        }
        if !self.aarch64_tables() {
            return Err(Error::Needed(Field("IDR0.TTF[1] (AArch64 tables)")));
        }
        let absent = [
            (idr0.ttf() & 1 != 0, "IDR0.TTF[0] (AArch32 tables)"),
            (idr0.btm(), "IDR0.BTM"),
            (idr0.httu() > 2, "IDR0.HTTU=3 (table descriptors)"),
            (idr0.dormhint(), "IDR0.DORMHINT"),
            (idr0.sev(), "IDR0.SEV"),
            (idr0.atos(), "IDR0.ATOS"),
            (idr0.vatos(), "IDR0.VATOS"),
            (idr0.vmw(), "IDR0.VMW"),
            (idr0.atsrecerr(), "IDR0.ATSRECERR"),
            (
                idr0.stall_model() == 2,
                "IDR0.STALL_MODEL=2 (forced stalls)",
            ),
            (idr1.rel(), "IDR1.REL"),
            (idr1.queues_preset(), "IDR1.QUEUES_PRESET"),
            (idr1.tables_preset(), "IDR1.TABLES_PRESET"),
            (idr1.ecmdq(), "IDR1.ECMDQ"),
            (idr3.pbha(), "IDR3.PBHA"),
            (idr3.mpam(), "IDR3.MPAM"),
            (idr3.dpt(), "IDR3.DPT"),
            (idr5.d128(), "IDR5.D128"),
            (self.aidr.arch_major() != 0, "AIDR.ArchMajor"),
            (
                idr0.into_bits() & !IDR0_KNOWN != 0,
                "a reserved bit of IDR0",
            ),
            (
                idr3.into_bits() & !IDR3_KNOWN != 0,
                "a reserved bit of IDR3",
            ),
            (
                idr5.into_bits() & !IDR5_KNOWN != 0,
                "a reserved bit of IDR5",
            ),
        ];
        match absent.iter().find(|(set, _)| *set) {
            Some((_, field)) => Err(Error::NotOffered(Field(field))),
            None => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let (idr0, idr1, idr5) = (&self.idr0, &self.idr1, &self.idr5);
        at_most("IDR1.SIDSIZE", idr1.sidsize(), 32)?;
        at_most("IDR1.SSIDSIZE", idr1.ssidsize(), 20)?;
        at_most("IDR1.CMDQS", idr1.cmdqs(), MAX_LOG2SIZE)?;
        at_most("IDR1.EVENTQS", idr1.eventqs(), MAX_LOG2SIZE)?;
        at_most("IDR1.PRIQS", idr1.priqs(), MAX_LOG2SIZE)?;
        at_most("IDR0.STALL_MODEL", idr0.stall_model(), 2)?;
        at_most("IDR0.ST_LEVEL", idr0.st_level(), 1)?;
        at_most("IDR3.BBML", self.idr3.bbml(), 2)?;
        at_most("IDR5.VAX", idr5.vax(), 1)?;
        // Seven is 56 bits, of 128-bit descriptors.
        at_most("IDR5.OAS", idr5.oas(), 6)?;
        if idr0.ttendian() == 1 {
            return Err(Error::NotOffered(Field("IDR0.TTENDIAN=1 (reserved)")));
        }
        if idr1.sidsize() > 6 && idr0.st_level() == 0 {
            return Err(Error::StreamTables(idr1.sidsize()));
        }
        Ok(())
    }

    /// Fields that are RES0 without others.
    fn check_dependent(&self) -> Result<(), Error> {
        let (idr0, idr1, idr3, idr5) = (&self.idr0, &self.idr1, &self.idr3, &self.idr5);
        let (s1, s2) = (idr0.s1p(), idr0.s2p());
        let wide = idr5.gran64k() || idr5.ds();
        needs(idr0.asid16(), "IDR0.ASID16", s1, "IDR0.S1P")?;
        needs(idr0.cd2l(), "IDR0.CD2L", s1, "IDR0.S1P")?;
        needs(idr1.ssidsize() != 0, "IDR1.SSIDSIZE", s1, "IDR0.S1P")?;
        needs(idr3.had(), "IDR3.HAD", s1, "IDR0.S1P")?;
        needs(idr0.hyp(), "IDR0.HYP", s1, "IDR0.S1P")?;
        needs(idr0.vmid16(), "IDR0.VMID16", s2, "IDR0.S2P")?;
        needs(idr3.xnx(), "IDR3.XNX", s2, "IDR0.S2P")?;
        needs(idr3.ptwnnc(), "IDR3.PTWNNC", s2, "IDR0.S2P")?;
        needs(idr0.pri(), "IDR0.PRI", idr0.ats(), "IDR0.ATS")?;
        let split = idr0.ats() && s1 && s2;
        needs(
            idr0.ns1ats(),
            "IDR0.NS1ATS",
            split,
            "IDR0.ATS and both stages",
        )?;
        needs(idr1.priqs() != 0, "IDR1.PRIQS", idr0.pri(), "IDR0.PRI")?;
        let pasids = idr0.pri() && idr1.ssidsize() != 0;
        needs(idr3.pps(), "IDR3.PPS", pasids, "IDR0.PRI and IDR1.SSIDSIZE")?;
        let (stalls, most) = (self.stalls(), idr5.stall_max() != 0);
        needs(most, "IDR5.STALL_MAX", stalls, "IDR0.STALL_MODEL=0")?;
        needs(stalls, "IDR0.STALL_MODEL=0", most, "IDR5.STALL_MAX")?;
        needs(
            idr5.oas() == 6,
            "IDR5.OAS=6 (52 bits)",
            wide,
            "IDR5.GRAN64K or DS",
        )?;
        needs(idr5.vax() == 1, "IDR5.VAX=1", wide, "IDR5.GRAN64K or DS")?;
        let small = idr5.gran4k() || idr5.gran16k();
        needs(idr5.ds(), "IDR5.DS", small, "IDR5.GRAN4K or GRAN16K")?;
        needs(idr5.ds(), "IDR5.DS", idr5.vax() == 1, "IDR5.VAX=1")
    }

    fn check_version(&self) -> Result<(), Error> {
        let (idr0, idr3, idr5) = (&self.idr0, &self.idr3, &self.idr5);
        let version = self.aidr.arch_minor();
        at_most("AIDR.ArchMinor", version, NEWEST)?;
        let appeared = [
            (idr3.xnx(), "IDR3.XNX", 1),
            (idr5.oas() == 6, "IDR5.OAS=6 (52 bits)", 1),
            (idr5.vax() == 1, "IDR5.VAX=1", 1),
            (idr3.ril(), "IDR3.RIL", 2),
            (idr3.bbml() != 0, "IDR3.BBML", 2),
            (idr3.stt(), "IDR3.STT", 2),
            (idr3.fwb(), "IDR3.FWB", 2),
            (idr3.e0pd(), "IDR3.E0PD", 3),
            (idr3.ptwnnc(), "IDR3.PTWNNC", 3),
            (idr5.ds(), "IDR5.DS", 4),
        ];
        // A version may have any feature of the next one (2.9), but the fields of SMMUv3.1 are
        // reserved in SMMUv3.0 (6.3.4, 6.3.6).
        let too_new = |since| since > version + 1 || since == 1 && version == 0;
        if let Some(&(_, field, since)) = appeared.iter().find(|(on, _, v)| *on && too_new(*v)) {
            let field = Field(field);
            return Err(Error::Newer {
                field,
                since,
                version,
            });
        }
        let (s1, s2) = (idr0.s1p(), idr0.s2p());
        let mandatory = [
            (!s1 || idr3.had(), "IDR3.HAD", 1),
            (!s2 || idr3.xnx(), "IDR3.XNX", 1),
            (idr3.ril(), "IDR3.RIL", 2),
            (idr3.bbml() != 0, "IDR3.BBML", 2),
            (idr3.fwb(), "IDR3.FWB", 2),
            (!(s1 && s2) || idr0.hyp(), "IDR0.HYP", 2),
            (idr3.e0pd(), "IDR3.E0PD", 3),
            (!s2 || idr3.ptwnnc(), "IDR3.PTWNNC", 3),
        ];
        match mandatory.iter().find(|(on, _, v)| !*on && *v <= version) {
            Some(&(_, field, since)) => Err(Error::Mandatory {
                field: Field(field),
                since,
                version,
            }),
            None => Ok(()),
        }
    }
}
