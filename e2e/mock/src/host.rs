//! The mock IOMMU and what is made of it.
//!
//! Its devices and its nested tables have a cache of [`SLOTS`] words each that stand for what an IOMMU
//! caches. A slot becomes 0 when it is invalidated, and nothing fills it again.

use crate::call::{Argument, Test, call, made};
use iommufd_bindings::iommufd::{
    iommu_destroy, iommu_fault_alloc, iommu_hwpt_alloc, iommu_hwpt_invalidate, iommu_ioas_alloc,
    iommu_vdevice_alloc, iommu_veventq_alloc, iommu_viommu_alloc,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
    iommufd_hwpt_alloc_flags_IOMMU_HWPT_FAULT_ID_VALID as FAULT_ID_VALID,
};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::mem::size_of;

/// Slots of each cache.
pub(crate) const SLOTS: u32 = 4;
/// What a device's slots hold at first.
const DEVICE_CACHE: u32 = 0x00BA_DDAD;
/// What a table's slots hold at first, by our own wish.
const TABLE_CACHE: u32 = 0x0BAD_BEEF;

/// Type of the mock's virtual IOMMUs and of what they and nested tables are invalidated with.
pub(crate) const SELFTEST: u32 = 0xDEAD_BEEF;
/// Type of a nested table's data.
pub(crate) const TABLE_DATA: u32 = 0xDEAD;
/// Type of the mock's events.
pub(crate) const EVENTS: u32 = 0xBEEF_BEEF;

const MOCK_DOMAIN_REPLACE: u32 = 10;
const MOCK_DOMAIN_FLAGS: u32 = 12;
const CHECK_TABLE_CACHE: u32 = 14;
const TRIGGER_FAULT: u32 = 15;
const CHECK_DEVICE_CACHE: u32 = 16;
const TRIGGER_EVENT: u32 = 17;

/// One opened iommufd with an address space. When it is dropped all that was made of it is gone.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) file: File,
    pub(crate) space: u32,
}

/// A device, attached to the address space at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// What attaches.
    standard: u32,
    /// What iommufd knows it by.
    pub(crate) id: u32,
}

/// An entry for a virtual IOMMU: of the device with that virtual number, the slot, or all slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeviceEntry {
    pub(crate) flags: u32,
    pub(crate) vsid: u32,
    pub(crate) slot: u32,
}

/// An entry for a nested table: the slot, or all slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableEntry {
    pub(crate) flags: u32,
    pub(crate) slot: u32,
}

/// In an entry's flags: all slots.
pub(crate) const ALL: u32 = 1;

impl DeviceEntry {
    /// One slot.
    pub(crate) fn slot(vsid: u32, slot: u32) -> Self {
        Self {
            flags: 0,
            vsid,
            slot,
        }
    }
}

/// What an invalidation gave: the kernel's answer, and the number of entries that it wrote back.
pub(crate) type Answer = (io::Result<()>, u32);

impl Host {
    pub(crate) fn new() -> io::Result<Self> {
        let mut both = File::options();
        let file = both.read(true).write(true).open("/dev/iommu")?;
        let space = new_space(&file)?;
        Ok(Self { file, space })
    }

    /// An address space with nothing in it.
    pub(crate) fn another_space(&self) -> io::Result<u32> {
        new_space(&self.file)
    }

    /// Destroys an object that nothing uses.
    pub(crate) fn destroy(&self, id: u32) -> io::Result<()> {
        let mut destroy = iommu_destroy {
            size: iommu_destroy::LENGTH,
            id,
        };
        call(&self.file, &mut destroy)
    }

    /// The device disappears, with what the kernel has of it.
    pub(crate) fn take_away(&self, device: Device) -> io::Result<()> {
        self.destroy(device.standard)
    }

    /// The device raises an event; it must be attached to a table of a virtual IOMMU.
    pub(crate) fn raise_event(&self, device: Device) -> io::Result<()> {
        self.test(TRIGGER_EVENT, 0, &[device.id.into()])?;
        Ok(())
    }

    /// The device reads without a PASID and faults, as the only one of its group.
    pub(crate) fn raise_fault(&self, device: Device, group: u32, address: u64) -> io::Result<()> {
        let group = u64::from(group) | 1 << 32;
        self.test(TRIGGER_FAULT, 0, &[device.id.into(), group, address])?;
        Ok(())
    }

    /// Asks the mock for `operation` on object `id`, with up to six words.
    pub(crate) fn test(&self, operation: u32, id: u32, words: &[u64]) -> io::Result<Test> {
        let mut test = Test {
            size: Test::LENGTH,
            operation,
            id,
            ..Default::default()
        };
        test.words[..words.len()].copy_from_slice(words);
        call(&self.file, &mut test)?;
        Ok(test)
    }

    pub(crate) fn device(&self) -> io::Result<Device> {
        let made = self.test(MOCK_DOMAIN_FLAGS, self.space, &[])?;
        Ok(Device {
            standard: made.words[0] as u32,
            id: made.words[1] as u32,
        })
    }

    /// Has the device use a table, without a gap.
    pub(crate) fn attach(&self, device: Device, table: u32) -> io::Result<()> {
        self.test(MOCK_DOMAIN_REPLACE, device.standard, &[table.into()])?;
        Ok(())
    }

    /// A table of the address space that others can be nested in.
    pub(crate) fn parent(&self, device: Device) -> io::Result<u32> {
        self.table(device, self.space, NEST_PARENT, None)
    }

    /// A nested table, on a virtual IOMMU or on a parent; its faults go to the queue, if one is given.
    pub(crate) fn nested(&self, device: Device, on: u32, queue: Option<u32>) -> io::Result<u32> {
        let flags = queue.map_or(0, |_| FAULT_ID_VALID);
        let data = [TABLE_CACHE, 0];
        self.table(device, on, flags, Some((&data, queue.unwrap_or(0))))
    }

    fn table(
        &self,
        device: Device,
        on: u32,
        flags: u32,
        nested: Option<(&[u32; 2], u32)>,
    ) -> io::Result<u32> {
        let mut table = iommu_hwpt_alloc {
            size: iommu_hwpt_alloc::LENGTH,
            flags,
            dev_id: device.id,
            pt_id: on,
            ..Default::default()
        };
        if let Some((data, queue)) = nested {
            table.data_type = TABLE_DATA;
            table.data_len = size_of::<[u32; 2]>() as u32;
            table.data_uptr = data.as_ptr() as u64;
            table.fault_id = queue;
        }
        call(&self.file, &mut table)?;
        Ok(table.out_hwpt_id)
    }

    /// A virtual IOMMU of this type above a parent.
    pub(crate) fn viommu(&self, device: Device, parent: u32, kind: u32) -> io::Result<u32> {
        let mut made = iommu_viommu_alloc {
            size: iommu_viommu_alloc::LENGTH,
            type_: kind,
            dev_id: device.id,
            hwpt_id: parent,
            ..Default::default()
        };
        call(&self.file, &mut made)?;
        Ok(made.out_viommu_id)
    }

    /// The device's place in a virtual IOMMU.
    pub(crate) fn vdevice(&self, viommu: u32, device: Device, vsid: u64) -> io::Result<u32> {
        let mut made = iommu_vdevice_alloc {
            size: iommu_vdevice_alloc::LENGTH,
            viommu_id: viommu,
            dev_id: device.id,
            virt_id: vsid,
            ..Default::default()
        };
        call(&self.file, &mut made)?;
        Ok(made.out_vdevice_id)
    }

    /// A virtual IOMMU's queue of events for `depth` of them.
    pub(crate) fn events(&self, viommu: u32, depth: u32) -> io::Result<File> {
        let mut queue = iommu_veventq_alloc {
            size: iommu_veventq_alloc::LENGTH,
            viommu_id: viommu,
            type_: EVENTS,
            veventq_depth: depth,
            ..Default::default()
        };
        call(&self.file, &mut queue)?;
        made(queue.out_veventq_fd)
    }

    /// A queue of page faults, its number and its file.
    pub(crate) fn faults(&self) -> io::Result<(u32, File)> {
        let mut queue = iommu_fault_alloc {
            size: iommu_fault_alloc::LENGTH,
            ..Default::default()
        };
        call(&self.file, &mut queue)?;
        Ok((queue.out_fault_id, made(queue.out_fault_fd)?))
    }

    /// Sends entries to a virtual IOMMU or a nested table.
    pub(crate) fn invalidate<T>(&self, object: u32, kind: u32, entries: &[T]) -> Answer {
        let mut array = iommu_hwpt_invalidate {
            size: iommu_hwpt_invalidate::LENGTH,
            hwpt_id: object,
            data_uptr: entries.as_ptr() as u64,
            data_type: kind,
            entry_len: size_of::<T>() as u32,
            entry_num: entries.len() as u32,
            ..Default::default()
        };
        let result = call(&self.file, &mut array);
        (result, array.entry_num)
    }

    /// Which of a device's slots are still there, a bit each.
    pub(crate) fn device_slots(&self, device: Device) -> io::Result<u32> {
        self.slots(CHECK_DEVICE_CACHE, device.id, DEVICE_CACHE)
    }

    /// Which of a nested table's slots are still there, a bit each.
    pub(crate) fn table_slots(&self, table: u32) -> io::Result<u32> {
        self.slots(CHECK_TABLE_CACHE, table, TABLE_CACHE)
    }

    /// Whether a nested table's slots hold this value.
    pub(crate) fn table_holds(&self, table: u32, value: u32) -> io::Result<bool> {
        self.holds(CHECK_TABLE_CACHE, table, 0, value)
    }

    fn holds(&self, operation: u32, object: u32, slot: u32, value: u32) -> io::Result<bool> {
        let word = u64::from(slot) | u64::from(value) << 32;
        let differs = Some(Errno::INVAL.raw_os_error());
        match self.test(operation, object, &[word]) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == differs => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A slot must hold what it held at first, or 0.
    fn slots(&self, operation: u32, object: u32, at_first: u32) -> io::Result<u32> {
        let mut there = 0;
        for slot in 0..SLOTS {
            if self.holds(operation, object, slot, at_first)? {
                there |= 1 << slot;
            } else if !self.holds(operation, object, slot, 0)? {
                let text = format!("slot {slot} of object {object} is neither full nor empty");
                return Err(io::Error::other(text));
            }
        }
        Ok(there)
    }
}

fn new_space(file: &File) -> io::Result<u32> {
    let mut space = iommu_ioas_alloc {
        size: iommu_ioas_alloc::LENGTH,
        ..Default::default()
    };
    call(file, &mut space)?;
    Ok(space.out_ioas_id)
}
