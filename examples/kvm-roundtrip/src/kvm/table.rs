//! The report, for a person or a program.

use super::guest::Waiter;
use super::report::{Mode, Report};

/// Prints the report as a table, or as JSON.
pub(crate) fn print(report: &Report, json: bool) {
    if json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("kvm-roundtrip: {error}"),
        }
        return;
    }
    let empty_exit = report.rows.first().map_or(f64::NAN, |row| row.median_us);
    println!(
        "One TLBI_NH_VA and CMD_SYNC, from the commands' first store to the SYNC seen,\n\
         {} rounds each, guest in ring 3, TSC {:.0} MHz\n",
        report.rounds, report.ticks_per_us
    );
    println!(
        "{:<40} {:<7} {:>10} {:>10} {:>12} {:>11} {:>14}",
        "mode", "waiter", "median us", "p99 us", "of an exit", "exits/round", "in ten looks"
    );
    for row in &report.rows {
        let waiter = match row.waiter {
            Waiter::Nobody => "-",
            Waiter::Spin => "spin",
            Waiter::Linux => "Linux",
        };
        let seen = if row.mode == Mode::EmptyExit {
            "-".to_owned()
        } else {
            let percent = 100.0 * row.within_ten_looks as f64 / report.rounds as f64;
            format!("{} ({percent:.0} %)", row.within_ten_looks)
        };
        println!(
            "{:<40} {:<7} {:>10.3} {:>10.3} {:>12.4} {:>11.2} {:>14}",
            describe(row.mode),
            waiter,
            row.median_us,
            row.p99_us,
            row.median_us / empty_exit,
            row.exits_per_round,
            seen
        );
    }
    if let Some(warning) = warning(report) {
        println!("{warning}");
    }
}

/// What spoils a measurement, if the rows show it.
fn warning(report: &Report) -> Option<&'static str> {
    let preempted = report.rows.iter().any(|row| row.p99_us > 1000.0);
    preempted.then_some(
        "\nA p99 of milliseconds: guest and worker did not have a core each. Try again on a machine \
         with two idle ones.",
    )
}

fn describe(mode: Mode) -> &'static str {
    match mode {
        Mode::EmptyExit => "empty exit (a write, and back)",
        Mode::Bare => "shared page, answered without an engine",
        Mode::TrapInExit => "trap, consumed in the exit, locked",
        Mode::TrapWorker => "trap, published, worker consumes",
        Mode::SharedPage => "shared page, worker consumes",
    }
}
