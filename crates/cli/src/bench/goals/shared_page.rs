//! One TLBI and SYNC through a shared page, as the guest sees it, against two bare queues between two
//! threads on the same CPUs.

use super::{Bound, Goal, Part, Sources, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Latency, Mode};
use vcmdq_measure::data::Latencies;
use vcmdq_measure::trips::{PROTOCOL, RTRB, SHARED_PAGE};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let part = |name: &str, bound, time: fn(&Latency) -> f64| {
        let of = |mode| {
            let row = sources.guest(&Case::of(mode));
            row.map(|row| time(&row.latency))
        };
        let ratio = || times(of(Mode::SharedPage)?, of(Mode::Rtrb)?);
        Part::new(name, bound, Unit::Times, ratio())
    };
    Goal {
        id: "goal-shared-page",
        what: "Shared page: one TLBI and SYNC as the guest sees it, against an rtrb ping-pong",
        parts: vec![
            part("median", Bound::AtMost(1.5), |latency| latency.passes_p50),
            part("p99", Bound::AtMost(3.0), |latency| latency.passes_p99),
        ],
        note: beside(sources),
    }
}

/// The same without a guest, and without an engine.
fn beside(sources: &Sources<'_>) -> String {
    let mut notes = Vec::new();
    let guest = |mode| Some(sources.guest(&Case::of(mode)).ok()?.latency.passes_p50);
    if let Some((page, bare)) = guest(Mode::SharedPage).zip(guest(Mode::Bare)) {
        notes.push(format!(
            "Against a bare ping-pong of the same guest, without engine or commands: median {}.",
            Unit::Times.show(page / bare)
        ));
    }
    let process = |name, what: fn(&Latencies) -> u64| {
        let trips = sources.row(|rows| &rows.round_trips).ok()?;
        let of = |name| Some(what(trips.find(name)?) as f64);
        Some(of(name)? / of(RTRB)?)
    };
    let median = process(SHARED_PAGE, |own| own.p50);
    let p99 = process(SHARED_PAGE, |own| own.median_p99);
    if let Some((median, p99)) = median.zip(p99) {
        notes.push(format!(
            "Both sides inside one process: median {}, p99 {}.",
            Unit::Times.show(median),
            Unit::Times.show(p99)
        ));
    }
    if let Some(least) = process(PROTOCOL, |own| own.p50) {
        notes.push(format!(
            "Its stores and loads alone, without an engine: median {}.",
            Unit::Times.show(least)
        ));
    }
    notes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Synthetic, latencies, trips};
    use super::*;

    #[test]
    fn the_guests_view_is_compared_with_rtrb_and_the_rest_is_told() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.round_trips = trips(vec![
                latencies("another", 1, 1, 1),
                latencies(RTRB, 100, 200, 300),
                latencies(SHARED_PAGE, 110, 210, 310),
                latencies(PROTOCOL, 105, 0, 0),
            ]);
        });
        let page = synthetic.guest(Case::of(Mode::SharedPage), 150.0);
        page.latency.passes_p99 = 800.0;
        synthetic.guest(Case::of(Mode::Bare), 120.0);
        let rtrb = synthetic.guest(Case::of(Mode::Rtrb), 100.0);
        rtrb.latency.passes_p99 = 200.0;
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.5), Some(4.0)]);
        assert_eq!(goal.parts[0].verdict(), Verdict::Met);
        assert_eq!(goal.verdict(), Verdict::Missed);
        for told in [
            "median 1.1×",
            "p99 1.05×",
            "median 1.25×",
            "alone, without an engine: median 1.05×",
        ] {
            assert!(goal.note.contains(told), "no '{told}' in {}", goal.note);
        }
    }

    #[test]
    fn without_a_guest_nothing_is_judged() {
        let goal = goal(&Synthetic::default().sources());
        assert_eq!(goal.verdict(), Verdict::NotMeasured);
        assert_eq!(goal.note, "");
    }
}
