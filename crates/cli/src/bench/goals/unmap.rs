//! Unmapping 64 pages from two vCPUs with a backend that costs something, against consumption in the
//! exit with one call for each command.

use super::{Bound, Goal, Part, Reading, Sources, WithoutExits, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Cost, Mode, Row};

/// 64 pages, no range invalidation, two vCPUs, injected cost.
fn case(mode: Mode) -> Case {
    Case {
        vcpus: 2,
        pages: 64,
        backend: Cost::Injected,
        ..Case::of(mode)
    }
}

/// Means, as in published tables: under a mutex one vCPU may be served often and the other one
/// seldom, which a median does not show.
fn mean(row: &Row) -> f64 {
    row.latency.passes_mean
}

/// The engine's row that a VMM would choose on this machine: which one depends on whether the worker
/// has a CPU beside the vCPUs.
fn best<'a>(sources: &Sources<'a>) -> Option<&'a Row> {
    let modes = Mode::ALL.into_iter().filter(|mode| mode.is_engine());
    let rows = modes.filter_map(|mode| sources.guest(&case(mode)).ok());
    rows.min_by(|a, b| mean(a).total_cmp(&mean(b)))
}

/// The engine's best row and the exit's, for who tells about them elsewhere.
pub(crate) fn best_and_exit<'a>(sources: &Sources<'a>) -> Option<(&'a Row, &'a Row)> {
    Some((best(sources)?, sources.guest(&case(Mode::InExit)).ok()?))
}

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let best = best(sources);
    let both = || {
        let page = || sources.guest(&case(Mode::SharedPage));
        let own = best.map_or_else(page, Ok)?;
        Ok((sources.guest(&case(Mode::InExit))?, own))
    };
    let ratio = both().and_then(|(exit, own)| times(mean(exit), mean(own)));
    let without = both().and_then(|(exit, own)| {
        let empty = sources.guest(&Case::of(Mode::EmptyExit))?;
        let left = |row: &Row| mean(row) - row.exits_per_round * empty.latency.passes_p50;
        times(left(exit), left(own))
    });
    let name = best.map_or(Mode::SharedPage, |row| row.case.mode).name();
    let mut part = Part::new(
        format!("{name}, times as fast"),
        Bound::AtLeast(20.0),
        Unit::Times,
        ratio,
    );
    part.without_exits = Some(WithoutExits {
        reading: Reading::from(without),
        unit: Unit::Times,
        bound: Some(Bound::AtLeast(5.0)),
    });
    Goal {
        id: "goal-unmap",
        what: "64 pages, no range invalidation, 2 vCPUs, a backend with a cost: against the exit",
        parts: vec![part],
        note: others(sources, best),
    }
}

/// The other modes.
fn others(sources: &Sources<'_>, best: Option<&Row>) -> String {
    let Ok(exit) = sources.guest(&case(Mode::InExit)) else {
        return String::new();
    };
    let modes = Mode::ALL.iter().filter(|mode| mode.is_engine());
    let others = modes.filter(|mode| best.is_some_and(|best| best.case.mode != **mode));
    let faster = others.filter_map(|mode| {
        let row = sources.guest(&case(*mode)).ok()?;
        let ratio = mean(exit) / mean(row);
        Some(format!("{} {}", mode.name(), Unit::Times.show(ratio)))
    });
    let faster: Vec<String> = faster.collect();
    if faster.is_empty() {
        return String::new();
    }
    format!("The other modes: {}.", faster.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;

    #[test]
    fn both_ratios_have_their_own_bound() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::EmptyExit), 30_000.0);
        synthetic.guest(case(Mode::SharedPage), 20_000.0);
        let exit = synthetic.guest(case(Mode::InExit), 500_000.0);
        exit.exits_per_round = 14.0;
        synthetic
            .guest(case(Mode::Worker), 50_000.0)
            .exits_per_round = 1.0;
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(25.0)]);
        let without = goal.parts[0].without_exits.as_ref();
        // 500 µs without 14 exits of 30 µs are 80 µs.
        let left = without.and_then(|without| without.reading.value());
        assert_eq!(left, Some(4.0));
        assert_eq!(goal.verdict(), Verdict::Missed);
        assert_eq!(goal.note, "The other modes: trap, worker 10×.");
    }

    #[test]
    fn a_machine_with_one_cpu_has_no_such_row() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::InExit), 1.0);
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.verdict(), Verdict::NotMeasured);
    }
}
