//! What is measured how.

use serde::{Deserialize, Serialize};
use std::fmt;
use vcmdq_wording::count;

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
    /// wait for: ten looks, each with a look at the clock and between two of them two pauses, a
    /// delay of 1 µs, ten looks, 2 µs, …
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

/// What was measured how: the key of a [`Row`](crate::Row).
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

impl Case {
    /// Whether empty exits take turns with it: where the store alone is timed, and exits.
    #[must_use]
    pub const fn has_exit_beside(&self) -> bool {
        let exits = matches!(self.mode, Mode::InExit | Mode::Worker | Mode::Inline);
        exits && matches!(self.span, Span::Store)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.mode.name(), count(self.vcpus, "vCPU"))?;
        if self.pages != 0 {
            write!(f, ", {}", count(self.pages, "page"))?;
        }
        if self.range {
            f.write_str(" in a range")?;
        }
        if self.backend == Cost::Injected {
            f.write_str(", injected cost")?;
        }
        if self.waiter == Waiter::Linux {
            f.write_str(", Linux's waiter")?;
        }
        if self.pause_us != 0 {
            write!(f, ", {} µs of pause", self.pause_us)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_says_what_it_is() {
        let case = Case {
            vcpus: 2,
            pages: 64,
            range: true,
            backend: Cost::Injected,
            waiter: Waiter::Linux,
            ..Case::of(Mode::SharedPage)
        };
        assert_eq!(
            case.to_string(),
            "shared page, 2 vCPUs, 64 pages in a range, injected cost, Linux's waiter"
        );
        let exit = Case::of(Mode::EmptyExit).to_string();
        assert_eq!(exit, "empty exit, 1 vCPU");
    }
}
