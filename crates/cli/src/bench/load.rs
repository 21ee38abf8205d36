//! Whether the machine was quiet: processor time as Linux counts it.

use serde::{Deserialize, Serialize};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// How long is looked before and after a run.
const LOOK: Duration = Duration::from_millis(300);

/// What others did to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Share of all CPUs that was busy just before the run.
    pub(crate) before: f64,
    /// The same just after it.
    pub(crate) after: f64,
    /// Share of the run's processor time that the hypervisor gave to somebody else.
    pub(crate) stolen: f64,
}

/// Processor time since the machine has started, in ticks of all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    busy: u64,
    idle: u64,
    stolen: u64,
}

/// A run that is watched.
#[derive(Debug)]
pub(crate) struct Watch {
    before: Option<f64>,
    begun: Option<Times>,
}

impl Watch {
    /// Looks at the machine, then the run may begin. Takes a third of a second.
    pub(crate) fn begin() -> Self {
        Self {
            before: busy_now(),
            begun: Times::now(),
        }
    }

    /// What it has come to; `None` where Linux's counters cannot be read.
    pub(crate) fn end(self) -> Option<Load> {
        let stolen = Times::now()?.since(self.begun?).share(|times| times.stolen);
        Some(Load {
            before: self.before?,
            after: busy_now()?,
            stolen,
        })
    }
}

impl Load {
    /// Whether somebody else was at work, or below.
    pub(crate) fn is_quiet(&self) -> bool {
        self.before.max(self.after) < 0.1 && self.stolen < 0.02
    }
}

fn busy_now() -> Option<f64> {
    let begun = Times::now()?;
    sleep(LOOK);
    Some(Times::now()?.since(begun).share(|times| times.busy))
}

impl Times {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// `cpu user nice system idle iowait irq softirq steal …`
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Option<Vec<u64>> = line
            .split_whitespace()
            .map(|word| word.parse().ok())
            .collect();
        let fields = fields?;
        let [user, nice, system, idle, wait, irq, softirq, stolen, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            busy: user + nice + system + irq + softirq,
            idle: idle + wait,
            stolen,
        })
    }

    fn since(self, begun: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(begun.busy),
            idle: self.idle.saturating_sub(begun.idle),
            stolen: self.stolen.saturating_sub(begun.stolen),
        }
    }

    fn share(self, of: impl Fn(Self) -> u64) -> f64 {
        let all = (self.busy + self.idle + self.stolen).max(1);
        of(self) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_has_passed_between_two_looks() {
        let first = "cpu  100 0 50 800 50 0 0 10 0 0\ncpu0 1 1 1 1 1 1 1 1\n";
        let second = "cpu  130 0 60 840 60 0 0 20 0 0\n";
        let times = |text| Times::parse(text).expect("well formed");
        let passed = times(second).since(times(first));
        assert_eq!((passed.busy, passed.idle, passed.stolen), (40, 50, 10));
        assert_eq!(passed.share(|times| times.busy), 0.4);
        assert_eq!(passed.share(|times| times.stolen), 0.1);
    }

    #[test]
    fn what_is_not_proc_stat_is_nothing() {
        for text in [
            "",
            "cpu 1 2 3",
            "cpu a b c d e f g h",
            "cpu0 1 1 1 1 1 1 1 1",
        ] {
            assert_eq!(Times::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_quiet_machine_has_neither_neighbours_nor_thieves() {
        let load = |before, after, stolen| Load {
            before,
            after,
            stolen,
        };
        assert!(load(0.01, 0.05, 0.001).is_quiet());
        assert!(!load(0.5, 0.0, 0.0).is_quiet());
        assert!(!load(0.0, 0.5, 0.0).is_quiet());
        assert!(!load(0.0, 0.0, 0.05).is_quiet());
    }
}
