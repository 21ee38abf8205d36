//! The figure of one TLBI and SYNC with other waiters, after a pause, and of the store alone.

use super::content::{Content, ns};
use super::from_kvm::distinct;
use crate::bench::plot::{Axis, Dot, Dots, Hue, Ink, Panel, Plot, Row, Scale, Table, Unit};
use kvm_roundtrip::{Case, Mode, Report, Seen, Span, Waiter};

/// A kind of round: its name, its ink, and the case of a mode.
type Kind = (String, Ink, fn(Case, u32) -> Case);

/// Rows are modes, dots are kinds of rounds.
pub(super) fn content(report: &Report) -> Content {
    let pause_us = distinct(report, |case| case.pause_us).last().copied();
    let pause_us = pause_us.unwrap_or(0);
    let kinds = kinds(pause_us);
    let modes = || Mode::ALL.into_iter().filter(|mode| !mode.is_reference());
    let row = |mode: Mode| Row {
        name: mode.name().to_owned(),
        dots: dots(report, mode, &kinds, pause_us),
        goal: None,
    };
    Content {
        reading: idle_reading(report, pause_us),
        note: flips(report),
        terms: Vec::new(),
        panels: vec![Panel {
            heading: String::new(),
            plot: Plot::Dots(Dots {
                x: Axis::new(
                    "median of one TLBI and SYNC, logarithmic",
                    Scale::Log,
                    Unit::Nanoseconds,
                ),
                rows: modes().map(row).collect(),
            }),
        }],
        table: table(report, &kinds, pause_us),
    }
}

fn kinds(pause_us: u32) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = vec![
        ("spins".to_owned(), Hue::Blue.solid(), |case, _| case),
        (
            "waits as Linux does".to_owned(),
            Hue::Green.solid(),
            |case, _| Case {
                waiter: Waiter::Linux,
                ..case
            },
        ),
        (
            "only stores PROD".to_owned(),
            Hue::Grey.dashed(),
            |case, _| Case {
                span: Span::Store,
                ..case
            },
        ),
    ];
    if pause_us > 0 {
        let name = format!("spins, after {} ms of pause", f64::from(pause_us) / 1e3);
        kinds.push((name, Hue::Orange.solid(), |case, pause_us| Case {
            pause_us,
            ..case
        }));
    }
    kinds
}

fn dots(report: &Report, mode: Mode, kinds: &[Kind], pause_us: u32) -> Vec<Dot> {
    let dot = |(name, ink, case): &Kind| {
        let row = report.row(&case(Case::of(mode), pause_us))?;
        Some(Dot {
            name: name.clone(),
            ink: *ink,
            value: row.latency.passes_p50,
            written: true,
        })
    };
    kinds.iter().filter_map(dot).collect()
}

fn table(report: &Report, kinds: &[Kind], pause_us: u32) -> Table {
    let mut table = Table::new(&[
        "how the queue is consumed",
        "the guest",
        "median",
        "p99",
        "empty exits in turns with it",
        "within ten looks",
        "within the first delay",
        "exits per round",
    ]);
    for mode in Mode::ALL.into_iter().filter(|mode| !mode.is_reference()) {
        for (name, _, case) in kinds {
            let Some(row) = report.row(&case(Case::of(mode), pause_us)) else {
                continue;
            };
            let exit = row.exit_beside.as_ref();
            let share = |early: fn(&Seen) -> u64| {
                let seen = row.seen.filter(|seen| seen.syncs > 0);
                seen.map_or(String::new(), |seen| {
                    Unit::Share.show(early(&seen) as f64 / seen.syncs as f64)
                })
            };
            table.push(vec![
                mode.name().to_owned(),
                name.clone(),
                ns(row.latency.passes_p50),
                ns(row.latency.passes_p99),
                exit.map_or(String::new(), |exit| ns(exit.passes_p50)),
                share(|seen| seen.within_ten),
                share(|seen| seen.within_first_delay),
                format!("{:.2}", row.exits_per_round),
            ]);
        }
    }
    table
}

fn idle_reading(report: &Report, pause_us: u32) -> String {
    let median = |mode, pause_us| {
        let case = Case {
            pause_us,
            ..Case::of(mode)
        };
        Some(report.row(&case)?.latency.passes_p50)
    };
    let adaptive = (median(Mode::Adaptive, 0), median(Mode::Adaptive, pause_us));
    match adaptive {
        (Some(busy), Some(idle)) if pause_us > 0 => format!(
            "An adaptive page costs a busy guest {}; after a pause of {} ms the first doorbell traps and wakes \
             the worker: {}.",
            ns(busy),
            f64::from(pause_us) / 1e3,
            ns(idle)
        ),
        _ => "Medians of one vCPU.".to_owned(),
    }
}

/// What it costs to take the page away and give it back.
fn flips(report: &Report) -> String {
    let hosts = report
        .rows
        .iter()
        .filter(|row| row.case.mode == Mode::Adaptive);
    let hosts = hosts.filter_map(|row| row.host);
    let (flips, us, longest) = hosts.fold((0, 0.0, 0.0f64), |(flips, us, longest), host| {
        (
            flips + host.flips,
            us + host.flip_us,
            longest.max(host.longest_flip_us),
        )
    });
    if flips == 0 {
        return "The adaptive page was never flipped.".to_owned();
    }
    format!(
        "The adaptive page was flipped {flips} times in all its rows: {} each on average, {} the longest.",
        ns(us * 1e3 / flips as f64),
        ns(longest * 1e3)
    )
}
