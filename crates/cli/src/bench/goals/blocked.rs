//! Other guests' SYNCs while as many instances as workers block.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;
use vcmdq_measure::blocked::{Blocked, BlockedCase};

/// At most twice as long.
const MOST: Bound = Bound::AtMost(2.0);

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let parts = match sources.row(|rows| &rows.blocked) {
        Ok(Blocked { cases, .. }) if !cases.is_empty() => cases.iter().map(part).collect(),
        Ok(_) => vec![none("no number of workers was measured".to_owned())],
        Err(why) => vec![none(why)],
    };
    Goal {
        id: "goal-blocked",
        what: "As many instances as workers blocked for 1 s: all others' SYNCs, against nobody blocked",
        parts,
        note: String::new(),
    }
}

fn none(why: String) -> Part {
    Part::new("p99", MOST, Unit::Times, Err(why))
}

fn part(case: &BlockedCase) -> Part {
    let show = |ns: u64| Unit::Nanoseconds.show(ns as f64);
    let words = format!(
        "{} against {}",
        show(case.with.median_p99),
        show(case.without.median_p99)
    );
    let plural = if case.workers == 1 { "" } else { "s" };
    Part::new(
        format!("p99, {} worker{plural}", case.workers),
        MOST,
        Unit::Times,
        Ok((case.ratio_p99, words)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Synthetic, latencies};
    use super::*;
    use vcmdq_measure::data::Section;

    fn goal_of(ratios: &[f64]) -> Goal {
        let case = |(at, ratio): (usize, &f64)| BlockedCase {
            workers: at + 1,
            blocked: at + 1,
            others: 4,
            without: latencies("", 1, 1000, 1),
            with: latencies("", 1, 2000, 1),
            ratio_p99: *ratio,
        };
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.blocked = Section::Measured(Blocked {
                placement: Vec::new(),
                blocked_for_ms: 1000,
                cases: ratios.iter().enumerate().map(case).collect(),
            });
        });
        goal(&synthetic.sources())
    }

    #[test]
    fn every_number_of_workers_is_judged() {
        let goal = goal_of(&[2.0, 2.1]);
        assert_eq!(goal.values(), [Some(2.0), Some(2.1)]);
        assert_eq!(goal.parts[0].verdict(), Verdict::Met);
        assert_eq!(goal.verdict(), Verdict::Missed);
        assert_eq!(goal_of(&[]).verdict(), Verdict::NotMeasured);
    }
}
