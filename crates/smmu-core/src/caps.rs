//! What a frame advertises. Decoding and translation ask here and nowhere else, so that
//! what a guest may do is what its identification registers say.

use crate::spec::register::{Idr0, Idr1, Idr3, Idr5};

/// The identification registers of a frame (IDR0, IDR1, IDR3, IDR5; IDR2 and IDR4 carry
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
}

impl Default for Capabilities {
    /// A stage-1 SMMU as Linux likes it: coherent, SYNC by message, range invalidation, two-level
    /// tables, SubstreamIDs, large queues; no ATS, PRI or stalls, because those need something
    /// behind the frame that serves them.
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
            idr3: Idr3::new().with_had(true).with_ril(true),
            idr5: Idr5::new().with_oas(5).with_gran4k(true),
        }
    }
}

impl Capabilities {
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
