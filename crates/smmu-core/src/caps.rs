//! What a frame advertises. Decoding and translation ask here and nowhere else, so that
//! what a guest may do is what its identification registers say.

mod builder;
mod check;

pub use builder::{CapabilitiesBuilder, Stages, TableUpdates};
pub use check::{CapabilitiesError, Field};

use crate::range::Granule;
use crate::spec::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

/// The identification registers of a frame (IDR0, IDR1, IDR3, IDR5, AIDR; IDR2 and IDR4 carry
/// nothing that the engine offers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Features.
    pub idr0: Idr0,
    /// Sizes.
    pub idr1: Idr1,
    /// Translation features.
    pub idr3: Idr3,
    /// Addresses and granules.
    pub idr5: Idr5,
    /// Version of the architecture.
    pub aidr: Aidr,
}

impl Default for Capabilities {
    /// A stage-1 SMMU as Linux likes it: coherent, SYNC by message, range invalidation, no
    /// break-before-make, two-level tables, SubstreamIDs, large queues; no ATS, PRI or stalls, because
    /// those need something behind the frame that serves them.
    fn default() -> Self {
        Self {
            idr0: Idr0::new()
                .with_s1p(true)
                .with_ttf(2)
                .with_cohacc(true)
                .with_asid16(true)
                .with_msi(true)
                .with_cd2l(true)
                .with_ttendian(2)
                .with_stall_model(1)
                .with_term_model(true)
                .with_st_level(1),
            idr1: Idr1::new()
                .with_sidsize(16)
                .with_ssidsize(20)
                .with_eventqs(19)
                .with_cmdqs(19),
            idr3: Idr3::new()
                .with_had(true)
                .with_fwb(true)
                .with_ril(true)
                .with_bbml(2),
            idr5: Idr5::new().with_oas(5).with_gran4k(true),
            // The version in which range invalidation appeared.
            aidr: Aidr::new().with_arch_minor(2),
        }
    }
}

impl Capabilities {
    /// Begins with the default; [`build`](CapabilitiesBuilder::build) refuses what the architecture
    /// forbids or the engine does not do.
    pub fn builder() -> CapabilitiesBuilder {
        CapabilitiesBuilder::default()
    }

    /// The default with ATS, for a frame behind which something answers ATC_INV.
    #[must_use]
    pub fn with_ats(mut self) -> Self {
        self.idr0.set_ats(true);
        self
    }

    /// RESUME and STALL_TERM exist.
    #[must_use]
    #[inline]
    pub fn stalls(&self) -> bool {
        self.idr0.stall_model() != 1
    }

    /// log2 of the largest command queue a guest can set up.
    #[must_use]
    pub fn cmdq_log2size(&self) -> u8 {
        self.idr1.cmdqs().min(crate::queue_index::MAX_LOG2SIZE)
    }
}

/// The address bits that a three-bit size code means (OAS, IPS, S2PS). Code 7 needs 128-bit
/// descriptors, which the engine does not offer; without them it is 52 bits.
#[must_use]
#[inline]
pub fn address_bits(code: u8) -> u32 {
    match code {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}

impl Capabilities {
    /// Output address bits (OAS).
    #[must_use]
    #[inline]
    pub fn oas_bits(&self) -> u32 {
        address_bits(self.idr5.oas())
    }

    /// Intermediate address bits (IAS): those of the output, and what AArch32 tables reach.
    #[must_use]
    pub fn ias_bits(&self) -> u32 {
        let aarch32 = if self.idr0.ttf() & 1 != 0 { 40 } else { 0 };
        self.oas_bits().max(aarch32)
    }

    /// The bits that a VMID has (IDR0.VMID16), if there are any.
    #[inline]
    pub(crate) fn vmid_mask(&self) -> u16 {
        if self.idr0.vmid16() { u16::MAX } else { 0xFF }
    }

    /// AArch64 translation tables exist.
    #[must_use]
    pub fn aarch64_tables(&self) -> bool {
        self.idr0.ttf() & 2 != 0
    }

    /// IDR5.GRANxK of a granule.
    #[must_use]
    pub fn granule_supported(&self, granule: Granule) -> bool {
        match granule {
            Granule::K4 => self.idr5.gran4k(),
            Granule::K16 => self.idr5.gran16k(),
            Granule::K64 => self.idr5.gran64k(),
        }
    }

    /// The smallest input of a stage, in bits: TxSZ is at most 39, with small tables 48 (47
    /// with 64 KiB).
    #[must_use]
    pub fn least_input_bits(&self, granule: Granule) -> u32 {
        match (self.idr3.stt(), granule) {
            (false, _) => 64 - 39,
            (true, Granule::K64) => 64 - 47,
            (true, _) => 64 - 48,
        }
    }

    /// Whether IDR0.TTENDIAN allows big-endian (or little-endian) tables.
    #[must_use]
    pub fn endianness_allowed(&self, big: bool) -> bool {
        match self.idr0.ttendian() {
            2 => !big,
            3 => big,
            _ => true,
        }
    }
}
