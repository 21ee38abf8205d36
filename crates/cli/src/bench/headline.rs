//! What was found, in a sentence: of what was measured, the most telling.

use super::goals::Sources;
use super::plot::Unit;
use kvm_roundtrip::{Case, Cost, Mode};
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
    if let Some((page, exit)) = unmap(sources) {
        words += &format!(
            "; 256K from two CPUs, on a backend that costs time, take {} instead of {}",
            show(page),
            show(exit)
        );
    }
    Some(words + ".")
}

/// 64 pages of two guest CPUs at a price: means through the page and in the exit.
fn unmap(sources: &Sources<'_>) -> Option<(f64, f64)> {
    let mean = |mode| {
        let case = Case {
            vcpus: 2,
            pages: 64,
            backend: Cost::Injected,
            ..Case::of(mode)
        };
        Some(sources.guest(&case).ok()?.latency.passes_mean)
    };
    Some((mean(Mode::SharedPage)?, mean(Mode::InExit)?))
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
