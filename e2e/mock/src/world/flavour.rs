//! The mock as an IOMMU that a vIOMMU can stand for.
//!
//! A nested table of the mock has a number in each slot of its cache. Here it stands for the vSTE that the table
//! was made from, so the kernel can say which one a device is attached to.

use crate::host::{ALL, DeviceEntry, EVENTS, SELFTEST, TABLE_DATA};
use smmu_core::StreamId;
use smmu_core::spec::event::{EventId, EventRecord, EventWord0};
use smmu_core::spec::register::Idr0;
use vcmdq_iommufd::flavour::Entry;
use vcmdq_iommufd::uapi::{Iommufd, kind};
use vcmdq_iommufd::{Flavour, HostFeatures, HwInfoError, Vste};

/// What the mock says that it is.
const INFO: u32 = 0xFEED_BEEF;
/// A table of contexts that the host refuses.
pub(crate) const REFUSED: u64 = 0xBAD_0000;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Mock;

/// The number that stands for a vSTE; never 0, which is an invalidated slot.
pub(crate) fn mark(first: u64) -> u32 {
    first as u32 | 1 << 31
}

impl Flavour for Mock {
    fn features(&self, iommufd: &dyn Iommufd, device: u32) -> Result<HostFeatures, HwInfoError> {
        let mut data = [0; 8];
        let info = iommufd
            .hw_info(device, kind::HW_INFO_DEFAULT, &mut data)
            .map_err(HwInfoError::Call)?;
        if info.data_type != INFO {
            return Err(HwInfoError::OtherIommu(info.data_type));
        }
        // AArch64 tables, ASIDs of 16 bits, either endianness, ATS, stalls by choice; 4 KiB pages.
        let idr0 = Idr0::new().with_ttf(2).with_asid16(true).with_ats(true);
        Ok(HostFeatures::from_registers(&[
            idr0.into_bits(),
            0,
            0,
            0,
            0,
            1 << 4,
        ]))
    }

    fn viommu_type(&self) -> u32 {
        SELFTEST
    }

    fn nested(&self, vste: &Vste) -> (u32, Vec<u8>) {
        let words = [mark(vste.0[0]), 0];
        let mut data = words.map(u32::to_ne_bytes).concat();
        if vste.0[0] & 0xFFF_0000 == REFUSED {
            // Shorter than the kernel's: -EINVAL.
            data.truncate(2);
        }
        (TABLE_DATA, data)
    }

    fn event_type(&self) -> Option<u32> {
        Some(EVENTS)
    }

    fn event_len(&self) -> usize {
        4
    }

    fn event(&self, bytes: &[u8]) -> Option<EventRecord> {
        let stream = u32::from_ne_bytes(bytes.try_into().ok()?);
        let first = EventWord0::new()
            .with_id(EventId::Translation as u8)
            .with_stream(stream);
        Some(EventRecord([first.into_bits(), 0, 0, 0]))
    }

    fn forget_contexts(&self, stream: StreamId) -> Option<Entry> {
        let all = DeviceEntry {
            flags: ALL,
            vsid: stream.0,
            slot: 0,
        };
        let words = [all.flags, all.vsid, all.slot];
        Some(Entry {
            data_type: SELFTEST,
            bytes: words.map(u32::to_ne_bytes).concat(),
        })
    }
}
