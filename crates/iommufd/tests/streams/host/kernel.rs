//! The calls, as Linux answers them.

use super::objects::{Object, Seen};
use super::{Call, FakeHost};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vcmdq_iommufd::uapi::{HwInfo, HwptAlloc, Invalidate, InvalidateError, kind};
use vcmdq_iommufd::{AttachDevice, Iommufd};

const NEST_PARENT: u32 = 1;

/// The bits of a vSTE that the kernel takes (`arm_smmu_validate_vste`).
const WORD0: u64 = 1 | 7 << 1 | 3 << 4 | ((1 << 56) - (1 << 6)) | 0x1F << 59;
const WORD1: u64 = 0xFF | 1 << 27 | 3 << 28;

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
        let (writer, mut file) = ends();
        if state.unwatchable {
            file = File::open(std::env::current_exe().unwrap()).unwrap();
        }
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
pub(super) struct Port {
    pub(super) host: Arc<FakeHost>,
    pub(super) id: u32,
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
