//! What a command costs from fetch to the software backend, with a full ring.

use super::{Bound, Goal, Part, Sources, times};
use crate::bench::plot::Unit;
use vcmdq_measure::drains::{BASELINE, Drain, ENGINE};

/// Streams of the goal: name in the rows, what it is, at most so many nanoseconds per command.
const STREAMS: [(&str, &str, f64); 3] = [
    ("neighbours", "mergeable", 4.0),
    ("recorded", "recorded strict stream", 8.0),
    ("random", "random", 12.0),
];

/// At least so many times as fast as synchronous consumption under a mutex.
const FASTER: f64 = 4.0;

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let parts = STREAMS.into_iter().flat_map(|(stream, name, most)| {
        let drain = || {
            let drains = sources.row(|rows| &rows.drains)?;
            let found = drains.find(stream, false);
            found.ok_or_else(|| format!("there is no row '{stream}'"))
        };
        let cost = |drain: &Drain, who: &str| {
            let cost = drain.cost(who);
            cost.ok_or_else(|| format!("there is no row '{who}'"))
        };
        let own = drain().and_then(|drain| Ok((cost(drain, ENGINE)?, String::new())));
        let faster = drain().and_then(|drain| times(cost(drain, BASELINE)?, cost(drain, ENGINE)?));
        [
            Part::new(
                format!("{name}, per command"),
                Bound::AtMost(most),
                Unit::Nanoseconds,
                own,
            ),
            Part::new(
                format!("{name}, times as fast as the baseline"),
                Bound::AtLeast(FASTER),
                Unit::Times,
                faster,
            ),
        ]
    });
    Goal {
        id: "goal-drains",
        what: "Full ring: per command from fetch to the software backend",
        parts: parts.collect(),
        note: "The baseline consumes synchronously under a mutex, with the same backend."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;
    use vcmdq_measure::data::{Cost, Section};
    use vcmdq_measure::drains::{Drains, Injected};

    fn drain(name: &str, injected: bool, engine: f64, baseline: f64) -> Drain {
        let cost = |name, ns| Cost::of(name, vec![ns]);
        Drain {
            name: name.to_owned(),
            commands: 64,
            goal_ns: None,
            goal_ratio: None,
            published_ns: None,
            injected,
            costs: vec![cost(ENGINE, engine), cost(BASELINE, baseline)],
        }
    }

    #[test]
    fn each_stream_has_its_bound_and_the_injected_cost_is_not_in_it() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.drains = Section::Measured(Drains {
                placement: Vec::new(),
                injected: Injected {
                    per_call_ns: 0,
                    per_command_ns: 0,
                },
                streams: vec![
                    drain("neighbours", true, 100.0, 100.0),
                    drain("neighbours", false, 4.0, 16.0),
                    drain("recorded", false, 10.0, 30.0),
                ],
            });
        });
        let goal = goal(&synthetic.sources());
        let expected = [Some(4.0), Some(4.0), Some(10.0), Some(3.0), None, None];
        assert_eq!(goal.values(), expected);
        let verdicts: Vec<_> = goal.parts.iter().map(Part::verdict).collect();
        assert_eq!(verdicts[..2], [Verdict::Met; 2]);
        assert_eq!(verdicts[2..4], [Verdict::Missed; 2]);
        assert_eq!(verdicts[4..], [Verdict::NotMeasured; 2]);
    }

    #[test]
    fn without_the_rows_the_reason_is_told() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| rows.drains = Section::Skipped("too few CPUs".to_owned()));
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.verdict(), Verdict::NotMeasured);
        assert!(format!("{:?}", goal.parts[0].reading).contains("too few CPUs"));
    }
}
