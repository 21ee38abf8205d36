//! The kernel's calls, counted and made to fail.

use crate::nth::Switch;
use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vcmdq_iommufd::IommuFd;
use vcmdq_iommufd::uapi::{Errno, HwInfo, HwptAlloc, Invalidate, InvalidateError, Iommufd};

/// The variable with which the host has every invalidation lost, so that it can be seen which checks notice.
const LOSE: &str = "VCMDQ_LOSE";

/// Of a real `/dev/iommu`.
pub(crate) struct Counted {
    kernel: IommuFd,
    calls: AtomicU64,
    entries: AtomicU64,
    /// How many things that can fail do not before one does; 0: none does any more.
    nth: AtomicU32,
    /// Invalidations do not get there, and nobody is told.
    loses: bool,
}

impl Counted {
    pub(crate) fn new(kernel: IommuFd) -> Self {
        Self {
            kernel,
            calls: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            nth: AtomicU32::new(0),
            loses: std::env::var_os(LOSE).is_some(),
        }
    }

    /// Invalidation calls so far, and entries in them.
    pub(crate) fn made(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.calls), read(&self.entries))
    }

    /// From now on, the n-th of what can fail in calls does, once.
    pub(crate) fn arm(&self, nth: u32) {
        self.nth.store(nth, Ordering::Relaxed);
    }

    /// Whether it did. Nothing fails any more.
    pub(crate) fn has_fired(&self) -> bool {
        self.nth.swap(0, Ordering::Relaxed) == 0
    }

    /// A call, with what is to fail in it. Of one thread at a time while something is to fail.
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        let nth = self.nth.load(Ordering::Relaxed);
        if nth == 0 {
            return call();
        }
        // Without a switch nothing fails, and the check says so.
        let Ok(switch) = Switch::new() else {
            return call();
        };
        let (result, left) = switch.during(nth, call);
        self.nth.store(left, Ordering::Relaxed);
        result
    }
}

impl Iommufd for Counted {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let entries = u64::from(call.entry_num());
        self.entries.fetch_add(entries, Ordering::Relaxed);
        if self.loses {
            return Ok(());
        }
        self.call(|| self.kernel.invalidate(call))
    }

    fn hw_info(&self, device: u32, wanted: u32, data: &mut [u8]) -> Result<HwInfo, Errno> {
        self.call(|| self.kernel.hw_info(device, wanted, data))
    }

    fn alloc_hwpt(&self, call: &HwptAlloc<'_>) -> Result<u32, Errno> {
        self.call(|| self.kernel.alloc_hwpt(call))
    }

    fn alloc_viommu(&self, data_type: u32, device: u32, parent: u32) -> Result<u32, Errno> {
        self.call(|| self.kernel.alloc_viommu(data_type, device, parent))
    }

    fn alloc_vdevice(&self, viommu: u32, device: u32, virt_id: u64) -> Result<u32, Errno> {
        self.call(|| self.kernel.alloc_vdevice(viommu, device, virt_id))
    }

    fn alloc_veventq(&self, viommu: u32, data_type: u32, depth: u32) -> Result<(u32, File), Errno> {
        self.call(|| Iommufd::alloc_veventq(&self.kernel, viommu, data_type, depth))
    }

    fn alloc_fault_queue(&self) -> Result<(u32, File), Errno> {
        self.call(|| self.kernel.alloc_fault_queue())
    }

    fn destroy(&self, id: u32) -> Result<(), Errno> {
        self.call(|| self.kernel.destroy(id))
    }
}
