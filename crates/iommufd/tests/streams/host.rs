//! A kernel that keeps iommufd's objects as Linux does: who uses what, what it refuses, what it does by itself.

mod kernel;
mod objects;
mod starved;
pub(crate) mod world;

pub(crate) use objects::{FakeDevice, Seen, State};
pub(crate) use starved::Starved;

use kernel::Port;
use objects::Object;
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use vcmdq_iommufd::Device;
use vcmdq_iommufd::uapi::kind;

pub(crate) const IOAS: u32 = 1;
pub(crate) const OTHER_IOAS: u32 = 2;

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
        let mut state = self.state();
        let queue = state.objects.values_mut().rev().find_map(Object::events);
        event_to(queue.unwrap(), flags, sequence, record);
    }

    /// For the first one that is there.
    pub(crate) fn tell_first(&self, flags: u32, sequence: u32, record: Option<[u64; 4]>) {
        let mut state = self.state();
        let queue = state.objects.values_mut().find_map(Object::events);
        event_to(queue.unwrap(), flags, sequence, record);
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
        if state.starved.hits(call) {
            return Err(Errno::NOMEM);
        }
        match state.fail_all {
            Some((all, error)) if all == call => Err(error),
            _ => Ok(state),
        }
    }
}

fn event_to(queue: &mut UnixStream, flags: u32, sequence: u32, record: Option<[u64; 4]>) {
    let mut bytes = [flags, sequence].map(u32::to_ne_bytes).concat();
    for word in record.into_iter().flatten() {
        bytes.extend(word.to_le_bytes());
    }
    queue.write_all(&bytes).unwrap();
}
