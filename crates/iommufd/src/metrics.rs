//! What became of the streams of a host.

use crate::faults::FaultCounts;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the streams were made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StreamMetrics {
            $($(#[$doc])* pub $name: u64,)*
            /// The longest time for which the streams of an instance aborted because its stage 2 was replaced.
            pub longest_gap: Duration,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            longest_gap: AtomicU64,
        }

        impl Counters {
            pub(crate) fn read(&self) -> StreamMetrics {
                StreamMetrics {
                    $($name: self.$name.0.load(Ordering::Relaxed),)*
                    longest_gap: Duration::from_nanos(self.longest_gap.load(Ordering::Relaxed)),
                }
            }
        }
    };
}

metrics! {
    /// Times that a device was attached to another page table.
    attached,
    /// vSTEs that are valid and that the host did not take: the stream aborts, the guest gets C_BAD_STE.
    refused,
    /// STEs that are invalid or could not be read: the stream aborts, the guest gets the event.
    invalid,
    /// Page tables that the host could not make or attach for a reason of its own: the stream aborts.
    failed,
    /// Devices that were found to have gone.
    gone,
    /// Devices that could neither be made to abort nor be detached.
    stuck,
    /// Streams that abort because an invalidation was not carried out.
    closed,
    /// Events of the host that were given to the guest, or dropped by its queue, which counts them itself.
    events,
    /// Events that were lost in the host: the guest sees OVFLG.
    lost,
    /// Events of streams that are not there (any more), or that are no events.
    stray,
    /// Page faults that became stalled transactions.
    stalled,
    /// Page faults that were answered with an abort: the table was full, or the device is nobody's.
    unstalled,
    /// Answers to page faults that the host did not take.
    unanswered,
    /// Times that a stage 2 was replaced, with its streams aborting meanwhile.
    replaced,
}

/// Counted by workers and control threads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts one more: how many there are then.
    pub(crate) fn one_more(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Counters {
    pub(crate) fn faults(&self, counts: FaultCounts) {
        self.stalled.add(counts.stalled);
        self.unstalled.add(counts.aborted);
        self.unanswered.add(counts.unanswered);
    }

    pub(crate) fn gap(&self, gap: Duration) {
        let nanos = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        self.longest_gap.fetch_max(nanos, Ordering::Relaxed);
    }
}
