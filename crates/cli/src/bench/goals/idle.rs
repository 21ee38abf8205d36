//! The processor time that an adaptive worker uses while nothing happens.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;
use vcmdq_measure::idle::{ADAPTIVE, Idle, NOTHING, SHARED_PAGE, TRAP};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let idle = sources.row(|rows| &rows.idle);
    let share = idle.clone().and_then(|idle| {
        let case = idle.find(ADAPTIVE);
        let case = case.ok_or_else(|| format!("there is no row '{ADAPTIVE}'"))?;
        let words = format!("in {} ms without work", idle.idle_ms);
        Ok((case.cpu_share, words))
    });
    Goal {
        id: "goal-idle",
        what: "CPU burnt by an adaptive worker with nothing to do for 1 s",
        parts: vec![Part::new(
            "share of a core",
            Bound::Below(0.01),
            Unit::Share,
            share,
        )],
        note: idle.map(beside).unwrap_or_default(),
    }
}

/// The other modes.
fn beside(idle: &Idle) -> String {
    let names = [
        (TRAP, "trapped doorbells"),
        (SHARED_PAGE, "a page that stays mapped"),
        (NOTHING, "no engine"),
    ];
    let shares = names.iter().filter_map(|(name, words)| {
        let case = idle.find(name)?;
        Some(format!("{words} {}", Unit::Share.show(case.cpu_share)))
    });
    let shares: Vec<String> = shares.collect();
    if shares.is_empty() {
        return String::new();
    }
    format!("Beside it: {}.", shares.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;
    use vcmdq_measure::data::Section;
    use vcmdq_measure::idle::IdleCase;

    fn verdict(share: f64) -> (Verdict, String) {
        let case = |name: &str, cpu_share| IdleCase {
            name: name.to_owned(),
            cpu_share,
            rounds: Vec::new(),
            syncs: 0,
            flips: 0,
        };
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.idle = Section::Measured(Idle {
                placement: Vec::new(),
                idle_ms: 1000,
                cases: vec![case(SHARED_PAGE, 0.26), case(ADAPTIVE, share)],
            });
        });
        let goal = goal(&synthetic.sources());
        (goal.verdict(), goal.note)
    }

    #[test]
    fn less_than_the_limit_is_demanded_and_the_others_are_told() {
        assert_eq!(verdict(0.0099).0, Verdict::Met);
        assert_eq!(verdict(0.01).0, Verdict::Missed);
        assert_eq!(verdict(0.0).1, "Beside it: a page that stays mapped 26 %.");
    }
}
