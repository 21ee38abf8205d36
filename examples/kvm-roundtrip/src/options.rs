//! What is to be measured, and who is told how far it is.

use crate::data::Mode;

/// What is to be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A smoke run: few rounds, one pass, fewer sizes.
    pub quick: bool,
    /// These ways; all if empty. References are measured in any case.
    pub modes: Vec<Mode>,
    /// So many vCPUs; if empty 1 to the number of CPUs.
    pub vcpus: Vec<u32>,
    /// So many pages; if empty 1, 4, 16, 32 and 64.
    pub pages: Vec<u32>,
    /// Rounds of a row in one pass, instead of what the row's own cost suggests.
    pub rounds: Option<u32>,
}

/// Told between two runs of the guest, on the caller's thread.
pub trait Progress {
    /// There will be so many runs.
    fn begin(&mut self, runs: u64) {
        let _ = runs;
    }

    /// A run is over.
    fn step(&mut self) {}
}

impl Progress for () {}
