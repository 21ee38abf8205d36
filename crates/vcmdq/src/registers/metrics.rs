//! Accesses that had no effect.

use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Why an access had no effect; see [`RegisterMetrics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Shape,
    Nowhere,
    Guarded,
}

/// Accesses of the guest that had no effect, since the frame was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterMetrics {
    /// Of a width or alignment that the architecture does not define, or beyond the frame.
    pub misshapen: u64,
    /// Writes to where no writable register is.
    pub nowhere: u64,
    /// Writes to registers that may be written only while something is disabled which was not.
    pub guarded: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    misshapen: AtomicU64,
    nowhere: AtomicU64,
    guarded: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, why: Ignored) {
        let counter = match why {
            Ignored::Shape => &self.misshapen,
            Ignored::Nowhere => &self.nowhere,
            Ignored::Guarded => &self.guarded,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> RegisterMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RegisterMetrics {
            misshapen: read(&self.misshapen),
            nowhere: read(&self.nowhere),
            guarded: read(&self.guarded),
        }
    }
}
