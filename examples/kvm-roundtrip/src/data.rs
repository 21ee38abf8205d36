//! What is measured, as plain data. Times are nanoseconds unless a name says otherwise.

use crate::latency::Latency;
use serde::{Deserialize, Serialize};

/// How the guest's queue is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Not at all: a write that exits to the VMM, and back.
    EmptyExit,
    /// Not at all: a write that only the kernel handles, an ioeventfd with nobody asleep.
    KernelExit,
    /// No exit and no engine: a thread polls PROD and answers in RAM, without reading a command.
    Bare,
    /// No guest: two threads of the VMM, on the processors of vCPU and worker, bounce an item
    /// through two rings of the crate rtrb. What a queue costs at best.
    Rtrb,
    /// The exit takes one mutex for all rings and consumes, one backend call for each command.
    InExit,
    /// The exit publishes and returns; a worker consumes.
    Worker,
    /// The exit's doorbell consumes, because the worker sleeps.
    Inline,
    /// The kernel queues the write; a worker polls the queue.
    Coalesced,
    /// No exit: PROD lies in a page that a worker polls.
    SharedPage,
    /// The same while the guest is busy; else the page traps and the worker sleeps.
    Adaptive,
}

impl Mode {
    /// All, in the order of a table: references first.
    pub const ALL: [Self; 10] = [
        Self::EmptyExit,
        Self::KernelExit,
        Self::Bare,
        Self::Rtrb,
        Self::InExit,
        Self::Worker,
        Self::Inline,
        Self::Coalesced,
        Self::SharedPage,
        Self::Adaptive,
    ];

    /// In a word or two.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyExit => "empty exit",
            Self::KernelExit => "kernel exit",
            Self::Bare => "bare ping-pong",
            Self::Rtrb => "rtrb ping-pong",
            Self::InExit => "in the exit",
            Self::Worker => "trap, worker",
            Self::Inline => "trap, inline",
            Self::Coalesced => "coalesced",
            Self::SharedPage => "shared page",
            Self::Adaptive => "adaptive",
        }
    }

    /// In a sentence.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::EmptyExit => "a write that exits to user space, and back",
            Self::KernelExit => "a write to an ioeventfd that nobody waits for",
            Self::Bare => "no exit, no engine: a thread polls PROD and answers",
            Self::Rtrb => "no guest: two threads and two rings of rtrb",
            Self::InExit => "the exit consumes under one mutex, one backend call per command",
            Self::Worker => "the exit publishes and returns, a worker consumes",
            Self::Inline => "the exit's doorbell consumes while the worker sleeps",
            Self::Coalesced => "the kernel queues the write, a worker polls the queue",
            Self::SharedPage => "no exit: PROD lies in a page that a worker polls",
            Self::Adaptive => "a shared page that traps while the guest is idle",
        }
    }

    /// Whether nothing is consumed: there are no commands, no backend and no pages.
    #[must_use]
    pub const fn is_reference(self) -> bool {
        matches!(
            self,
            Self::EmptyExit | Self::KernelExit | Self::Bare | Self::Rtrb
        )
    }

    /// Whether the engine consumes.
    #[must_use]
    pub const fn is_engine(self) -> bool {
        !self.is_reference() && !matches!(self, Self::InExit)
    }
}

/// What the guest does between publishing and going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum Waiter {
    /// It does not wait, and writes no commands either: only the doorbell is measured.
    Nobody = 0,
    /// It looks, pauses, and looks again.
    Spin = 1,
    /// It waits as `queue_poll` of Linux's arm-smmu-v3 driver does where there is no event to
    /// wait for: ten looks, each with a look at the clock, a delay of 1 µs, ten looks, 2 µs, …
    Linux = 2,
}

/// What executes the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nothing: a reference.
    Nothing,
    /// The software backend.
    Software,
    /// The same, with 5 µs for each call and 2.4 µs for each request on top, spent by the
    /// thread that calls.
    Injected,
}

/// Which time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum Span {
    /// From the first store of the commands to the SYNC seen.
    RoundTrip = 0,
    /// The store of PROD alone: how long the vCPU is away from the guest.
    Store = 1,
}

/// What was measured how: the key of a [`Row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// How the queue is consumed.
    pub mode: Mode,
    /// Who waits.
    pub waiter: Waiter,
    /// Which time.
    pub span: Span,
    /// vCPUs at it, each with a ring of its own.
    pub vcpus: u32,
    /// Pages of 4 KiB that a round invalidates; zero in references.
    pub pages: u32,
    /// One range TLBI for all of them, instead of one TLBI for each.
    pub range: bool,
    /// What executes.
    pub backend: Cost,
    /// How long the guest pauses before each round, in microseconds; zero is busy.
    pub pause_us: u32,
}

impl Case {
    /// One TLBI and SYNC of one busy vCPU that spins, software backend; or the reference.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        let (waiter, span) = match mode {
            Mode::EmptyExit | Mode::KernelExit => (Waiter::Nobody, Span::Store),
            _ => (Waiter::Spin, Span::RoundTrip),
        };
        let reference = mode.is_reference();
        Self {
            mode,
            waiter,
            span,
            vcpus: 1,
            pages: if reference { 0 } else { 1 },
            range: false,
            backend: if reference {
                Cost::Nothing
            } else {
                Cost::Software
            },
            pause_us: 0,
        }
    }
}

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
