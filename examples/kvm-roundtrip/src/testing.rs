//! Reports that nobody has measured.

use crate::data::{Case, Cost, Host, Mode, Report, Row, Seen, Span, Waiter};
use crate::latency::{Latency, Recorder};

/// What an empty exit takes.
const EXIT_NS: u64 = 30_000;

/// A row all of whose rounds took so long.
pub(crate) fn row(case: Case, ns: u64, exits_per_round: f64) -> Row {
    let looks = Seen {
        syncs: 1000,
        within_ten: 995,
        within_first_delay: 1000,
    };
    Row {
        case,
        rounds: 1000,
        latency: latency(ns),
        exit_beside: case.has_exit_beside().then(|| latency(EXIT_NS)),
        exits_per_round,
        seen: (case.waiter == Waiter::Linux).then_some(looks),
        seen_by_pass: vec![looks],
        host: (!case.mode.is_reference()).then_some(Host {
            rounds: 1000,
            calls: 1000,
            requests: 1000,
            flips: u64::from(case.mode == Mode::Adaptive),
            ..Host::default()
        }),
    }
}

/// A thousand times the same.
fn latency(ns: u64) -> Latency {
    let mut recorder = Recorder::default();
    (0..1000).for_each(|_| recorder.record(ns));
    recorder.end_pass();
    recorder.latency(1000.0)
}

/// A report of these rows.
pub(crate) fn report(rows: Vec<Row>) -> Report {
    Report {
        quick: false,
        cpus: 2,
        ticks_per_us: 1000.0,
        passes: 1,
        empty_exit_ns: EXIT_NS as f64,
        placement: Vec::new(),
        rows,
    }
}

/// Every mode's time for one TLBI and SYNC, and what the goals need beside that.
pub(crate) fn all_rows() -> Vec<Row> {
    let of = [
        30_000, 2_500, 120, 125, 31_000, 30_500, 30_900, 3_000, 150, 160,
    ];
    let exits = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
    let mut rows = Vec::new();
    for ((mode, ns), exits) in Mode::ALL.into_iter().zip(of).zip(exits) {
        let one = Case::of(mode);
        rows.push(row(one, ns, exits));
        if mode.is_reference() {
            continue;
        }
        let linux = Waiter::Linux;
        rows.push(row(
            Case {
                waiter: linux,
                ..one
            },
            ns,
            exits,
        ));
        let span = Span::Store;
        rows.push(row(Case { span, ..one }, ns, exits));
        let injected = Case {
            vcpus: 2,
            pages: 64,
            backend: Cost::Injected,
            ..one
        };
        let cost = if mode == Mode::InExit {
            950_000
        } else {
            10_000
        };
        rows.push(row(injected, ns + cost, exits));
    }
    rows
}
