//! What one HWPT_INVALIDATE does, and what it says of that.

use super::setup::error_of;
use crate::host::{ALL, DeviceEntry, SELFTEST, SLOTS, TableEntry};
use crate::nest::Nest;
use anyhow::{Result, ensure};
use iommufd_bindings::iommufd::iommu_hwpt_invalidate_data_type_IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 as ARM;
use rustix::io::Errno;

/// All slots of a cache.
const FULL: u32 = (1 << SLOTS) - 1;
const VSIDS: [u32; 2] = [7, 0x1F];

/// What is named is gone, and nothing else.
pub(super) fn exact() -> Result<String> {
    let nest = Nest::new(&VSIDS)?;
    let host = &nest.host;
    let slots = |index: usize| host.device_slots(nest.devices[index]);
    let send = |entries: &[DeviceEntry]| -> Result<()> {
        let (result, count) = host.invalidate(nest.viommu, SELFTEST, entries);
        result?;
        ensure!(count as usize == entries.len(), "{count} done");
        Ok(())
    };
    send(&[DeviceEntry::slot(VSIDS[0], 1)])?;
    ensure!(
        (slots(0)?, slots(1)?) == (0b1101, FULL),
        "{:b}, {:b}",
        slots(0)?,
        slots(1)?
    );
    send(&[
        DeviceEntry::slot(VSIDS[1], 0),
        DeviceEntry::slot(VSIDS[0], 3),
    ])?;
    ensure!(
        (slots(0)?, slots(1)?) == (0b0101, 0b1110),
        "{:b}, {:b}",
        slots(0)?,
        slots(1)?
    );
    let every = DeviceEntry {
        flags: ALL,
        vsid: VSIDS[1],
        slot: 0,
    };
    send(&[every])?;
    ensure!(
        (slots(0)?, slots(1)?) == (0b0101, 0),
        "{:b}, {:b}",
        slots(0)?,
        slots(1)?
    );
    let table = host.nested(nest.devices[0], nest.viommu, None)?;
    let entry = TableEntry { flags: 0, slot: 2 };
    let (result, _) = host.invalidate(table, SELFTEST, &[entry]);
    result?;
    let (left, other) = (host.table_slots(table)?, slots(0)?);
    ensure!((left, other) == (0b1011, 0b0101), "{left:b}, {other:b}");
    Ok("slots of two devices and of a table".into())
}

/// Of entries with a bad one among them, those before it are done, and counted.
pub(super) fn partial() -> Result<String> {
    let bad = [
        (DeviceEntry::slot(VSIDS[0], SLOTS), Errno::INVAL),
        (DeviceEntry::slot(0x99, 0), Errno::INVAL),
        (
            DeviceEntry {
                flags: 2,
                ..DeviceEntry::slot(VSIDS[0], 0)
            },
            Errno::OPNOTSUPP,
        ),
    ];
    for (entry, expected) in bad {
        for at in 0..=SLOTS {
            let nest = Nest::new(&VSIDS)?;
            let good = (0..SLOTS).map(|slot| DeviceEntry::slot(VSIDS[0], slot));
            let mut entries: Vec<_> = good.collect();
            entries.insert(at as usize, entry);
            let (result, count) = nest.host.invalidate(nest.viommu, SELFTEST, &entries);
            error_of(result, expected)?;
            let left = nest.host.device_slots(nest.devices[0])?;
            let before = (1 << at) - 1;
            ensure!(
                count == at && left == FULL & !before,
                "{entry:?} at {at}: {count} done, {left:b} left"
            );
            ensure!(
                nest.host.device_slots(nest.devices[1])? == FULL,
                "another device"
            );
        }
    }
    Ok(format!("3 kinds of bad entries at {} places", SLOTS + 1))
}

/// A call that is refused as a whole does nothing and counts nothing.
pub(super) fn refusals() -> Result<String> {
    let nest = Nest::new(&VSIDS)?;
    let (host, viommu) = (&nest.host, nest.viommu);
    let entry = [DeviceEntry::slot(VSIDS[0], 0)];
    let cases = [
        (host.invalidate(viommu, ARM, &entry), Errno::INVAL),
        (host.invalidate(0x7777, SELFTEST, &entry), Errno::NOENT),
        (host.invalidate(host.space, SELFTEST, &entry), Errno::INVAL),
        (host.invalidate(nest.parent, SELFTEST, &entry), Errno::INVAL),
    ];
    let number = cases.len();
    for (index, ((result, count), expected)) in cases.into_iter().enumerate() {
        error_of(result, expected)?;
        ensure!(count == 0, "case {index}: {count} done");
    }
    let left = host.device_slots(nest.devices[0])?;
    ensure!(left == FULL, "{left:b} left");
    let none: [DeviceEntry; 0] = [];
    let (result, count) = host.invalidate(viommu, SELFTEST, &none);
    result?;
    ensure!(count == 0, "{count} of nothing done");
    Ok(format!("{number} calls"))
}
