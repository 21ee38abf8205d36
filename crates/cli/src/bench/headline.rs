//! What was found, in a sentence: of what was measured, the most telling.

use super::goals::{Sources, best_and_exit};
use super::plot::Unit;
use kvm_roundtrip::{Case, Mode};
use vcmdq_measure::trips::{RTRB, SHARED_PAGE};

/// The sentence, and one that says what else there is.
pub(crate) fn headline(sources: &Sources<'_>) -> (String, String) {
    let guest = guest(sources);
    let process = process(sources);
    match (guest, process) {
        (Some(first), second) => (first, second.unwrap_or_default()),
        (None, Some(first)) => (first, String::new()),
        (None, None) => (
            "Nothing was measured that could be told in a sentence.".to_owned(),
            String::new(),
        ),
    }
}

/// One page, as a guest sees it.
fn guest(sources: &Sources<'_>) -> Option<String> {
    let median = |mode| Some(sources.guest(&Case::of(mode)).ok()?.latency.passes_p50);
    let (page, exit) = (median(Mode::SharedPage)?, median(Mode::InExit)?);
    let mut words = format!(
        "A guest that invalidates a page waits {} through the shared page, and {} where the exit consumes",
        show(page),
        show(exit)
    );
    if let Some((own, exit)) = best_and_exit(sources) {
        words += &format!(
            "; 256K from two CPUs, on a backend that costs time, take {} ({}) instead of {}",
            show(own.latency.passes_mean),
            own.case.mode.name(),
            show(exit.latency.passes_mean)
        );
    }
    Some(words + ".")
}

/// A round trip inside one process.
fn process(sources: &Sources<'_>) -> Option<String> {
    let trips = sources.row(|rows| &rows.round_trips).ok()?;
    let median = |name| Some(trips.find(name)?.p50 as f64);
    Some(format!(
        "Inside one process a TLBI and its SYNC through the shared page take {}; two bare queues take {} for a \
         round trip.",
        show(median(SHARED_PAGE)?),
        show(median(RTRB)?)
    ))
}

fn show(ns: f64) -> String {
    Unit::Nanoseconds.show(ns)
}

#[cfg(test)]
mod tests {
    use super::super::goals::testing::{Synthetic, latencies, trips};
    use super::*;
    use kvm_roundtrip::Cost;

    #[test]
    fn the_guest_comes_first_and_the_best_mode_is_named() {
        let mut synthetic = Synthetic::default();
        synthetic.rows(|rows| {
            rows.round_trips = trips(vec![
                latencies(RTRB, 100, 0, 0),
                latencies(SHARED_PAGE, 110, 0, 0),
            ]);
        });
        synthetic.guest(Case::of(Mode::SharedPage), 150.0);
        synthetic.guest(Case::of(Mode::InExit), 30_000.0);
        for (mode, ns) in [
            (Mode::InExit, 900_000.0),
            (Mode::SharedPage, 80_000.0),
            (Mode::Inline, 40_000.0),
        ] {
            let large = Case {
                vcpus: 2,
                pages: 64,
                backend: Cost::Injected,
                ..Case::of(mode)
            };
            synthetic.guest(large, ns);
        }
        let (first, second) = headline(&synthetic.sources());
        for told in ["150 ns", "30 µs", "40 µs (trap, inline) instead of 900 µs"] {
            assert!(first.contains(told), "no '{told}' in {first}");
        }
        assert!(
            second.contains("110 ns") && second.contains("100 ns"),
            "{second}"
        );
    }

    #[test]
    fn nothing_measured_is_said() {
        let (first, second) = headline(&Synthetic::default().sources());
        assert!(first.starts_with("Nothing was measured"), "{first}");
        assert_eq!(second, "");
    }
}
