//! The kernel's invalidation call, counted, timed, and made to fail.

use crate::nth::Switch;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vcmdq_iommufd::IommuFd;
use vcmdq_iommufd::uapi::{Errno, Invalidate, InvalidateError, Iommufd};

/// Of a real `/dev/iommu`.
pub(crate) struct Counted {
    kernel: IommuFd,
    calls: AtomicU64,
    entries: AtomicU64,
    /// In the next call so manieth of what can fail does; 0: nothing.
    nth: AtomicU32,
    /// Whether it did.
    fired: Mutex<Option<bool>>,
}

impl Counted {
    pub(crate) fn new(kernel: IommuFd) -> Self {
        Self {
            kernel,
            calls: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            nth: AtomicU32::new(0),
            fired: Mutex::new(None),
        }
    }

    /// Calls so far, and entries in them.
    pub(crate) fn made(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.calls), read(&self.entries))
    }

    /// In the next call the n-th of what can fail does.
    pub(crate) fn arm(&self, nth: u32) {
        self.nth.store(nth, Ordering::Relaxed);
    }

    /// Whether the call behind [`arm`](Self::arm) had so many; `None` if there was none.
    pub(crate) fn fired(&self) -> Option<bool> {
        self.fired.lock().ok()?.take()
    }

    fn failing(&self, nth: u32, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let made =
            Switch::new().and_then(|switch| switch.during(nth, || self.kernel.invalidate(call)));
        let (result, fired) = match made {
            Ok((result, fired)) => (result, Some(fired)),
            // No fault injection: the check finds that nothing fired.
            Err(_) => (self.kernel.invalidate(call), None),
        };
        if let Ok(mut last) = self.fired.lock() {
            *last = fired;
        }
        result
    }
}

impl Iommufd for Counted {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let entries = u64::from(call.entry_num());
        self.entries.fetch_add(entries, Ordering::Relaxed);
        match self.nth.swap(0, Ordering::Relaxed) {
            0 => self.kernel.invalidate(call),
            nth => self.failing(nth, call),
        }
    }

    fn destroy(&self, id: u32) -> Result<(), Errno> {
        self.kernel.destroy(id)
    }
}
