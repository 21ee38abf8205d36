//! Coalesced MMIO: a round trip against an exit that the kernel handles alone.

use super::{Bound, Goal, Part, Sources, beyond, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Mode};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let both = || {
        let trip = sources.guest(&Case::of(Mode::Coalesced))?;
        let exit = sources.guest(&Case::of(Mode::KernelExit))?;
        Ok((trip.latency.passes_p50, exit.latency.passes_p50))
    };
    let ratio = both().and_then(|(trip, exit)| times(trip, exit));
    let mut part = Part::new(
        "median, against a bare exit within the kernel",
        Bound::AtMost(1.3),
        Unit::Times,
        ratio,
    );
    part.without_exits = Some(beyond(both(), "the bare exit"));
    Goal {
        id: "goal-coalesced",
        what: "Coalesced MMIO: one TLBI and SYNC, against a bare in-kernel exit",
        parts: vec![part],
        note: "The bare exit is a write to an ioeventfd that nobody waits for.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;

    #[test]
    fn the_round_trip_is_compared_with_the_kernels_exit() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::EmptyExit), 1.0);
        synthetic.guest(Case::of(Mode::KernelExit), 2_000.0);
        synthetic.guest(Case::of(Mode::Coalesced), 3_000.0);
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.5)]);
        assert_eq!(goal.verdict(), Verdict::Missed);
    }
}
