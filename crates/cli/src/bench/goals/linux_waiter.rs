//! How early a waiter that waits as Linux does sees its SYNC.

use super::{Bound, Goal, Part, Sources};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Mode, Seen, Waiter};

/// This share of SYNCs.
const SHARE: Bound = Bound::AtLeast(0.99);

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let part =
        |name: &str, mode, early| Part::new(name, SHARE, Unit::Share, seen(sources, mode, early));
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
        note: beside(sources),
    }
}

/// The share of the median pass, which is judged, and the count of all passes: a pass in which the
/// host has moved the two threads far from each other does not speak for the others.
fn seen(
    sources: &Sources<'_>,
    mode: Mode,
    early: fn(&Seen) -> u64,
) -> Result<(f64, String), String> {
    let row = sources.guest(&Case {
        waiter: Waiter::Linux,
        ..Case::of(mode)
    })?;
    let share = Seen::typically(&row.seen_by_pass, early).ok_or("nobody counted the looks")?;
    let all = row.seen.unwrap_or_default();
    let (early, syncs) = (early(&all), all.syncs);
    Ok((share, format!("median pass; {early} of {syncs} in all")))
}

/// How the waiter waits, and what it sees of a ping-pong that no engine takes part in.
fn beside(sources: &Sources<'_>) -> String {
    let mut note =
        "It looks ten times, delays 1 µs, looks ten times, delays 2 µs, and so on.".to_owned();
    if let Ok((share, all)) = seen(sources, Mode::Bare, |seen| seen.within_ten) {
        note += &format!(
            " Of a bare ping-pong, without engine or commands, it sees {} within ten looks ({all}).",
            Unit::Share.show(share)
        );
    }
    note
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
        let bare = Case {
            waiter: Waiter::Linux,
            ..Case::of(Mode::Bare)
        };
        let row = synthetic.guest(bare, 1.0);
        let all = Seen {
            syncs: 1000,
            within_ten: 950,
            within_first_delay: 1000,
        };
        (row.seen_by_pass, row.seen) = (vec![all], Some(all));
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(0.98), Some(0.99)]);
        assert_eq!(goal.parts[0].verdict(), Verdict::Missed);
        assert_eq!(goal.parts[1].verdict(), Verdict::Met);
        assert!(goal.note.contains("950 of 1000 in all"), "{}", goal.note);
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
