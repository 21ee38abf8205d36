//! What is measured, as plain data. Times are nanoseconds unless a name says otherwise.

use crate::latency::Latency;
use serde::{Deserialize, Serialize};

mod case;

pub use case::{Case, Cost, Mode, Span, Waiter};

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured how.
    #[serde(flatten)]
    pub case: Case,
    /// Rounds of all vCPUs that count.
    pub rounds: u64,
    /// The guest's times.
    pub latency: Latency,
    /// Empty exits that have taken turns with what `latency` is of, where
    /// [`Case::has_exit_beside`] says so: half of all rounds.
    pub exit_beside: Option<Latency>,
    /// Exits to user space in a round.
    pub exits_per_round: f64,
    /// When Linux's waiter saw its SYNCs.
    pub seen: Option<Seen>,
    /// The same of each pass.
    pub seen_by_pass: Vec<Seen>,
    /// What was counted outside of the guest, if anybody executed commands.
    pub host: Option<Host>,
}

/// At which look a guest saw its SYNCs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// SYNCs.
    pub syncs: u64,
    /// Seen at one of the first ten looks, before the first delay.
    pub within_ten: u64,
    /// Seen at the first look behind the first delay, or earlier.
    pub within_first_delay: u64,
}

impl Seen {
    /// Both together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            syncs: self.syncs + other.syncs,
            within_ten: self.within_ten + other.within_ten,
            within_first_delay: self.within_first_delay + other.within_first_delay,
        }
    }

    /// The share of SYNCs that were seen as early as `early` says; the median over passes, the lower
    /// one of two. A pass in which the host moved a thread to another core does not speak for all.
    #[must_use]
    pub fn typically(passes: &[Self], early: fn(&Self) -> u64) -> Option<f64> {
        let passes = passes.iter().filter(|seen| seen.syncs != 0);
        let share = |seen: &Self| early(seen) as f64 / seen.syncs as f64;
        let mut shares: Vec<f64> = passes.map(share).collect();
        shares.sort_unstable_by(f64::total_cmp);
        shares.get(shares.len().saturating_sub(1) / 2).copied()
    }
}

/// What was counted outside of the guest, in all rounds with those that do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Rounds, with those that do not count.
    pub rounds: u64,
    /// Calls of the backend.
    pub calls: u64,
    /// Requests in them.
    pub requests: u64,
    /// Doorbells that had to wake a worker.
    pub wake_ups: u64,
    /// Doorbells that consumed on the vCPU's thread.
    pub inline_doorbells: u64,
    /// How often a way around the exit was opened or closed.
    pub flips: u64,
    /// Of those, refused.
    pub failed_flips: u64,
    /// What flips took together, in microseconds.
    pub flip_us: f64,
    /// The longest.
    pub longest_flip_us: f64,
}

impl Host {
    /// Calls of the backend in a round.
    #[must_use]
    pub fn calls_per_round(&self) -> f64 {
        self.calls as f64 / self.rounds.max(1) as f64
    }

    /// Adds what another run has counted.
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.calls += other.calls;
        self.requests += other.requests;
        self.wake_ups += other.wake_ups;
        self.inline_doorbells += other.inline_doorbells;
        self.flips += other.flips;
        self.failed_flips += other.failed_flips;
        self.flip_us += other.flip_us;
        self.longest_flip_us = self.longest_flip_us.max(other.longest_flip_us);
    }
}

/// Where a thread runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// In the rows with so many vCPUs.
    pub vcpus: u32,
    /// The thread's name.
    pub thread: String,
    /// Its processor; `None` where the scheduler chooses.
    pub cpu: Option<usize>,
    /// Whether another busy thread runs there too, so that one waits for the other.
    pub shared: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// A smoke run: too few rounds to compare.
    pub quick: bool,
    /// Processors of the machine that the process may use.
    pub cpus: usize,
    /// Ticks of the guest's TSC in a microsecond.
    pub ticks_per_us: f64,
    /// Passes over all rows.
    pub passes: usize,
    /// Median of an empty exit; NaN if that was not asked for.
    pub empty_exit_ns: f64,
    /// Where the threads ran.
    pub placement: Vec<Placed>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// The row of a case.
    #[must_use]
    pub fn row(&self, case: &Case) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == *case)
    }
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Measured {
    /// All rows.
    Report(Report),
    /// Nothing; why, in a few words. Not a failure: a machine without KVM.
    Nothing(String),
}
