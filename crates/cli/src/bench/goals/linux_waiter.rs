//! How early a waiter that waits as Linux does sees its SYNC.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Mode, Seen, Waiter};

/// This share of SYNCs.
const SHARE: Bound = Bound::AtLeast(0.99);

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let part = |name: &str, mode, early: fn(&Seen) -> u64| {
        let share = || {
            let row = sources.guest(&Case {
                waiter: Waiter::Linux,
                ..Case::of(mode)
            })?;
            let share = Seen::typically(&row.seen_by_pass, early);
            let share = share.ok_or("nobody counted the looks")?;
            let all = row.seen.unwrap_or_default();
            let (early, syncs) = (early(&all), all.syncs);
            Ok((share, format!("median pass; {early} of {syncs} in all")))
        };
        Part::new(name, SHARE, Unit::Share, share())
    };
    Goal {
        id: "goal-linux-waiter",
        what: "Linux's waiter: one TLBI and SYNC seen complete early",
        parts: vec![
            part(
                "shared page, within the ten looks",
                Mode::SharedPage,
                |seen| seen.within_ten,
            ),
            part(
                "coalesced, within the first delay",
                Mode::Coalesced,
                |seen| seen.within_first_delay,
            ),
        ],
        note: "It looks ten times, delays 1 µs, looks ten times, delays 2 µs, and so on."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::Synthetic;
    use super::*;

    #[test]
    fn each_mode_is_judged_by_its_own_count() {
        let mut synthetic = Synthetic::default();
        for mode in [Mode::SharedPage, Mode::Coalesced] {
            let linux = Case {
                waiter: Waiter::Linux,
                ..Case::of(mode)
            };
            let pass = |within_ten| Seen {
                syncs: 200,
                within_ten,
                within_first_delay: 198,
            };
            // One pass out of five that was disturbed does not decide.
            let passes = [20, 196, 196, 196, 200];
            synthetic.guest(linux, 1.0).seen_by_pass = passes.map(pass).to_vec();
        }
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(0.98), Some(0.99)]);
        assert_eq!(goal.parts[0].verdict(), Verdict::Missed);
        assert_eq!(goal.parts[1].verdict(), Verdict::Met);
    }

    #[test]
    fn no_looks_are_no_share() {
        let mut synthetic = Synthetic::default();
        let linux = Case {
            waiter: Waiter::Linux,
            ..Case::of(Mode::SharedPage)
        };
        synthetic.guest(linux, 1.0).seen_by_pass = vec![Seen::default()];
        assert_eq!(goal(&synthetic.sources()).verdict(), Verdict::NotMeasured);
    }
}
