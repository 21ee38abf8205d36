//! An idle guest's SYNC while another guest floods the same worker.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;
use vcmdq_measure::fairness::{DOORBELLS, Fairness, PAGES};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let part = |name: &str| {
        let ratio = sources
            .row(|rows| &rows.fairness)
            .and_then(|fairness| of_case(fairness, name));
        Part::new(
            format!("p99.9, {name}"),
            Bound::AtMost(3.0),
            Unit::Times,
            ratio,
        )
    };
    Goal {
        id: "goal-fairness",
        what: "An idle VM's SYNC while another VM floods the same worker, against alone",
        parts: vec![part(DOORBELLS), part(PAGES)],
        note: String::new(),
    }
}

fn of_case(fairness: &Fairness, name: &str) -> Result<(f64, String), String> {
    let case = fairness.find(name);
    let case = case.ok_or_else(|| format!("there is no row '{name}'"))?;
    let show = |ns: u64| Unit::Nanoseconds.show(ns as f64);
    let words = format!(
        "{} against {}",
        show(case.beside_flood.median_p999),
        show(case.alone.median_p999)
    );
    Ok((case.ratio_p999, words))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Synthetic, latencies};
    use super::*;
    use vcmdq_measure::data::Section;
    use vcmdq_measure::fairness::Fair;

    #[test]
    fn the_worse_doorbell_decides() {
        let fair = |name: &str, ratio| Fair {
            name: name.to_owned(),
            alone: latencies("", 1, 2, 1000),
            beside_flood: latencies("", 1, 2, 2000),
            flood_commands_per_second: 1.0,
            flood_found_empty: 0.0,
            ratio_p999: ratio,
            ratio_p50: 1.0,
        };
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.fairness = Section::Measured(Fairness {
                placement: Vec::new(),
                cases: vec![fair(PAGES, 3.5), fair(DOORBELLS, 2.0)],
            });
        });
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(2.0), Some(3.5)]);
        assert_eq!(goal.verdict(), Verdict::Missed);
    }
}
