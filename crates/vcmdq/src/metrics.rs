//! Counters, by stage. Written by the one worker that owns a ring, read by anybody.

use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Buckets of the window-size histogram: 1, 2, 3 to 4, 5 to 8, … 513 to 1,008 commands.
pub const WINDOW_BUCKETS: usize = 11;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a ring has done since it was added.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RingMetrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Windows by size; see [`WINDOW_BUCKETS`].
            pub window_sizes: [u64; WINDOW_BUCKETS],
        }

        impl RingMetrics {
            /// Adds another ring's counters to these.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (sum, one) in self.window_sizes.iter_mut().zip(other.window_sizes) {
                    *sum += one;
                }
            }

            /// Every counter with its name, in stage order.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(crate) window_sizes: [Counter; WINDOW_BUCKETS],
        }

        impl Counters {
            pub(crate) fn read(&self) -> RingMetrics {
                RingMetrics {
                    $($name: self.$name.get(),)*
                    window_sizes: std::array::from_fn(|n| self.window_sizes[n].get()),
                }
            }
        }
    };
}

counters! {
    /// Commands consumed.
    commands,
    /// Windows that they came in.
    windows,
    /// PRODs that lay beyond the ring, and were not followed.
    bad_prods,
    /// Invalidations executed. Those behind a SYNC that waits are executed again when it is done.
    invalidations,
    /// Other commands with an effect (CFGI, RESUME, STALL_TERM, PRI_RESP).
    effects,
    /// Commands of effect on one stream, and invalidations of one, that named a stream nobody
    /// bound; dropped.
    unbound,
    /// CMD_PRI_RESP while SMMUEN was 0; ignored (IHI 0070, 4.5.2).
    ignored_responses,
    /// Requests that were left after coalescing.
    requests,
    /// Calls to backends. One that several rings share is counted at one of them only, and so are
    /// its requests and what was made of them: the sum over a frame's rings is exact.
    calls,
    /// Those of them that several rings shared.
    shared_calls,
    /// Windows whose invalidations left in a call with those of other rings.
    shared_windows,
    /// Calls that were made again.
    retries,
    /// Requests that had to be widened.
    widened,
    /// Requests that failed closed.
    failed_closed,
    /// Entries of other rings of the VINTF that were executed for this ring's SYNCs (law 3).
    covered,
    /// SYNCs completed; the guest sees none done that is not counted.
    syncs,
    /// SYNCs that had to wait for an access that used what was removed.
    sync_waits,
    /// Commands that stopped the ring: CERROR_ILL.
    illegal,
    /// Entries that stopped the ring: CERROR_ABT.
    unreadable,
    /// SYNCs that stopped the ring: CERROR_ATC_INV.
    atc_timeouts,
    /// Messages of SYNCs that went nowhere.
    lost_messages,
    /// PRODs that came late, behind newer ones; dropped. Of rings with a way around the exit only.
    stale_prods,
    /// Doorbells that consumed on the vCPU's thread ([`Settings::inline`](crate::Settings::inline)).
    inline_doorbells,
    /// Commands that they consumed.
    inline_commands,
    /// SYNCs whose time was measured; see [`Lateness`].
    syncs_measured,
    /// Those of them that completed later than the limit after their PROD.
    syncs_late,
    /// Late because the worker slept or dozed.
    late_asleep,
    /// Late because the worker's thread did not run.
    late_preempted,
    /// Late because of a backend.
    late_backend,
    /// Late because an access used what was removed.
    late_guard,
    /// Late because of something else: other rings' windows, callbacks into the VMM.
    late_other,
}

impl RingMetrics {
    /// How late the ring's SYNCs were, and why.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        Lateness {
            measured: self.syncs_measured,
            late: self.syncs_late,
            asleep: self.late_asleep,
            preempted: self.late_preempted,
            backend: self.late_backend,
            guard: self.late_guard,
            other: self.late_other,
        }
    }
}

/// How many SYNCs completed later than [`Settings::late_after`](crate::Settings::late_after) after
/// their PROD was published. All zero if that is not set.
///
/// A SYNC is measured from above. Its time begins with the first doorbell that the worker has not
/// seen, or with the last look at a shared page that did not show its PROD, so a worker that dozes
/// counts as late what may have come at its last moment. Each late SYNC has one cause, what took
/// most of its time; the causes' sum is `late`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// SYNCs that completed while it was measured.
    pub measured: u64,
    /// Those that were late.
    pub late: u64,
    /// Late because the worker slept or dozed.
    pub asleep: u64,
    /// Late because the worker's thread did not run: between two of its idle looks, or within the
    /// first pass over a window, lay much more time than either takes.
    pub preempted: u64,
    /// Late because a batch's dispatch took its time. A thread that is preempted inside of the
    /// backend counts here, too.
    pub backend: u64,
    /// Late because the SYNC waited for an access, or for an event's record.
    pub guard: u64,
    /// Late because of something else: other rings' windows, callbacks into the VMM.
    pub other: u64,
}

impl Lateness {
    /// Adds another ring's counts to these.
    pub fn add(&mut self, other: &Self) {
        self.measured += other.measured;
        self.late += other.late;
        self.asleep += other.asleep;
        self.preempted += other.preempted;
        self.backend += other.backend;
        self.guard += other.guard;
        self.other += other.other;
    }

    /// The share of late SYNCs, 0 to 1; `None` if nothing was measured.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    pub fn share(&self) -> Option<f64> {
        (self.measured != 0).then(|| self.late as f64 / self.measured as f64)
    }
}

/// A counter with one writer at a time.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Load and store, no read-modify-write: whoever owns the ring is the only writer, and the
    /// claim orders one owner's after another's.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        if n != 0 {
            self.0
                .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        }
    }

    /// The same for a counter that several threads write, and only so.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts a window of which `len` commands were consumed; none, if it stopped at its first.
    #[inline]
    pub(crate) fn window(&self, len: u32) {
        if len == 0 {
            return;
        }
        self.commands.add(u64::from(len));
        self.windows.add(1);
        let bucket = (u32::BITS - len.saturating_sub(1).leading_zeros()) as usize;
        self.window_sizes[bucket.min(WINDOW_BUCKETS - 1)].add(1);
    }
}

/// What an engine's workers have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Doorbells that had to wake a worker.
    pub wake_ups: u64,
    /// Times a worker went to sleep.
    pub sleeps: u64,
    /// Looks for work that found none.
    pub idle_looks: u64,
    /// Times a worker gave up its other work before a call that can block.
    pub hand_overs: u64,
    /// Threads beside the workers, for such calls.
    pub spares: usize,
    /// Threads that make such calls of one instance while another one's are made.
    pub callers: usize,
    /// Times a thread died by a panic of a backend or a callback, and went on. A build with
    /// `panic = "abort"` has none.
    pub panics: u64,
    /// Rings that are not served any more because that happened again and again at one command.
    pub broken_rings: u64,
    /// How late the SYNCs of all rings were, and why.
    pub lateness: Lateness,
    /// Times the VMM was asked to open or close a way around the exit.
    pub flips: u64,
    /// Those that failed.
    pub failed_flips: u64,
    /// The time that all of them took.
    pub flip_time: Duration,
    /// The longest.
    pub longest_flip: Duration,
}
