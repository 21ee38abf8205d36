//! What differs between IOMMUs that a vIOMMU can stand for: type numbers, and the forms of a nested page table's
//! data, of an event, and of the command that makes the host forget a stream's contexts.

use crate::encode::ArmSmmuv3;
use crate::hw_info::{HostFeatures, HwInfoError};
use crate::uapi::{Iommufd, kind};
use crate::vste::Vste;
use smmu_core::StreamId;
use smmu_core::command::{Cfgi, Command};
use smmu_core::encode::encode;
use smmu_core::spec::event::EventRecord;

/// One entry of HWPT_INVALIDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is, of [`kind`].
    pub data_type: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The host's IOMMU, as the calls of the control path need to know it.
pub trait Flavour: Send + Sync {
    /// What the device's IOMMU can do for a guest. A system call.
    fn features(&self, iommufd: &dyn Iommufd, device: u32) -> Result<HostFeatures, HwInfoError>;

    /// VIOMMU_ALLOC.
    fn viommu_type(&self) -> u32;

    /// HWPT_ALLOC, nested: the type and the data for a vSTE.
    fn nested(&self, vste: &Vste) -> (u32, Vec<u8>);

    /// VEVENTQ_ALLOC, if there are events.
    fn event_type(&self) -> Option<u32>;

    /// Bytes of an event behind its header, at most [`MAX_EVENT`].
    fn event_len(&self) -> usize;

    /// An event of [`event_len`](Self::event_len) bytes, with the vSID that the kernel gave it; `None` if it is
    /// none.
    fn event(&self, bytes: &[u8]) -> Option<EventRecord>;

    /// What makes the host forget the contexts of a stream, if it keeps any.
    fn forget_contexts(&self, stream: StreamId) -> Option<Entry>;
}

/// The most bytes that an event can have.
pub const MAX_EVENT: usize = 64;

impl Flavour for ArmSmmuv3 {
    fn features(&self, iommufd: &dyn Iommufd, device: u32) -> Result<HostFeatures, HwInfoError> {
        HostFeatures::of_device(iommufd, device)
    }

    fn viommu_type(&self) -> u32 {
        kind::VIOMMU_ARM_SMMUV3
    }

    fn nested(&self, vste: &Vste) -> (u32, Vec<u8>) {
        let bytes = vste.0.iter().flat_map(|word| word.to_le_bytes());
        (kind::HWPT_ARM_SMMUV3, bytes.collect())
    }

    fn event_type(&self) -> Option<u32> {
        Some(kind::VEVENTQ_ARM_SMMUV3)
    }

    fn event_len(&self) -> usize {
        EventRecord::BYTES as usize
    }

    fn event(&self, bytes: &[u8]) -> Option<EventRecord> {
        bytes.try_into().ok().map(EventRecord::from_le_bytes)
    }

    fn forget_contexts(&self, stream: StreamId) -> Option<Entry> {
        let raw = encode(&Command::Cfgi(Cfgi::CdAll { stream }));
        let words = [raw.dw0, raw.dw1];
        Some(Entry {
            data_type: kind::INVALIDATE_ARM_SMMUV3,
            bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        })
    }
}
