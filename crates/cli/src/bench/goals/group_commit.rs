//! How many calls of the backend a SYNC costs when several wait at the same time.

use super::{Bound, Goal, Part, Reading, Sources};
use crate::bench::plot::{Unit, digits};
use vcmdq_measure::group_commit::{BASELINE, ONE_RING, RINGS, RINGS_LONG};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let case = |name: &str| {
        let group = sources.row(|rows| &rows.group_commit)?;
        let found = group.find(name);
        found.ok_or_else(|| format!("there is no row '{name}'"))
    };
    let calls = case(ONE_RING).map(|case| {
        let words = format!("{} calls for {} SYNCs", case.calls, case.syncs);
        (case.calls_per_sync, words)
    });
    let beside = [
        (RINGS_LONG, "8 rings of one frame"),
        (
            RINGS,
            "the same if the backend does not say what a call costs",
        ),
        (BASELINE, "the baseline"),
    ];
    let beside = beside.into_iter().filter_map(|(name, words)| {
        let case = case(name).ok()?;
        Some(format!("{words} {}", digits(case.calls_per_sync)))
    });
    let beside: Vec<String> = beside.collect();
    Goal {
        id: "goal-group-commit",
        what: "Group commit: 8 producers on one ring, 5 µs for a call",
        parts: vec![Part::new(
            "calls per SYNC",
            Bound::AtMost(0.3),
            Unit::Count,
            Reading::from(calls),
        )],
        note: if beside.is_empty() {
            String::new()
        } else {
            format!("Beside it: {}.", beside.join(", "))
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Synthetic, latencies};
    use super::*;
    use vcmdq_measure::data::Section;
    use vcmdq_measure::group_commit::{GroupCase, GroupCommit};

    fn case(name: &str, calls_per_sync: f64) -> GroupCase {
        GroupCase {
            name: name.to_owned(),
            producers: 8,
            rings: 1,
            syncs: 100,
            calls: (100.0 * calls_per_sync) as u64,
            requests: 100,
            calls_per_sync,
            latencies: latencies(name, 1, 1, 1),
        }
    }

    #[test]
    fn only_producers_on_one_ring_are_judged() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.group_commit = Section::Measured(GroupCommit {
                placement: Vec::new(),
                per_call_ns: 5000,
                cases: vec![
                    case(BASELINE, 1.0),
                    case(ONE_RING, 0.31),
                    case(RINGS_LONG, 0.2),
                ],
            });
        });
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(0.31)]);
        assert_eq!(goal.verdict(), Verdict::Missed);
        assert_eq!(
            goal.note,
            "Beside it: 8 rings of one frame 0.2, the baseline 1."
        );
    }
}
