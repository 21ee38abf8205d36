//! One TLBI and SYNC through a shared page, as the guest sees it, against two bare queues between two
//! threads.

use super::{Bound, Goal, Part, Sources, times};
use crate::bench::plot::Unit;
use kvm_roundtrip::{Case, Latency, Mode};
use vcmdq_measure::data::Latencies;
use vcmdq_measure::trips::{RTRB, SHARED_PAGE};

pub(super) fn goal(sources: &Sources<'_>) -> Goal {
    let part = |name: &str, bound, guest: fn(&Latency) -> f64, own: fn(&Latencies) -> u64| {
        let ratio = || {
            let rtrb = in_process(sources, RTRB, own)?;
            let page = guest(&sources.guest(&Case::of(Mode::SharedPage))?.latency);
            times(page, rtrb)
        };
        Part::new(name, bound, Unit::Times, ratio())
    };
    Goal {
        id: "goal-shared-page",
        what: "Shared page: one TLBI and SYNC as the guest sees it, against an rtrb ping-pong",
        parts: vec![
            part(
                "median",
                Bound::AtMost(1.5),
                |guest| guest.passes_p50,
                |own| own.p50,
            ),
            part(
                "p99",
                Bound::AtMost(3.0),
                |guest| guest.passes_p99,
                |own| own.median_p99,
            ),
        ],
        note: beside(sources).unwrap_or_default(),
    }
}

fn in_process(
    sources: &Sources<'_>,
    name: &str,
    what: fn(&Latencies) -> u64,
) -> Result<f64, String> {
    let trips = sources.row(|rows| &rows.round_trips)?;
    let found = trips.find(name).map(what);
    let found = found.ok_or_else(|| format!("there is no row '{name}'"))?;
    Ok(found as f64)
}

/// The same without a guest, and without an engine.
fn beside(sources: &Sources<'_>) -> Option<String> {
    let ratio = |what| {
        let page = in_process(sources, SHARED_PAGE, what).ok()?;
        Some(page / in_process(sources, RTRB, what).ok()?)
    };
    let (median, p99) = (ratio(|own| own.p50)?, ratio(|own| own.median_p99)?);
    let mut note = format!(
        "Both sides inside one process: median {}, p99 {}.",
        Unit::Times.show(median),
        Unit::Times.show(p99)
    );
    let guest = |mode| Some(sources.guest(&Case::of(mode)).ok()?.latency.passes_p50);
    if let Some((page, bare)) = guest(Mode::SharedPage).zip(guest(Mode::Bare)) {
        note += &format!(
            " Against a bare ping-pong of the same guest, without engine or commands: median {}.",
            Unit::Times.show(page / bare)
        );
    }
    Some(note)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Synthetic, latencies, trips};
    use super::*;

    #[test]
    fn the_guests_view_is_compared_with_rtrb_and_nobody_else() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.round_trips = trips(vec![
                latencies("another", 1, 1, 1),
                latencies(RTRB, 100, 200, 300),
                latencies(SHARED_PAGE, 110, 210, 310),
            ]);
        });
        let page = synthetic.guest(Case::of(Mode::SharedPage), 150.0);
        page.latency.passes_p99 = 800.0;
        synthetic.guest(Case::of(Mode::Bare), 1.0);
        let goal = goal(&synthetic.sources());
        assert_eq!(goal.values(), [Some(1.5), Some(4.0)]);
        assert_eq!(goal.parts[0].verdict(), Verdict::Met);
        assert_eq!(goal.verdict(), Verdict::Missed);
        assert!(goal.note.contains("median 1.1×"), "{}", goal.note);
    }

    #[test]
    fn without_a_guest_or_a_second_cpu_nothing_is_judged() {
        let mut synthetic = Synthetic::default();
        synthetic.guest(Case::of(Mode::SharedPage), 150.0);
        assert_eq!(goal(&synthetic.sources()).verdict(), Verdict::NotMeasured);
    }
}
