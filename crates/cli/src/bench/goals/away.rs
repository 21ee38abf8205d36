//! Trap mode: how long the vCPU is away from the guest when it writes PROD.

use super::{Bound, Goal, Part, Sources, beyond, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Mode, Span};

/// The row in which both take turns.
const STORE: Case = Case {
    span: Span::Store,
    ..Case::of(Mode::Worker)
};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let both = || {
        let store = sources.guest(&STORE)?;
        let exit = store.exit_beside.as_ref();
        let exit = exit.ok_or("no empty exits took turns with it")?;
        Ok((store.latency.passes_p50, exit.passes_p50))
    };
    let ratio = both().and_then(|(store, exit)| times(store, exit));
    let mut part = Part::new(
        "median time of the store, against empty exits in turns",
        Bound::AtMost(1.15),
        Unit::Times,
        ratio,
    );
    part.without_exits = Some(beyond(both(), "the empty exit"));
    Goal {
        id: "goal-away",
        what: "Trap mode: time the vCPU is away from the guest, against an empty exit",
        parts: vec![part],
        note: note(sources).unwrap_or_default(),
    }
}

/// The same against the row of empty exits, which was measured some seconds apart: what an exit costs
/// may have changed meanwhile.
fn note(sources: &Sources<'_>) -> Option<String> {
    let store = sources.guest(&STORE).ok()?.latency.passes_p50;
    let exit = sources.guest(&Case::of(Mode::EmptyExit)).ok()?;
    Some(format!(
        "Both take turns of a few rounds. Against the empty exits of a guest that does nothing else, \
         seconds apart, it is {:.2}x.",
        store / exit.latency.passes_p50
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;
    use kvm_roundtrip::Latency;

    #[test]
    fn the_store_is_compared_with_the_exits_beside_it() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::EmptyExit), 22_000.0);
        synthetic.guest(Case::of(Mode::Worker), 90_000.0);
        synthetic.guest(STORE, 33_000.0).exit_beside = Some(Latency {
            passes_p50: 30_000.0,
            ..Latency::default()
        });
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.1)]);
        assert_eq!(goal.verdict(), Verdict::Met);
        let without = goal.parts[0].without_exits.as_ref();
        let left = without.and_then(|without| without.reading.value());
        assert_eq!(left, Some(3_000.0));
        assert!(goal.note.contains("1.50x"), "{}", goal.note);
    }
}
