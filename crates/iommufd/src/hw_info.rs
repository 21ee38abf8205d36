//! What a host's SMMU says of itself (IOMMU_GET_HW_INFO), as far as user space may believe it.
//!
//! The kernel passes the raw identification registers on and names the fields that mean something
//! for a guest (`struct iommu_hw_info_arm_smmuv3`). The others describe what the host can do for itself: HTTU,
//! BTM, MPAM, PRI, OAS are not looked at here. ATS is a device's property; of the SMMU only its absence means
//! something: ATC_INV is illegal there, and the kernel passes a guest's on unseen. STALL_MODEL is not copied either: a frame offers stalls
//! only if its VMM wants them ([`Offer`](crate::Offer)) and somebody reads the page faults.

use crate::uapi::{Errno, Iommufd, kind};
use smmu_core::caps::Field;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5};

/// The fields of a host's SMMU that a frame's capabilities depend on (IHI 0070, 6.3.1 to 6.3.6).
///
/// Plain data: a management layer may keep those of a fleet and take their [`lowest`](Self::lowest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostFeatures {
    /// IDR0.TTF\[1\]: AArch64 tables.
    pub aarch64_tables: bool,
    /// IDR0.TTENDIAN: little-endian tables.
    pub little_endian: bool,
    /// IDR0.TTENDIAN: big-endian tables.
    pub big_endian: bool,
    /// IDR0.CD2L: two-level CD tables.
    pub two_level_contexts: bool,
    /// IDR0.ASID16.
    pub asid16: bool,
    /// IDR0.ATS: ATC_INV is a legal command. Whether a device has ATS is another question.
    pub ats: bool,
    /// IDR0.STALL_MODEL.
    pub stalls: StallModel,
    /// IDR0.TERM_MODEL is 0: a CD may ask that terminated accesses read zero.
    pub terminates_silently: bool,
    /// IDR1.SSIDSIZE, in bits.
    pub substream_bits: u8,
    /// IDR3.RIL: invalidation by range.
    pub ranges: bool,
    /// IDR3.BBML, 0 to 2.
    pub break_before_make: u8,
    /// IDR5.VAX is 1: 52-bit input addresses.
    pub wide_input: bool,
    /// IDR5.GRAN4K.
    pub granule_4k: bool,
    /// IDR5.GRAN16K.
    pub granule_16k: bool,
    /// IDR5.GRAN64K.
    pub granule_64k: bool,
}

/// IDR0.STALL_MODEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StallModel {
    /// A CD says whether its faults stall.
    Either,
    /// Faults never stall.
    Never,
    /// All faults stall: a CD that does not say so is invalid.
    Always,
}

/// Bytes of `struct iommu_hw_info_arm_smmuv3`, and where IDR0 to IDR5 lie in it.
const BYTES: usize = 40;
const IDR: usize = 8;

/// A device's SMMU could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HwInfoError {
    /// The call failed.
    #[error("GET_HW_INFO of the device: {0}")]
    Call(#[source] Errno),
    /// The device is behind something else.
    #[error("the device is behind an IOMMU of type {0}, not behind an SMMUv3 (type 2)")]
    OtherIommu(u32),
}

/// SMMUs that no guest can be moved between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// Nothing to take the lowest of.
    #[error("the fleet has no SMMU")]
    Empty,
    /// They have nothing in common here.
    #[error("no value of {0} suits every SMMU of the fleet: leave one of them out")]
    NothingCommon(Field),
}

impl HostFeatures {
    /// Of the SMMU that a device (its ID in the iommufd) is behind. Control path: a system call.
    pub fn of_device(iommufd: &dyn Iommufd, device: u32) -> Result<Self, HwInfoError> {
        let mut data = [0; BYTES];
        let info = iommufd
            .hw_info(device, kind::HW_INFO_DEFAULT, &mut data)
            .map_err(HwInfoError::Call)?;
        if info.data_type != kind::HW_INFO_ARM_SMMUV3 {
            return Err(HwInfoError::OtherIommu(info.data_type));
        }
        let mut idr = [0; 6];
        for (register, bytes) in idr.iter_mut().zip(data[IDR..].chunks_exact(4)) {
            let mut native = [0; 4];
            native.copy_from_slice(bytes);
            *register = u32::from_ne_bytes(native);
        }
        Ok(Self::from_registers(&idr))
    }

    /// From the registers as the kernel passes them on; `idr` is IDR0 to IDR5.
    #[must_use]
    pub fn from_registers(idr: &[u32; 6]) -> Self {
        let (idr0, idr1) = (Idr0::from_bits(idr[0]), Idr1::from_bits(idr[1]));
        let (idr3, idr5) = (Idr3::from_bits(idr[3]), Idr5::from_bits(idr[5]));
        let endian = idr0.ttendian();
        Self {
            aarch64_tables: idr0.ttf() & 2 != 0,
            little_endian: matches!(endian, 0 | 2),
            big_endian: matches!(endian, 0 | 3),
            two_level_contexts: idr0.cd2l(),
            asid16: idr0.asid16(),
            ats: idr0.ats(),
            stalls: match idr0.stall_model() {
                0 => StallModel::Either,
                2 => StallModel::Always,
                // 3 is reserved: the least that it can mean.
                _ => StallModel::Never,
            },
            terminates_silently: !idr0.term_model(),
            substream_bits: idr1.ssidsize().min(20),
            ranges: idr3.ril(),
            break_before_make: idr3.bbml().min(2),
            wide_input: idr5.vax() == 1,
            granule_4k: idr5.gran4k(),
            granule_16k: idr5.gran16k(),
            granule_64k: idr5.gran64k(),
        }
    }

    /// What every SMMU of a fleet has, so that a guest can be moved between them.
    pub fn lowest(fleet: &[Self]) -> Result<Self, FleetError> {
        let (first, others) = fleet.split_first().ok_or(FleetError::Empty)?;
        others.iter().try_fold(*first, |low, next| low.and(next))
    }

    fn and(self, other: &Self) -> Result<Self, FleetError> {
        let both = Self {
            aarch64_tables: self.aarch64_tables && other.aarch64_tables,
            little_endian: self.little_endian && other.little_endian,
            big_endian: self.big_endian && other.big_endian,
            two_level_contexts: self.two_level_contexts && other.two_level_contexts,
            asid16: self.asid16 && other.asid16,
            ats: self.ats && other.ats,
            stalls: self.stalls.and(other.stalls)?,
            terminates_silently: self.terminates_silently && other.terminates_silently,
            substream_bits: self.substream_bits.min(other.substream_bits),
            ranges: self.ranges && other.ranges,
            break_before_make: self.break_before_make.min(other.break_before_make),
            wide_input: self.wide_input && other.wide_input,
            granule_4k: self.granule_4k && other.granule_4k,
            granule_16k: self.granule_16k && other.granule_16k,
            granule_64k: self.granule_64k && other.granule_64k,
        };
        let common = [
            (both.little_endian || both.big_endian, "IDR0.TTENDIAN"),
            (
                both.granule_4k || both.granule_16k || both.granule_64k,
                "IDR5.GRAN4K, GRAN16K or GRAN64K",
            ),
        ];
        match common.iter().find(|(some, _)| !some) {
            Some((_, field)) => Err(FleetError::NothingCommon(Field(field))),
            None => Ok(both),
        }
    }

    /// Some bit says that the SMMU is of version 3.1 or later: RIL, BBML and VAX were reserved before.
    pub(crate) fn is_of_3_1(&self) -> bool {
        self.ranges || self.break_before_make != 0 || self.wide_input
    }
}

impl StallModel {
    fn and(self, other: Self) -> Result<Self, FleetError> {
        match (self, other) {
            (Self::Either, same) | (same, Self::Either) => Ok(same),
            (one, other) if one == other => Ok(one),
            _ => Err(FleetError::NothingCommon(Field("IDR0.STALL_MODEL"))),
        }
    }
}
