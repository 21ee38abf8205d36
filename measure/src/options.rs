//! What is to be measured, and who is told how far it has come.

use serde::{Deserialize, Serialize};

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// [`crate::trips`]
    RoundTrips,
    /// [`crate::drains`]
    Drains,
    /// [`crate::throughput`]
    Throughput,
    /// [`crate::group_commit`]
    GroupCommit,
    /// [`crate::fairness`]
    Fairness,
    /// [`crate::blocked`]
    Blocked,
    /// [`crate::idle`]
    Idle,
    /// [`crate::tlb`]
    Tlb,
}

impl Part {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::RoundTrips,
        Self::Drains,
        Self::Throughput,
        Self::GroupCommit,
        Self::Fairness,
        Self::Blocked,
        Self::Idle,
        Self::Tlb,
    ];

    /// For the reader.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundTrips => "round trips",
            Self::Drains => "full rings",
            Self::Throughput => "throughput",
            Self::GroupCommit => "group commit",
            Self::Fairness => "fairness",
            Self::Blocked => "blocked backends",
            Self::Idle => "idle workers",
            Self::Tlb => "invalidations",
        }
    }
}

/// Settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Only show that everything works: few rounds, figures that mean nothing.
    pub quick: bool,
    /// The parts to be measured; `None`: all of them.
    pub only: Option<Vec<Part>>,
}

impl Options {
    /// Whether a part is wanted.
    #[must_use]
    pub fn wants(&self, part: Part) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&part))
    }

    /// `full` rounds, or `quick` ones.
    pub(crate) fn rounds(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Told how far a run has come, on the thread that measures, between two measurements: what it
/// does delays the run and disturbs nothing.
pub trait Progress {
    /// A part of so many steps begins.
    fn part(&self, part: Part, steps: u64) {
        let _ = (part, steps);
    }

    /// One of its steps is done.
    fn step(&self) {}
}

impl Progress for () {}
