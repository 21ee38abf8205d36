//! A kernel that keeps iommufd's objects as Linux does: who uses what, what it refuses, what it does by itself.

pub(crate) mod world;

use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use vcmdq_iommufd::uapi::{HwInfo, HwptAlloc, Invalidate, InvalidateError, kind};
use vcmdq_iommufd::{AttachDevice, Device, Iommufd};

pub(crate) const IOAS: u32 = 1;
pub(crate) const OTHER_IOAS: u32 = 2;
const NEST_PARENT: u32 = 1;
/// Objects are counted from here on.
const FIRST: u32 = 1001;

/// The bits of a vSTE that the kernel takes (`arm_smmu_validate_vste`).
const WORD0: u64 = 1 | 7 << 1 | 3 << 4 | ((1 << 56) - (1 << 6)) | 0x1F << 59;
const WORD1: u64 = 0xFF | 1 << 27 | 3 << 28;

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    HwInfo,
    Parent,
    Nested,
    Viommu,
    Vdevice,
    Veventq,
    FaultQueue,
    Attach,
    Detach,
    Destroy,
    Invalidate,
}

#[derive(Debug)]
enum Object {
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
    tombs: BTreeSet<u32>,
    objects: BTreeMap<u32, Object>,
    pub(crate) devices: BTreeMap<u32, FakeDevice>,
    fail: VecDeque<(Call, Errno)>,
    /// Fails all of a kind.
    pub(crate) fail_all: Option<(Call, Errno)>,
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

#[derive(Default)]
pub(crate) struct FakeHost(Mutex<State>);

/// IDRs of an SMMU with everything; bits that mean nothing for a guest are set, too.
pub(crate) fn everything() -> [u32; 6] {
    // ST_LEVEL 1, TTENDIAN 0, TERM_MODEL 0, STALL_MODEL 0; CD2L, ASID16, TTF 2; HTTU, ATS, PRI, BTM, S2P, HYP.
    let idr0 =
        1 << 27 | 1 << 19 | 1 << 12 | 2 << 2 | 2 << 6 | 1 << 10 | 1 << 16 | 1 << 5 | 3 | 1 << 9;
    let idr1 = 32 | 20 << 6 | 19 << 16 | 19 << 21;
    // RIL, BBML 2; MPAM, E0PD, STT.
    let idr3 = 1 << 10 | 2 << 11 | 1 << 7 | 1 << 13 | 1 << 9;
    // All granules, VAX, OAS 52; STALL_MAX.
    let idr5 = 0x70 | 1 << 10 | 6 | 128 << 16;
    [idr0, idr1, 0, idr3, 0, idr5]
}

impl FakeHost {
    /// Devices 101, 102, 103 behind SMMU 0, 201 behind SMMU 1.
    pub(crate) fn new() -> Arc<Self> {
        let host = Self::default();
        {
            let mut state = host.state();
            state.hw_info_type = kind::HW_INFO_ARM_SMMUV3;
            for ioas in [IOAS, OTHER_IOAS] {
                state.objects.insert(ioas, Object::Ioas);
            }
            for (id, smmu) in [(101, 0), (102, 0), (103, 0), (201, 1)] {
                let idr = everything();
                let device = FakeDevice {
                    smmu,
                    idr,
                    ..FakeDevice::default()
                };
                state.devices.insert(id, device);
            }
        }
        Arc::new(host)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn fail_next(&self, call: Call, error: Errno) {
        self.state().fail.push_back((call, error));
    }

    /// How many failures of a call are to come.
    pub(crate) fn failures(&self, call: Call) -> usize {
        let state = self.state();
        state.fail.iter().filter(|(of, _)| *of == call).count()
    }

    pub(crate) fn forget_failures(&self) {
        self.state().fail.clear();
    }

    pub(crate) fn device(self: &Arc<Self>, id: u32) -> Device {
        let attach = Arc::new(Port {
            host: self.clone(),
            id,
        });
        Device { id, attach }
    }

    pub(crate) fn seen(&self, device: u32) -> Seen {
        let state = self.state();
        state.seen(state.devices[&device].attached)
    }

    /// Everything that the device was attached to since this was asked last.
    pub(crate) fn take_history(&self, device: u32) -> Vec<Seen> {
        let mut state = self.state();
        std::mem::take(&mut state.devices.get_mut(&device).unwrap().history)
    }

    /// The device goes, with whatever the kernel keeps for it.
    pub(crate) fn take_away(&self, id: u32) {
        let mut state = self.state();
        let State { objects, tombs, .. } = &mut *state;
        objects.retain(|at, object| {
            let own = matches!(object, Object::Vdevice { device, .. } if *device == id);
            own.then(|| tombs.insert(*at));
            !own
        });
        let device = state.devices.get_mut(&id).unwrap();
        (device.gone, device.attached) = (true, 0);
    }

    /// The vSIDs that the vIOMMU in use knows, with their devices.
    pub(crate) fn vdevices(&self) -> Vec<(u64, u32)> {
        let state = self.state();
        let mut found: Vec<_> = state
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Vdevice {
                    device, virt_id, ..
                } => Some((*virt_id, *device)),
                _ => None,
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// How many objects there are beside address spaces.
    pub(crate) fn objects(&self) -> usize {
        self.state()
            .objects
            .values()
            .filter(|object| !matches!(object, Object::Ioas))
            .count()
    }

    pub(crate) fn ioas_is_free(&self, id: u32) -> bool {
        self.state().users(id) == 0
    }

    /// The kernel has events for the last vIOMMU: header flags, sequence, record.
    pub(crate) fn tell(&self, flags: u32, sequence: u32, record: Option<[u64; 4]>) {
        let mut bytes = [flags, sequence].map(u32::to_ne_bytes).concat();
        for word in record.into_iter().flatten() {
            bytes.extend(word.to_le_bytes());
        }
        let mut state = self.state();
        let writer = state
            .objects
            .values_mut()
            .rev()
            .find_map(|object| match object {
                Object::Veventq { writer, .. } => Some(writer),
                _ => None,
            });
        writer.unwrap().write_all(&bytes).unwrap();
    }

    /// A page fault of a device.
    pub(crate) fn page_fault(
        &self,
        device: u32,
        pasid: Option<u32>,
        perm: u32,
        addr: u64,
        cookie: u32,
    ) {
        let flags = 2 | u32::from(pasid.is_some());
        let head = [flags, device, pasid.unwrap_or(0), 7, perm, 0];
        let mut bytes = head.map(u32::to_ne_bytes).concat();
        bytes.extend(addr.to_ne_bytes());
        bytes.extend([0, cookie].map(u32::to_ne_bytes).concat());
        self.fault_writer(|writer| writer.write_all(&bytes).unwrap());
    }

    /// The answers that have come: cookies and codes.
    pub(crate) fn answers(&self) -> Vec<(u32, u32)> {
        self.fault_writer(|writer| {
            let mut answers = Vec::new();
            let mut bytes = [0; 8];
            while writer.read_exact(&mut bytes).is_ok() {
                let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
                answers.push((field(0), field(4)));
            }
            answers
        })
    }

    fn fault_writer<R>(&self, run: impl FnOnce(&mut UnixStream) -> R) -> R {
        let mut state = self.state();
        let writer = state.objects.values_mut().find_map(|object| match object {
            Object::Faults { writer } => Some(writer),
            _ => None,
        });
        run(writer.unwrap())
    }

    fn checked(&self, call: Call) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.state();
        if state.fail.front().is_some_and(|(next, _)| *next == call) {
            return Err(state.fail.pop_front().unwrap().1);
        }
        match state.fail_all {
            Some((all, error)) if all == call => Err(error),
            _ => Ok(state),
        }
    }
}

impl State {
    fn seen(&self, id: u32) -> Seen {
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
    fn add(&mut self, object: Object) -> u32 {
        let free = (FIRST..).find(|id| !(self.objects.contains_key(id) || self.tombs.contains(id)));
        let id = free.unwrap();
        self.objects.insert(id, object);
        id
    }

    fn users(&self, id: u32) -> usize {
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

    fn device(&self, id: u32) -> Result<&FakeDevice, Errno> {
        match self.devices.get(&id) {
            Some(device) if !device.gone => Ok(device),
            _ => Err(Errno::NOENT),
        }
    }

    fn attach(&mut self, id: u32, table: u32) -> Result<(), Errno> {
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

impl Iommufd for FakeHost {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let failed = |errno| InvalidateError { errno, handled: 0 };
        let mut state = self.checked(Call::Invalidate).map_err(failed)?;
        if !matches!(state.objects.get(&call.target), Some(Object::Viommu { .. })) {
            return Err(failed(Errno::NOENT));
        }
        if call.data_type != kind::INVALIDATE_ARM_SMMUV3 || call.entry_len != 16 {
            return Err(failed(Errno::INVAL));
        }
        for (at, entry) in call.entries.chunks_exact(16).enumerate() {
            let word = |from: usize| u64::from_le_bytes(entry[from..from + 8].try_into().unwrap());
            let command = [word(0), word(8)];
            let known = |vsid: u64| {
                state.objects.values().any(|object| {
                    matches!(object, Object::Vdevice { viommu, virt_id, .. }
                    if *viommu == call.target && *virt_id == vsid)
                })
            };
            let taken = match command[0] as u8 {
                0x30 | 0x10..=0x13 => true,
                0x05 | 0x06 | 0x40 => known(command[0] >> 32),
                _ => false,
            };
            if !taken {
                return Err(InvalidateError {
                    errno: Errno::IO,
                    handled: at as u32,
                });
            }
            state.commands.push((call.target, command));
        }
        Ok(())
    }

    fn hw_info(&self, device: u32, _wanted: u32, data: &mut [u8]) -> Result<HwInfo, Errno> {
        let state = self.checked(Call::HwInfo)?;
        let registers = [0, 0].into_iter().chain(state.device(device)?.idr);
        for (bytes, register) in data.chunks_exact_mut(4).zip(registers) {
            bytes.copy_from_slice(&register.to_ne_bytes());
        }
        Ok(HwInfo {
            data_type: state.hw_info_type,
            data_len: 40,
            max_pasid_log2: 20,
            capabilities: 0,
        })
    }

    fn alloc_hwpt(&self, call: &HwptAlloc<'_>) -> Result<u32, Errno> {
        if call.data_type == kind::HWPT_NONE {
            let mut state = self.checked(Call::Parent)?;
            let smmu = state.device(call.device)?.smmu;
            let fits = matches!(state.objects.get(&call.parent), Some(Object::Ioas));
            return match fits && call.flags == NEST_PARENT && call.data.is_empty() {
                true => Ok(state.add(Object::Parent {
                    ioas: call.parent,
                    smmu,
                })),
                false => Err(Errno::INVAL),
            };
        }
        let mut state = self.checked(Call::Nested)?;
        let own = state.device(call.device)?.smmu;
        let smmu = match state.objects.get(&call.parent) {
            Some(Object::Viommu { smmu, .. }) if *smmu == own => *smmu,
            _ => return Err(Errno::INVAL),
        };
        if call.data_type != kind::HWPT_ARM_SMMUV3 || call.data.len() != 16 || call.flags != 0 {
            return Err(Errno::INVAL);
        }
        let word = |from: usize| u64::from_le_bytes(call.data[from..from + 8].try_into().unwrap());
        let vste = [word(0), word(8)];
        let config = vste[0] >> 1 & 7;
        let legal = vste[0] & !WORD0 == 0 && vste[1] & !WORD1 == 0 && vste[1] >> 28 & 3 < 2;
        if vste[0] & 1 != 0 && !(legal && matches!(config, 0 | 4 | 5)) {
            return Err(Errno::IO);
        }
        let (viommu, faults) = (call.parent, call.fault_queue);
        Ok(state.add(Object::Nested {
            viommu,
            smmu,
            vste,
            faults,
        }))
    }

    fn alloc_viommu(&self, data_type: u32, device: u32, parent: u32) -> Result<u32, Errno> {
        let mut state = self.checked(Call::Viommu)?;
        let own = state.device(device)?.smmu;
        match state.objects.get(&parent) {
            _ if data_type != kind::VIOMMU_ARM_SMMUV3 => Err(Errno::OPNOTSUPP),
            Some(Object::Parent { smmu, .. }) if *smmu == own => {
                let smmu = own;
                Ok(state.add(Object::Viommu { parent, smmu }))
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn alloc_vdevice(&self, viommu: u32, device: u32, virt_id: u64) -> Result<u32, Errno> {
        let mut state = self.checked(Call::Vdevice)?;
        let own = state.device(device)?.smmu;
        match state.objects.get(&viommu) {
            Some(Object::Viommu { smmu, .. }) if *smmu == own => {}
            _ => return Err(Errno::INVAL),
        }
        let taken = |object: &Object| match object {
            Object::Vdevice {
                viommu: on,
                device: of,
                virt_id: id,
            } => *of == device || (*on == viommu && *id == virt_id),
            _ => false,
        };
        if state.objects.values().any(taken) {
            return Err(Errno::EXIST);
        }
        Ok(state.add(Object::Vdevice {
            viommu,
            device,
            virt_id,
        }))
    }

    fn alloc_veventq(&self, viommu: u32, data_type: u32, depth: u32) -> Result<(u32, File), Errno> {
        let mut state = self.checked(Call::Veventq)?;
        assert!((1..=1 << 19).contains(&depth) && data_type == kind::VEVENTQ_ARM_SMMUV3);
        let (writer, file) = ends();
        Ok((state.add(Object::Veventq { viommu, writer }), file))
    }

    fn alloc_fault_queue(&self) -> Result<(u32, File), Errno> {
        let mut state = self.checked(Call::FaultQueue)?;
        let (writer, file) = ends();
        Ok((state.add(Object::Faults { writer }), file))
    }

    fn destroy(&self, id: u32) -> Result<(), Errno> {
        let mut state = self.checked(Call::Destroy)?;
        if !state.objects.contains_key(&id) {
            return Err(Errno::NOENT);
        }
        if state.users(id) != 0 {
            return Err(Errno::BUSY);
        }
        state.objects.remove(&id);
        Ok(())
    }
}

/// The kernel's end and the file; neither waits.
fn ends() -> (UnixStream, File) {
    let (writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    reader.set_nonblocking(true).unwrap();
    (writer, OwnedFd::from(reader).into())
}

/// The VMM's file of a device.
struct Port {
    host: Arc<FakeHost>,
    id: u32,
}

impl AttachDevice for Port {
    fn attach(&self, page_table: u32) -> Result<(), Errno> {
        self.host.checked(Call::Attach)?.attach(self.id, page_table)
    }

    fn detach(&self) -> Result<(), Errno> {
        let mut state = self.host.checked(Call::Detach)?;
        let device = state.devices.get_mut(&self.id).unwrap();
        device.attached = 0;
        device.history.push(Seen::Nothing);
        match device.gone {
            true => Err(Errno::NODEV),
            false => Ok(()),
        }
    }
}
