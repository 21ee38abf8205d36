//! What the guest noted, condensed into rows.

use super::guest::Waiter;
use serde::Serialize;

/// How the queue is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Not at all: a write that exits, and back.
    EmptyExit,
    /// No engine: a thread answers each PROD without reading a command.
    Bare,
    /// The exit takes a lock and consumes.
    TrapInExit,
    /// The exit publishes and returns, a worker consumes.
    TrapWorker,
    /// No exit: PROD lies in a page that the worker polls.
    SharedPage,
}

/// One round as the guest saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// From the first store of the commands to the SYNC seen.
    pub(crate) ticks: u64,
    /// The look that saw the SYNC, the first being 1; 0 if nobody looked.
    pub(crate) look: u64,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// How the queue is consumed.
    pub(crate) mode: Mode,
    /// Who waits.
    pub(crate) waiter: Waiter,
    /// Half of the rounds took at most this, in microseconds.
    pub(crate) median_us: f64,
    /// 99 of 100 rounds took at most this, in microseconds.
    pub(crate) p99_us: f64,
    /// Rounds whose SYNC was seen at one of the first ten looks: where Linux's waiter has not
    /// begun to delay.
    pub(crate) within_ten_looks: usize,
    /// Exits in a round.
    pub(crate) exits_per_round: f64,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Rounds behind each row.
    pub(crate) rounds: usize,
    /// Ticks of the guest's TSC in a microsecond.
    pub(crate) ticks_per_us: f64,
    /// The rows; the first is the empty exit.
    pub(crate) rows: Vec<Row>,
}

impl Row {
    /// The row of these samples; `exits_per_round` comes from the VMM.
    pub(crate) fn new(
        (mode, waiter): (Mode, Waiter),
        samples: &[Sample],
        exits_per_round: f64,
        ticks_per_us: f64,
    ) -> Self {
        let mut ticks: Vec<u64> = samples.iter().map(|sample| sample.ticks).collect();
        ticks.sort_unstable();
        let us = |percent| at_most(&ticks, percent) as f64 / ticks_per_us;
        let early = samples.iter().filter(|s| (1..=10).contains(&s.look));
        Self {
            mode,
            waiter,
            median_us: us(50),
            p99_us: us(99),
            within_ten_looks: early.count(),
            exits_per_round,
        }
    }
}

/// The smallest of the sorted values that `percent` of them do not exceed; zero if there are none.
fn at_most(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::at_most;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!((at_most(&values, 50), at_most(&values, 99)), (100, 198));
        assert_eq!((at_most(&[7], 50), at_most(&[7], 99)), (7, 7));
        assert_eq!(at_most(&[], 50), 0);
    }
}
