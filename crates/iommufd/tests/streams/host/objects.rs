//! The kernel's objects: who uses what, and when a device may be attached.

use super::{Call, Starved};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;

/// Objects are counted from here on.
const FIRST: u32 = 1001;

#[derive(Debug)]
pub(super) enum Object {
    Ioas,
    Parent {
        ioas: u32,
        smmu: u32,
    },
    Viommu {
        parent: u32,
        smmu: u32,
    },
    Nested {
        viommu: u32,
        smmu: u32,
        vste: [u64; 2],
        faults: Option<u32>,
    },
    Vdevice {
        viommu: u32,
        device: u32,
        virt_id: u64,
    },
    Veventq {
        viommu: u32,
        writer: UnixStream,
    },
    Faults {
        writer: UnixStream,
    },
}

impl Object {
    pub(super) fn events(&mut self) -> Option<&mut UnixStream> {
        match self {
            Self::Veventq { writer, .. } => Some(writer),
            _ => None,
        }
    }
}

/// A device: what it is attached to, and what it was, in order.
#[derive(Debug, Default)]
pub(crate) struct FakeDevice {
    pub(crate) smmu: u32,
    pub(crate) idr: [u32; 6],
    pub(crate) attached: u32,
    pub(crate) history: Vec<Seen>,
    pub(crate) gone: bool,
}

#[derive(Default)]
pub(crate) struct State {
    /// Numbers of what the kernel has destroyed by itself: they do not come again.
    pub(super) tombs: BTreeSet<u32>,
    pub(super) objects: BTreeMap<u32, Object>,
    pub(crate) devices: BTreeMap<u32, FakeDevice>,
    pub(super) fail: VecDeque<(Call, Errno)>,
    /// Fails all of a kind.
    pub(crate) fail_all: Option<(Call, Errno)>,
    /// When the host has no memory.
    pub(crate) starved: Starved,
    /// vEVENTQs come as files that cannot be waited for.
    pub(crate) unwatchable: bool,
    /// Commands with the vIOMMU that they were sent to.
    pub(crate) commands: Vec<(u32, [u64; 2])>,
    pub(crate) hw_info_type: u32,
}

/// What a device is attached to, as the tests want to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Vste { ioas: u32, vste: [u64; 2] },
}

impl State {
    pub(super) fn seen(&self, id: u32) -> Seen {
        let ioas = |viommu: &u32| match self.objects.get(viommu) {
            Some(Object::Viommu { parent, .. }) => match self.objects.get(parent) {
                Some(Object::Parent { ioas, .. }) => *ioas,
                _ => 0,
            },
            _ => 0,
        };
        match self.objects.get(&id) {
            Some(Object::Nested { viommu, vste, .. }) => Seen::Vste {
                ioas: ioas(viommu),
                vste: *vste,
            },
            _ => Seen::Nothing,
        }
    }

    /// The lowest number that is free, as Linux has it: those of objects that were destroyed come again.
    pub(super) fn add(&mut self, object: Object) -> u32 {
        let free = (FIRST..).find(|id| !(self.objects.contains_key(id) || self.tombs.contains(id)));
        let id = free.unwrap();
        self.objects.insert(id, object);
        id
    }

    pub(super) fn users(&self, id: u32) -> usize {
        let uses = |object: &&Object| match object {
            Object::Parent { ioas, .. } => *ioas == id,
            Object::Viommu { parent, .. } => *parent == id,
            Object::Nested { viommu, faults, .. } => *viommu == id || *faults == Some(id),
            Object::Vdevice { viommu, .. } | Object::Veventq { viommu, .. } => *viommu == id,
            Object::Ioas | Object::Faults { .. } => false,
        };
        let attached = self
            .devices
            .values()
            .filter(|device| device.attached == id)
            .count();
        self.objects.values().filter(uses).count() + attached
    }

    pub(super) fn device(&self, id: u32) -> Result<&FakeDevice, Errno> {
        match self.devices.get(&id) {
            Some(device) if !device.gone => Ok(device),
            _ => Err(Errno::NOENT),
        }
    }

    pub(super) fn attach(&mut self, id: u32, table: u32) -> Result<(), Errno> {
        let device = self
            .devices
            .get(&id)
            .filter(|device| !device.gone)
            .ok_or(Errno::NODEV)?;
        match self.objects.get(&table) {
            Some(Object::Nested { smmu, .. }) if *smmu != device.smmu => return Err(Errno::INVAL),
            Some(Object::Nested { viommu, vste, .. }) => {
                let own = |object: &Object| {
                    matches!(object, Object::Vdevice { viommu: on, device, .. }
                    if on == viommu && *device == id)
                };
                let translates = vste[0] >> 1 & 7 == 5;
                if translates && !self.objects.values().any(own) {
                    return Err(Errno::NOENT);
                }
            }
            _ => return Err(Errno::INVAL),
        }
        let seen = self.seen(table);
        let device = self.devices.get_mut(&id).unwrap();
        device.attached = table;
        device.history.push(seen);
        Ok(())
    }
}
