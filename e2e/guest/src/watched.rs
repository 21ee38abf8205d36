//! The calls that the engine's backend makes of iommufd, on their way: what is invalidated is counted, and held
//! back where a check is to notice that.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_iommufd::uapi::{Errno, HwInfo, HwptAlloc, Invalidate, InvalidateError};
use vcmdq_iommufd::{IommuFd, Iommufd};

use smmu_core::spec::command::opcode;

/// How often each kind of command, by the name that the host has for it.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Withheld {
    /// Nothing.
    Nothing,
    /// Invalidations of translations.
    Translations,
    /// Those of configuration.
    Configuration,
}

/// See the [module](self).
pub(crate) struct Watched {
    kernel: Arc<IommuFd>,
    sent: Mutex<Counts>,
    withheld: AtomicU8,
}

/// What the kernel makes of a command of the guest's: NSNH_ALL would be everybody's, and becomes the VMID's.
fn name(command: u8) -> &'static str {
    match command {
        opcode::CFGI_CD => "CFGI_CD",
        opcode::CFGI_CD_ALL => "CFGI_CD_ALL",
        opcode::TLBI_NH_ALL | opcode::TLBI_NSNH_ALL => "NH_ALL",
        opcode::TLBI_NH_ASID => "NH_ASID",
        opcode::TLBI_NH_VA => "NH_VA",
        opcode::TLBI_NH_VAA => "NH_VAA",
        opcode::ATC_INV => "ATC_INV",
        _ => "other",
    }
}

impl Watched {
    pub(crate) fn new(kernel: Arc<IommuFd>) -> Self {
        Self {
            kernel,
            sent: Mutex::default(),
            withheld: AtomicU8::new(Withheld::Nothing as u8),
        }
    }

    /// What was sent since this was asked last.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut self.sent())
    }

    /// Holds something back from now on, and says that it is done.
    pub(crate) fn withhold(&self, what: Withheld) {
        self.withheld.store(what as u8, Ordering::Relaxed);
    }

    fn sent(&self) -> MutexGuard<'_, Counts> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passes(&self, command: u8) -> bool {
        let withheld = self.withheld.load(Ordering::Relaxed);
        let configuration = matches!(command, opcode::CFGI_CD | opcode::CFGI_CD_ALL);
        match configuration {
            true => withheld != Withheld::Configuration as u8,
            false => withheld != Withheld::Translations as u8,
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is not passed on is what the kernel never hears of"
)]
impl Iommufd for Watched {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let length = call.entry_len as usize;
        let entries = call.entries.chunks_exact(length.max(1));
        let passing = entries.filter(|entry| self.passes(entry[0]));
        let passing: Vec<&[u8]> = passing.collect();
        if passing.is_empty() {
            return Ok(());
        }
        let bytes = passing.concat();
        let entries = &*bytes;
        self.kernel.invalidate(&Invalidate { entries, ..*call })?;
        let mut sent = self.sent();
        for entry in passing {
            *sent.entry(name(entry[0])).or_default() += 1;
        }
        Ok(())
    }

    fn hw_info(&self, device: u32, wanted: u32, data: &mut [u8]) -> Result<HwInfo, Errno> {
        self.kernel.hw_info(device, wanted, data)
    }

    fn alloc_hwpt(&self, call: &HwptAlloc<'_>) -> Result<u32, Errno> {
        self.kernel.alloc_hwpt(call)
    }

    fn alloc_viommu(&self, data_type: u32, device: u32, parent: u32) -> Result<u32, Errno> {
        self.kernel.alloc_viommu(data_type, device, parent)
    }

    fn alloc_vdevice(&self, viommu: u32, device: u32, virt_id: u64) -> Result<u32, Errno> {
        self.kernel.alloc_vdevice(viommu, device, virt_id)
    }

    fn alloc_veventq(&self, viommu: u32, data_type: u32, depth: u32) -> Result<(u32, File), Errno> {
        Iommufd::alloc_veventq(&*self.kernel, viommu, data_type, depth)
    }

    fn alloc_fault_queue(&self) -> Result<(u32, File), Errno> {
        self.kernel.alloc_fault_queue()
    }

    fn destroy(&self, id: u32) -> Result<(), Errno> {
        self.kernel.destroy(id)
    }
}
