//! Trap mode: how long the vCPU is away from the guest when it writes PROD.

use super::{Bound, Goal, Part, Sources, beyond, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Mode, Span};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let both = || {
        let store = sources.guest(&Case {
            span: Span::Store,
            ..Case::of(Mode::Worker)
        })?;
        let exit = sources.guest(&Case::of(Mode::EmptyExit))?;
        Ok((store.latency.passes_p50, exit.latency.passes_p50))
    };
    let ratio = both().and_then(|(store, exit)| times(store, exit));
    let mut part = Part::new(
        "median time of the store, against an empty exit",
        Bound::AtMost(1.15),
        Unit::Times,
        ratio,
    );
    part.without_exits = Some(beyond(both(), "the empty exit"));
    Goal {
        id: "goal-away",
        what: "Trap mode: time the vCPU is away from the guest, against an empty exit",
        parts: vec![part],
        note: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;

    #[test]
    fn the_store_alone_is_compared_and_the_rest_is_told() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::EmptyExit), 30_000.0);
        synthetic.guest(Case::of(Mode::Worker), 90_000.0);
        let store = Case {
            span: Span::Store,
            ..Case::of(Mode::Worker)
        };
        synthetic.guest(store, 33_000.0);
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.1)]);
        assert_eq!(goal.verdict(), Verdict::Met);
        let without = goal.parts[0].without_exits.as_ref();
        let left = without.and_then(|without| without.reading.value());
        assert_eq!(left, Some(3_000.0));
    }
}
