//! What is made before anything can be invalidated.

use super::setup::error_of;
use crate::call::{Argument, HwInfo, call};
use crate::host::{Host, SELFTEST, SLOTS};
use crate::nest::Nest;
use anyhow::{Context, Result, ensure};
use iommufd_bindings::iommufd::{
    iommu_hw_info_type_IOMMU_HW_INFO_TYPE_ARM_SMMUV3 as ARM_INFO, iommu_ioas_map, iommu_ioas_unmap,
    iommu_viommu_type_IOMMU_VIOMMU_TYPE_ARM_SMMUV3 as ARM,
    iommufd_hw_info_flags_IOMMU_HW_INFO_FLAG_INPUT_TYPE as INPUT_TYPE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use rustix::io::Errno;
use vm_memory::MmapRegion;

/// Type and content of what the mock says of itself.
const INFO: (u32, u32) = (0xFEED_BEEF, 0xDEAD_BEEF);
/// The first address that the mock translates.
const FIRST: u64 = 1 << 24;
/// Is this range mapped to that memory?
const CHECK_MAP: u32 = 3;

/// The mock says what it is, and refuses to be asked as an SMMU.
pub(super) fn hw_info() -> Result<String> {
    let host = Host::new().context("/dev/iommu")?;
    let device = host.device().context("no mock IOMMU in this kernel")?;
    let mut data = [0u32; 2];
    let mut info = HwInfo {
        size: HwInfo::LENGTH,
        device: device.id,
        bytes: 8,
        data: data.as_mut_ptr() as u64,
        ..Default::default()
    };
    call(&host.file, &mut info)?;
    ensure!((info.kind, data[1]) == INFO, "{info:x?} {data:x?}");
    let (flags, kind) = (INPUT_TYPE, ARM_INFO);
    let mut info = HwInfo {
        flags,
        kind,
        ..info
    };
    error_of(call(&host.file, &mut info), Errno::OPNOTSUPP)?;
    Ok(format!("type {:#x}, as an SMMU refused", INFO.0))
}

/// Memory that is mapped is what a device reaches, and not after it was unmapped.
pub(super) fn tables() -> Result<String> {
    let nest = Nest::new(&[7])?;
    let host = &nest.host;
    let memory = MmapRegion::<()>::new(4096).context("no memory")?;
    let at = memory.as_ptr() as u64;
    let mut map = iommu_ioas_map {
        size: iommu_ioas_map::LENGTH,
        flags: FIXED | READABLE | WRITEABLE,
        ioas_id: host.space,
        user_va: at,
        length: 4096,
        iova: FIRST,
        ..Default::default()
    };
    call(&host.file, &mut map)?;
    host.test(CHECK_MAP, nest.parent, &[FIRST, 4096, at])?;
    let wrong = host.test(CHECK_MAP, nest.parent, &[FIRST, 4096, at + 4096]);
    ensure!(wrong.is_err(), "the mock finds other memory there, too");
    let mut unmap = iommu_ioas_unmap {
        size: iommu_ioas_unmap::LENGTH,
        ioas_id: host.space,
        iova: FIRST,
        length: 4096,
    };
    call(&host.file, &mut unmap)?;
    let gone = host.test(CHECK_MAP, nest.parent, &[FIRST, 4096, at]);
    ensure!(gone.is_err(), "it is still mapped");
    Ok(format!("4096 bytes at {FIRST:#x}"))
}

/// A virtual number belongs to one device, a device to one virtual number.
pub(super) fn viommu() -> Result<String> {
    let nest = Nest::new(&[7])?;
    let host = &nest.host;
    let first = nest.devices[0];
    error_of(host.viommu(first, nest.parent, ARM), Errno::OPNOTSUPP)?;
    error_of(host.vdevice(nest.viommu, first, 8), Errno::EXIST)?;
    let second = host.device()?;
    error_of(host.vdevice(nest.viommu, second, 7), Errno::EXIST)?;
    host.vdevice(nest.viommu, second, 8)?;
    error_of(host.viommu(first, host.space, SELFTEST), Errno::NOENT)?;
    Ok("two devices; a number or a device twice is refused".into())
}

/// A nested table begins with full caches, and needs a place for its device.
pub(super) fn nested() -> Result<String> {
    let host = Host::new()?;
    let device = host.device()?;
    let parent = host.parent(device)?;
    let viommu = host.viommu(device, parent, SELFTEST)?;
    let table = host.nested(device, viommu, None)?;
    error_of(host.attach(device, table), Errno::NOENT)?;
    host.vdevice(viommu, device, 7)?;
    host.attach(device, table)?;
    let all = (1 << SLOTS) - 1;
    let (of_table, of_device) = (host.table_slots(table)?, host.device_slots(device)?);
    ensure!(
        (of_table, of_device) == (all, all),
        "{of_table:b}, {of_device:b}"
    );
    Ok(format!("{SLOTS} slots full; without a vdevice refused"))
}
