//! Whether idle rings cost anything.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let ratio = sources.row(|rows| &rows.throughput).map(|throughput| {
        let flat = &throughput.flat;
        let show = |ns| Unit::Nanoseconds.show(ns);
        let words = format!(
            "{} against {}",
            show(flat.rings_4096.ns),
            show(flat.rings_16.ns)
        );
        (flat.ratio, words)
    });
    Goal {
        id: "goal-flat",
        what: "4096 rings with 16 busy, against 16 rings",
        parts: vec![Part::new(
            "cost per command",
            Bound::AtMost(1.1),
            Unit::Times,
            ratio,
        )],
        note: "The ratio is the median of the ratios in each round.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;
    use vcmdq_measure::data::{Cost, Section};
    use vcmdq_measure::throughput::{Flat, Throughput};

    #[test]
    fn the_rounds_ratio_is_judged() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.throughput = Section::Measured(Throughput {
                placement: Vec::new(),
                points: Vec::new(),
                flat: Flat {
                    rings_16: Cost::of("", vec![5.0]),
                    rings_4096: Cost::of("", vec![9.0]),
                    ratio: 1.1,
                },
            });
        });
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.1)]);
        assert_eq!(goal.verdict(), Verdict::Met);
    }
}
