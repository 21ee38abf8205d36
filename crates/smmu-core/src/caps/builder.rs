//! Capabilities, feature by feature.

use super::{Capabilities, CapabilitiesError};
use crate::range::Granule;

/// Translation stages that a guest is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    /// Stage 1.
    One,
    /// Stage 2 of the guest's own; without SubstreamIDs.
    Two,
    /// Both, also one on top of the other.
    Both,
}

/// What a walk may update of a guest's tables (IDR0.HTTU). The guest switches it on by context and
/// stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableUpdates {
    /// Nothing.
    None,
    /// Access flags.
    AccessFlag,
    /// Access flags and dirty state.
    DirtyState,
}

/// Builds [`Capabilities`], from the defaults on. What follows from a choice (16-bit VMIDs need a
/// stage 2, the queue of PRI a size) is set along; what contradicts another choice is found by
/// [`build`](Self::build).
///
/// ```
/// use smmu_core::Capabilities;
/// use smmu_core::range::Granule;
///
/// let caps = Capabilities::builder()
///     .stream_id_bits(16)
///     .granule(Granule::K64, true)
///     .output_bits(44)
///     .ats(true)
///     .build()?;
/// assert!(caps.idr3.ril() && caps.idr0.msi());
///
/// let without_ranges = Capabilities::builder().range_invalidation(false).build();
/// assert!(without_ranges.is_err(), "SMMUv3.2 has them");
/// # Ok::<(), smmu_core::caps::CapabilitiesError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "call build"]
pub struct CapabilitiesBuilder {
    caps: Capabilities,
}

/// The code of a number of address bits; those without a code have one that is refused.
fn size_code(bits: u8) -> u8 {
    match bits {
        32 => 0,
        36 => 1,
        40 => 2,
        42 => 3,
        44 => 4,
        48 => 5,
        52 => 6,
        _ => 7,
    }
}

impl CapabilitiesBuilder {
    /// Checks the whole.
    pub fn build(self) -> Result<Capabilities, CapabilitiesError> {
        self.caps.check()?;
        Ok(self.caps)
    }

    /// AIDR: SMMUv3.`minor`, 0 to 3. Default 2. What a version makes mandatory is not set along. A
    /// version may have features of the next one (IHI 0070, 2.9).
    pub fn version(mut self, minor: u8) -> Self {
        self.caps.aidr.set_arch_minor(minor.min(15));
        self
    }

    /// IDR0.S1P and S2P, and what depends on them. Default: stage 1. Both stages make AIDR SMMUv3.1,
    /// which may have all the same features: from 3.2 on both need [EL2 contexts](Self::el2_contexts), and
    /// a [`version`](Self::version) that is set behind this.
    pub fn stages(mut self, stages: Stages) -> Self {
        let (one, two) = (stages != Stages::Two, stages != Stages::One);
        let caps = &mut self.caps;
        if one && two {
            caps.aidr.set_arch_minor(caps.aidr.arch_minor().min(1));
        }
        caps.idr0.set_s1p(one);
        caps.idr0.set_s2p(two);
        caps.idr0.set_asid16(one);
        caps.idr0.set_vmid16(two);
        caps.idr0.set_cd2l(one);
        caps.idr1.set_ssidsize(if one { 20 } else { 0 });
        caps.idr3.set_had(one);
        caps.idr3.set_xnx(two && caps.aidr.arch_minor() >= 1);
        self
    }

    /// IDR1.SIDSIZE, 0 to 32, and two-level stream tables from 7 on. Default 16.
    pub fn stream_id_bits(mut self, bits: u8) -> Self {
        self.caps.idr1.set_sidsize(bits.min(63));
        self.caps.idr0.set_st_level(u8::from(bits > 6));
        self
    }

    /// IDR0.ST_LEVEL. Default: two-level stream tables exist.
    pub fn two_level_streams(mut self, offered: bool) -> Self {
        self.caps.idr0.set_st_level(offered.into());
        self
    }

    /// IDR1.SSIDSIZE, 0 to 20, and two-level CD tables unless it is 0. Default 20.
    pub fn substream_id_bits(mut self, bits: u8) -> Self {
        self.caps.idr1.set_ssidsize(bits.min(31));
        self.caps.idr0.set_cd2l(bits != 0);
        self
    }

    /// IDR1.CMDQS, 0 to 19. Linux wants more than 6. Default 19.
    pub fn command_queue_log2(mut self, log2size: u8) -> Self {
        self.caps.idr1.set_cmdqs(log2size.min(31));
        self
    }

    /// IDR1.EVENTQS, 0 to 19. Default 19.
    pub fn event_queue_log2(mut self, log2size: u8) -> Self {
        self.caps.idr1.set_eventqs(log2size.min(31));
        self
    }

    /// IDR5.OAS: 32, 36, 40, 42, 44, 48 or 52. Default 48.
    pub fn output_bits(mut self, bits: u8) -> Self {
        self.caps.idr5.set_oas(size_code(bits));
        self
    }

    /// IDR5.GRANxK. Default: 4 KiB alone.
    pub fn granule(mut self, granule: Granule, offered: bool) -> Self {
        match granule {
            Granule::K4 => self.caps.idr5.set_gran4k(offered),
            Granule::K16 => self.caps.idr5.set_gran16k(offered),
            Granule::K64 => self.caps.idr5.set_gran64k(offered),
        }
        self
    }

    /// IDR0.ATS: a device behind the frame answers ATC_INV. Default: none.
    pub fn ats(mut self, offered: bool) -> Self {
        self.caps.idr0.set_ats(offered);
        self
    }

    /// IDR0.PRI with a queue of up to `2^log2size` requests, 0 to 19; `None` for no PRI, which
    /// is the default.
    pub fn pri(mut self, log2size: Option<u8>) -> Self {
        self.caps.idr0.set_pri(log2size.is_some());
        self.caps.idr1.set_priqs(log2size.unwrap_or(0).min(31));
        self
    }

    /// IDR0.STALL_MODEL and IDR5.STALL_MAX: how many accesses can wait for the guest. Default none.
    pub fn stalls(mut self, most: u16) -> Self {
        self.caps.idr0.set_stall_model(u8::from(most == 0));
        self.caps.idr5.set_stall_max(most);
        self
    }

    /// IDR0.TERM_MODEL: terminated accesses always abort. Default: they do; otherwise a guest can
    /// have them read zero.
    pub fn always_aborts(mut self, always: bool) -> Self {
        self.caps.idr0.set_term_model(always);
        self
    }

    /// IDR0.COHACC. Default: coherent; Linux polls the words of its SYNCs only then.
    pub fn coherent(mut self, coherent: bool) -> Self {
        self.caps.idr0.set_cohacc(coherent);
        self
    }

    /// IDR0.MSI. Default: messages exist.
    pub fn messages(mut self, offered: bool) -> Self {
        self.caps.idr0.set_msi(offered);
        self
    }

    /// IDR3.RIL. Default: ranges and level hints exist.
    pub fn range_invalidation(mut self, offered: bool) -> Self {
        self.caps.idr3.set_ril(offered);
        self
    }

    /// IDR3.FWB. Default: yes, because SMMUv3.2 has it whether there is a stage 2 or not.
    pub fn forced_write_back(mut self, offered: bool) -> Self {
        self.caps.idr3.set_fwb(offered);
        self
    }

    /// IDR3.BBML, 0 to 2. Default 2: the walker ignores nT, and of two cached translations of
    /// different sizes either is right. Linux shares a process's tables only with such an SMMU if
    /// its CPUs are like that. A VMM whose streams belong to a physical SMMU offers no more than that
    /// has.
    pub fn break_before_make_level(mut self, level: u8) -> Self {
        self.caps.idr3.set_bbml(level.min(3));
        self
    }

    /// IDR3.STT. Default: no small translation tables.
    pub fn small_tables(mut self, offered: bool) -> Self {
        self.caps.idr3.set_stt(offered);
        self
    }

    /// IDR3.E0PD. Default: no.
    pub fn e0pd(mut self, offered: bool) -> Self {
        self.caps.idr3.set_e0pd(offered);
        self
    }

    /// IDR3.PTWNNC, of a stage 2. Default: no.
    pub fn device_walks_as_normal(mut self, offered: bool) -> Self {
        self.caps.idr3.set_ptwnnc(offered);
        self
    }

    /// IDR0.HYP: streams may have contexts of EL2 (STE.STRW), and of EL2-E2H with CR2.E2H. Default: no.
    /// For guests that run hypervisors; needs a stage 1.
    pub fn el2_contexts(mut self, offered: bool) -> Self {
        self.caps.idr0.set_hyp(offered);
        self
    }

    /// IDR0.HTTU. Default: none. The engine's translation core does all of it; a VMM whose streams
    /// belong to a physical SMMU offers no more than that has.
    pub fn table_updates(mut self, updates: TableUpdates) -> Self {
        self.caps.idr0.set_httu(match updates {
            TableUpdates::None => 0,
            TableUpdates::AccessFlag => 1,
            TableUpdates::DirtyState => 2,
        });
        self
    }

    /// IDR0.VMID16. Default: with a stage 2.
    pub fn vmid16(mut self, offered: bool) -> Self {
        self.caps.idr0.set_vmid16(offered);
        self
    }
}
