//! The report as text, for a person.

use crate::data::{Case, Cost, Mode, Report, Row, Seen, Span, Waiter};
use crate::goals::{Bound, Goal, goals};
use std::fmt::{self, Write};
use vcmdq_wording::count;

mod heading;

/// The report as tables, and the goals.
///
/// # Errors
///
/// What the writer says.
pub fn write(out: &mut impl Write, report: &Report) -> fmt::Result {
    heading::write(out, report)?;
    let vcpus = distinct(report, |case| case.vcpus);
    references(out, report)?;
    let consumed = |vcpus: &u32| {
        let mut rows = report.rows.iter().filter(|row| row.case.vcpus == *vcpus);
        rows.any(|row| !row.case.mode.is_reference())
    };
    for vcpus in vcpus.into_iter().filter(consumed) {
        for backend in [Cost::Software, Cost::Injected] {
            unmaps(out, report, vcpus, backend)?;
        }
        one_sync(out, report, vcpus)?;
    }
    idle(out, report)?;
    flips(out, report)?;
    writeln!(out, "\nGoals")?;
    goals(report).iter().try_for_each(|goal| line(out, goal))
}

/// The values of a field, in order.
fn distinct(report: &Report, field: impl Fn(&Case) -> u32) -> Vec<u32> {
    let mut values: Vec<_> = report.rows.iter().map(|row| field(&row.case)).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn references(out: &mut impl Write, report: &Report) -> fmt::Result {
    writeln!(out, "\nReferences")?;
    let rows = report
        .rows
        .iter()
        .filter(|row| row.case.mode.is_reference());
    for row in rows.filter(|row| row.case.waiter != Waiter::Linux) {
        let what = format!(
            "{}, {}",
            row.case.mode.describe(),
            count(row.case.vcpus, "vCPU")
        );
        writeln!(out, "  {what:<60} {}", times(row))?;
    }
    Ok(())
}

fn modes() -> impl Iterator<Item = Mode> {
    Mode::ALL.into_iter().filter(|mode| !mode.is_reference())
}

/// Rows: modes. Columns: sizes.
fn unmaps(out: &mut impl Write, report: &Report, vcpus: u32, backend: Cost) -> fmt::Result {
    let case = |mode, pages, range| Case {
        vcpus,
        pages,
        range,
        backend,
        ..Case::of(mode)
    };
    let cost = match backend {
        Cost::Injected => "each call costs 5 µs and each request 2.4 µs more",
        _ => "software backend",
    };
    let sizes = distinct(report, |case| case.pages);
    for range in [false, true] {
        let columns: Vec<_> = sizes
            .iter()
            .copied()
            .filter(|pages| modes().any(|mode| report.row(&case(mode, *pages, range)).is_some()))
            .collect();
        let rows: Vec<_> = modes()
            .filter(|mode| {
                columns
                    .iter()
                    .any(|pages| report.row(&case(*mode, *pages, range)).is_some())
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let how = if range {
            "one range TLBI"
        } else {
            "one TLBI a page"
        };
        writeln!(
            out,
            "\nUnmap and SYNC, {}, {how}, {cost}",
            count(vcpus, "vCPU")
        )?;
        write!(out, "  {:<14}", "")?;
        for pages in &columns {
            write!(out, " {:>19}", format!("{} KiB", pages * 4))?;
        }
        writeln!(out)?;
        for mode in rows {
            write!(out, "  {:<14}", mode.name())?;
            for pages in &columns {
                let row = report.row(&case(mode, *pages, range));
                write!(out, " {:>19}", row.map_or("-".to_owned(), means))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// One TLBI and SYNC in detail.
fn one_sync(out: &mut impl Write, report: &Report, vcpus: u32) -> fmt::Result {
    writeln!(
        out,
        "\nOne TLBI and SYNC, {}, software backend; `away` is the store of PROD alone, in turns with empty exits",
        count(vcpus, "vCPU")
    )?;
    writeln!(
        out,
        "  {:<14} {:>19} {:>9} {:>7} {:>19} {:>12} {:>19} {:>9} {:>9}",
        "",
        "spin",
        "p99.9",
        "exits",
        "away",
        "empty exit",
        "Linux's waiter",
        "10 looks",
        "1st delay"
    )?;
    let modes = Mode::ALL
        .into_iter()
        .filter(|mode| *mode == Mode::Bare || !mode.is_reference());
    for mode in modes {
        let spin = Case {
            vcpus,
            ..Case::of(mode)
        };
        if let Some(row) = report.row(&spin) {
            details(out, report, row)?;
        }
    }
    Ok(())
}

/// A row that spins, with what else there is of its mode.
fn details(out: &mut impl Write, report: &Report, row: &Row) -> fmt::Result {
    let linux = report.row(&Case {
        waiter: Waiter::Linux,
        ..row.case
    });
    let store = report.row(&Case {
        span: Span::Store,
        ..row.case
    });
    let exit = store.and_then(|row| row.exit_beside.as_ref());
    let seen = linux.and_then(|row| row.seen);
    let seen = seen.filter(|seen| seen.syncs != 0);
    let none = || "-".to_owned();
    let share = |part: fn(&Seen) -> u64| {
        seen.map_or_else(none, |seen| {
            format!("{:.1} %", 100.0 * part(&seen) as f64 / seen.syncs as f64)
        })
    };
    writeln!(
        out,
        "  {:<14} {:>19} {:>9} {:>7.2} {:>19} {:>12} {:>19} {:>9} {:>9}",
        row.case.mode.name(),
        times(row),
        us(row.latency.p999),
        row.exits_per_round,
        store.map_or_else(none, times),
        exit.map_or_else(none, |exit| us(exit.passes_p50)),
        linux.map_or_else(none, times),
        share(|seen| seen.within_ten),
        share(|seen| seen.within_first_delay),
    )
}

/// The first SYNC of a guest that has paused.
fn idle(out: &mut impl Write, report: &Report) -> fmt::Result {
    let paused: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.case.pause_us != 0)
        .collect();
    if let Some(first) = paused.first() {
        let pause = f64::from(first.case.pause_us) / 1000.0;
        writeln!(
            out,
            "\nOne TLBI and SYNC after {pause} ms of nothing, 1 vCPU, software backend"
        )?;
    }
    for row in paused {
        let wake_ups = row
            .host
            .map_or(0.0, |host| host.wake_ups as f64 / host.rounds.max(1) as f64);
        writeln!(
            out,
            "  {:<14} {:>19}  {:.2} exits, {wake_ups:.2} wake-ups a round",
            row.case.mode.name(),
            times(row),
            row.exits_per_round
        )?;
    }
    Ok(())
}

/// What opening and closing has cost.
fn flips(out: &mut impl Write, report: &Report) -> fmt::Result {
    for mode in modes() {
        let mut sum = crate::data::Host::default();
        let hosts = report.rows.iter().filter(|row| row.case.mode == mode);
        hosts
            .filter_map(|row| row.host)
            .for_each(|host| sum.add(&host));
        if sum.flips != 0 {
            writeln!(
                out,
                "\n{}: {} flips, {:.0} µs each, the longest {:.0} µs, {} refused",
                mode.name(),
                sum.flips,
                sum.flip_us / sum.flips as f64,
                sum.longest_flip_us,
                sum.failed_flips
            )?;
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, goal: &Goal) -> fmt::Result {
    let bound = |bound| match bound {
        Some(Bound::AtMost(most)) => format!("at most {most}"),
        Some(Bound::AtLeast(least)) => format!("at least {least}"),
        None => String::new(),
    };
    let value = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let verdict = match goal.met() {
        Some(true) => "met",
        Some(false) => "MISSED",
        None if goal.bound.is_some() => "not measured",
        None => "",
    };
    write!(
        out,
        "  {:<82} {:>8}  {:<13} {verdict}",
        goal.name,
        value(goal.measured),
        bound(goal.bound)
    )?;
    if let Some(without) = &goal.without_exits {
        let of = bound(without.bound);
        write!(
            out,
            "\n    {:<80} {:>8}  {of}",
            without.what,
            value(without.measured)
        )?;
    }
    writeln!(out)
}

fn times(row: &Row) -> String {
    format!(
        "{} / {}",
        us(row.latency.passes_p50),
        us(row.latency.passes_p99)
    )
}

fn means(row: &Row) -> String {
    format!(
        "{} / {}",
        us(row.latency.passes_p50),
        us(row.latency.passes_mean)
    )
}

/// Three digits.
fn us(ns: f64) -> String {
    let us = ns / 1000.0;
    let digits = match us {
        us if us < 10.0 => 2,
        us if us < 100.0 => 1,
        _ => 0,
    };
    format!("{us:.digits$}")
}

#[cfg(test)]
mod tests;
