//! A report for a person.

use super::{Comparison, Report};
use crate::drain::Drains;
use crate::drive::{Latency, Outcome};
use crate::error::ToolError;
use crate::output;
use std::io::{self, Write};
use vcmdq_wording::count;

pub(crate) fn print(report: &Report) -> Result<(), ToolError> {
    let mut out = output::stdout();
    write(&mut out, report)?;
    output::finish(out)
}

fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for stream in &report.streams {
        stream.print(out)?;
        writeln!(out)?;
    }
    for comparison in &report.workloads {
        compare(out, comparison)?;
    }
    if !report.workloads.is_empty() {
        writeln!(
            out,
            "Neither side pays an exit here. In a VMM, PROD's write is one, and what the baseline does \
             inside it,\neach latency above, is added to it, with every other vCPU waiting at the \
             lock; the engine's doorbell returns.\n"
        )?;
    }
    if let Some(drains) = &report.drains {
        write_drains(out, drains)?;
    }
    let producers = report.workloads.iter().map(|one| one.engine.vcpus.len());
    let crowded = |producers| crowded(producers, report.vcpus as usize, report.cpus);
    if let Some(note) = producers.max().and_then(crowded) {
        writeln!(out, "{note}")?;
    }
    let verdict = if report.ok {
        "every check held"
    } else {
        "CHECKS FAILED"
    };
    let checked = one_in(report.check_every);
    writeln!(out, "{verdict} ({checked} was checked)")
}

/// What is to be known of latencies where producers and a worker have fewer CPUs than they need. `asked` is what
/// --vcpus said, which a recording that is replayed as published does not follow.
fn crowded(producers: usize, asked: usize, cpus: usize) -> Option<String> {
    let threads = producers + 1;
    let fitting = cpus.saturating_sub(1).max(1);
    let advice = if producers == asked && fitting < producers {
        format!("; compare with --vcpus {fitting}")
    } else {
        String::new()
    };
    (threads > cpus).then(|| {
        format!(
            "{threads} threads (producers and a worker) shared {}: latencies of the engine hold \
             waiting for a CPU{advice}",
            count(cpus, "CPU")
        )
    })
}

/// Which submissions were checked.
fn one_in(every: u32) -> String {
    match every {
        1 => "every submission".to_owned(),
        _ => format!("one submission in {every}"),
    }
}

fn compare(out: &mut impl Write, comparison: &Comparison) -> io::Result<()> {
    let Comparison {
        workload,
        submissions,
        engine,
        baseline,
        ratios,
    } = comparison;
    let producers = engine.vcpus.len();
    writeln!(
        out,
        "{workload}: {} by {}",
        count(*submissions, "submission"),
        count(producers, "producer")
    )?;
    writeln!(
        out,
        "  {:<16}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>13}",
        "SYNC latency, µs", "p50", "p90", "p99", "p99.9", "max", "mean", "commands/s"
    )?;
    for outcome in [engine, baseline] {
        // One producer is all producers.
        let each = outcome.vcpus.iter().filter(|_| producers > 1);
        for (vcpu, latency) in each.enumerate() {
            latency_line(out, &format!("{} {vcpu}", outcome.consumer), latency)?;
            writeln!(out)?;
        }
        latency_line(out, outcome.consumer, &outcome.all)?;
        writeln!(out, "{:>13.0}", outcome.commands_per_second)?;
    }
    writeln!(
        out,
        "  engine against baseline: commands/s {}, p50 {}, p99 {}, calls {}",
        times(ratios.commands_per_second, "as many", "fewer"),
        times(ratios.p50, "shorter", "longer"),
        times(ratios.p99, "shorter", "longer"),
        times(ratios.calls, "fewer", "as many")
    )?;
    if engine.operations.len() > 1 {
        operations(out, engine, baseline)?;
    }
    for outcome in [engine, baseline] {
        figures(out, outcome)?;
        checks(out, outcome)?;
    }
    writeln!(out)
}

/// `ratio` as a factor above 1 with the word for its direction: `2.10x shorter`; `equal` where that factor
/// would be shown as 1.
fn times(ratio: f64, better: &str, worse: &str) -> String {
    let shown = |factor: f64, word: &str| match format!("{factor:.2}x") {
        one if one == "1.00x" => "equal".to_owned(),
        other => format!("{other} {word}"),
    };
    if ratio >= 1.0 {
        shown(ratio, better)
    } else if ratio > 0.0 {
        shown(1.0 / ratio, worse)
    } else {
        "-".to_owned()
    }
}

fn latency_line(out: &mut impl Write, name: &str, latency: &Latency) -> io::Result<()> {
    write!(out, "  {name:<16}")?;
    for ns in [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
    ] {
        write!(out, "{:>10.2}", ns as f64 / 1000.0)?;
    }
    write!(out, "{:>10.2}", latency.mean / 1000.0)
}

/// Whole operations of the guest, all their SYNCs together.
fn operations(out: &mut impl Write, engine: &Outcome, baseline: &Outcome) -> io::Result<()> {
    writeln!(
        out,
        "  {:<16}{:>10}{:>14}{:>14}{:>16}{:>16}",
        "operation, µs", "count", "engine p50", "engine p99", "baseline p50", "baseline p99"
    )?;
    for (own, other) in engine.operations.iter().zip(&baseline.operations) {
        let us = |ns: u64| ns as f64 / 1000.0;
        writeln!(
            out,
            "  {:<16}{:>10}{:>14.2}{:>14.2}{:>16.2}{:>16.2}",
            own.name,
            own.latency.count,
            us(own.latency.p50),
            us(own.latency.p99),
            us(other.latency.p50),
            us(other.latency.p99),
        )?;
    }
    Ok(())
}

fn figures(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let figures = &outcome.figures;
    writeln!(
        out,
        "  {}: {} in ({}), {} and {} out; {}, {} by an error",
        outcome.consumer,
        count(figures.commands, "command"),
        count(figures.syncs, "SYNC"),
        count(figures.requests, "request"),
        count(figures.calls, "call"),
        count(figures.doorbells, "doorbell"),
        count(figures.errors, "stop")
    )?;
    if figures.window_sizes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "    {} of {:.2} commands; {}, {}, {}",
        count(figures.windows, "window"),
        figures.commands as f64 / figures.windows.max(1) as f64,
        count(figures.wake_ups, "wake-up"),
        count(figures.sleeps, "sleep"),
        count(figures.spins, "spin")
    )?;
    write!(out, "    window sizes:")?;
    let sizes = figures
        .window_sizes
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0);
    for (bucket, count) in sizes {
        write!(out, " ≤{}: {count}", 1u64 << bucket)?;
    }
    writeln!(out)
}

fn checks(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let checks = &outcome.checks;
    writeln!(
        out,
        "    checked {}: {} had to go, {} stayed behind; {} had to stay, {} never did",
        count(checks.submissions, "submission"),
        count(checks.victims, "entry"),
        checks.stale,
        count(checks.neighbours, "neighbour"),
        checks.removed_too_much
    )?;
    if !checks.looked() {
        let wanted = count(checks.wanted, "entry");
        writeln!(
            out,
            "    FAILED: {wanted} that had to go should have been there before"
        )?;
    }
    for example in &checks.examples {
        writeln!(out, "    FAILED: {example}")?;
    }
    Ok(())
}

fn write_drains(out: &mut impl Write, drains: &Drains) -> io::Result<()> {
    writeln!(out, "full queue drained by one thread, ns per command")?;
    write!(out, "  {:<20}{:<10}", "consumer", "backend")?;
    for column in &drains.columns {
        write!(out, "{column:>10}")?;
    }
    writeln!(out)?;
    for row in &drains.rows {
        write!(out, "  {:<20}{:<10}", row.consumer, row.backend)?;
        for figure in &row.ns_per_command {
            match figure {
                Some(ns) => write!(out, "{ns:>10.1}")?,
                None => write!(out, "{:>10}", "-")?,
            }
        }
        writeln!(out)?;
    }
    let columns = 0..drains.columns.len();
    ratios(
        out,
        drains,
        "engine is faster than baseline",
        columns.clone(),
        |column| {
            Some(
                drains.get("baseline", "software", column)?
                    / drains.get("engine", "software", column)?,
            )
        },
    )?;
    ratios(
        out,
        drains,
        "baseline / OpenVMM, goal ≤ 1.3",
        columns,
        |column| {
            Some(
                drains.get("baseline", "none", column)?
                    / drains.get("OpenVMM (published)", "none", column)?,
            )
        },
    )?;
    writeln!(out)
}

fn ratios(
    out: &mut impl Write,
    drains: &Drains,
    name: &str,
    columns: std::ops::Range<usize>,
    ratio: impl Fn(usize) -> Option<f64>,
) -> io::Result<()> {
    debug_assert!(columns.end <= drains.columns.len());
    write!(out, "  {name:<30}")?;
    for column in columns {
        match ratio(column) {
            Some(ratio) => write!(out, "{ratio:>9.2}x")?,
            None => write!(out, "{:>10}", "-")?,
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::{crowded, one_in, times};

    #[test]
    fn a_ratio_is_told_in_the_direction_in_which_it_is_above_one() {
        assert_eq!(times(2.1, "shorter", "longer"), "2.10x shorter");
        assert_eq!(times(0.125, "shorter", "longer"), "8.00x longer");
        assert_eq!(times(0.0, "shorter", "longer"), "-");
    }

    #[test]
    fn a_ratio_of_one_has_no_direction() {
        for one in [1.0, 1.004, 0.996] {
            assert_eq!(times(one, "fewer", "as many"), "equal");
        }
        assert_eq!(times(1.01, "fewer", "as many"), "1.01x fewer");
        assert_eq!(times(0.99, "fewer", "as many"), "1.01x as many");
    }

    #[test]
    fn too_few_cpus_are_told_of_the_producers_that_there_were() {
        assert_eq!(crowded(3, 3, 4), None);
        let asked = crowded(4, 4, 2).expect("five threads");
        assert!(
            asked.starts_with("5 threads (producers and a worker) shared 2 CPUs:"),
            "{asked}"
        );
        assert!(asked.ends_with("; compare with --vcpus 1"), "{asked}");
        // As published: seven rings, whatever --vcpus says.
        let published = crowded(7, 1, 2).expect("eight threads");
        assert!(published.starts_with("8 threads") && !published.contains("--vcpus"));
        // Nothing smaller can be asked for.
        let alone = crowded(1, 1, 1).expect("two threads");
        assert!(alone.contains("shared 1 CPU:") && !alone.contains("--vcpus"));
    }

    #[test]
    fn how_many_submissions_were_checked() {
        assert_eq!(one_in(16), "one submission in 16");
        assert_eq!(one_in(1), "every submission");
    }
}
