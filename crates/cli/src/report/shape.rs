//! What a recorded stream looks like, for a person and for a program.

use serde::Serialize;
use smmu_core::spec::command::RawCommand;
use std::io::{self, Write};
use vcmdq_trace::summary::Counts;
use vcmdq_trace::{Recording, Summary, TraceError};
use vcmdq_wording::count;

/// Figures of a stream. Of a raw dump there are only counts of commands.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Shape {
    pub(crate) file: String,
    machine: String,
    kernel: String,
    comment: String,
    rings: Vec<RingShape>,
    commands_per_sync: Option<f64>,
    commands_per_publication: Option<f64>,
    seconds: Option<f64>,
    tlbis_per_second: Option<f64>,
    /// From publication to completion.
    sync_us: Option<Waits>,
    /// SYNCs outstanding at the same time, on average while any was.
    mean_outstanding: Option<f64>,
    /// Shares of the time with no SYNC outstanding, with one, with two, …
    outstanding: Vec<f64>,
    /// Shares of the time with no ring that has a SYNC outstanding, with one, with two, …
    rings_waiting: Vec<f64>,
    /// What is wrong with the file, or missing.
    pub(crate) missing: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct RingShape {
    ring: String,
    commands: u64,
    syncs: u64,
    tlbis: u64,
    /// Among them: in the form for ranges.
    ranges: u64,
    atc_invs: u64,
    cfgis: u64,
    publications: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Waits {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl RingShape {
    fn of(ring: String, counts: &Counts) -> Self {
        Self {
            ring,
            commands: counts.commands,
            syncs: counts.syncs,
            tlbis: counts.tlbis,
            ranges: counts.ranges,
            atc_invs: counts.atc_invs,
            cfgis: counts.cfgis,
            publications: counts.publications,
        }
    }
}

impl Shape {
    pub(crate) fn of_raw(file: &str, commands: &[RawCommand]) -> Self {
        let counts = Counts::of(commands.iter().copied());
        Self {
            file: file.to_owned(),
            commands_per_sync: counts.per_sync(),
            rings: vec![RingShape::of("raw".to_owned(), &counts)],
            ..Self::default()
        }
    }

    pub(crate) fn of_recording(file: &str, recording: &Recording) -> Self {
        let summary = Summary::of(recording);
        let header = &recording.header;
        let rings = header.rings.iter().zip(&summary.rings);
        Self {
            file: file.to_owned(),
            machine: header.machine.clone(),
            kernel: header.kernel.clone(),
            comment: header.comment.clone(),
            rings: rings
                .map(|(kind, counts)| RingShape::of(kind.to_string(), counts))
                .collect(),
            commands_per_sync: summary.all.per_sync(),
            commands_per_publication: summary.all.per_publication(),
            seconds: Some(summary.span as f64 / 1e9),
            tlbis_per_second: summary.tlbis_per_second(),
            sync_us: waits(&summary),
            mean_outstanding: summary.mean_outstanding(),
            outstanding: shares(&summary.outstanding),
            rings_waiting: shares(&summary.rings_waiting),
            missing: missing(recording),
        }
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.file)?;
        let texts = [
            ("machine", &self.machine),
            ("kernel", &self.kernel),
            ("comment", &self.comment),
        ];
        for (what, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            writeln!(out, "  {what}: {text}")?;
        }
        writeln!(
            out,
            "  {:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>14}",
            "ring", "commands", "SYNC", "TLBI", "(ranges)", "ATC_INV", "CFGI", "publications"
        )?;
        for ring in &self.rings {
            writeln!(
                out,
                "  {:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>14}",
                ring.ring,
                ring.commands,
                ring.syncs,
                ring.tlbis,
                ring.ranges,
                ring.atc_invs,
                ring.cfgis,
                ring.publications
            )?;
        }
        self.print_figures(out)?;
        for what in &self.missing {
            writeln!(out, "  MISSING: {what}")?;
        }
        Ok(())
    }

    fn print_figures(&self, out: &mut impl Write) -> io::Result<()> {
        let figures = [
            (self.commands_per_sync, "commands per SYNC"),
            (self.commands_per_publication, "commands per publication"),
            (self.seconds, "s"),
            (self.tlbis_per_second, "TLBI/s"),
            (self.mean_outstanding, "SYNCs outstanding while any was"),
        ];
        let known = figures
            .iter()
            .filter_map(|(figure, what)| Some(format!("{:.2} {what}", (*figure)?)));
        let known: Vec<_> = known.collect();
        // A raw dump without a SYNC has none.
        if !known.is_empty() {
            writeln!(out, "  {}", known.join(", "))?;
        }
        if let Some(waits) = &self.sync_us {
            writeln!(
                out,
                "  SYNC from PROD to done, µs: p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1} ({})",
                waits.p50,
                waits.p90,
                waits.p99,
                waits.max,
                count(waits.count, "SYNC")
            )?;
        }
        let tables = [
            ("SYNCs outstanding at the same time", &self.outstanding),
            ("rings that wait at the same time", &self.rings_waiting),
        ];
        for (what, shares) in tables.iter().filter(|(_, shares)| !shares.is_empty()) {
            let shares = shares.iter().enumerate();
            let shares = shares.map(|(number, share)| format!("{number}: {:.1} %", share * 100.0));
            writeln!(out, "  {what}: {}", shares.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

fn waits(summary: &Summary) -> Option<Waits> {
    let us = |quantile| Some(summary.wait(quantile)? as f64 / 1e3);
    Some(Waits {
        count: summary.waits.len() as u64,
        p50: us(0.5)?,
        p90: us(0.9)?,
        p99: us(0.99)?,
        max: us(1.0)?,
    })
}

fn shares(times: &[u64]) -> Vec<f64> {
    let all: u64 = times.iter().sum();
    times.iter().map(|time| *time as f64 / all as f64).collect()
}

fn missing(recording: &Recording) -> Vec<String> {
    let mut missing: Vec<_> = recording.errors.iter().map(TraceError::to_string).collect();
    let kept = missing.len() as u64;
    if recording.damaged > kept {
        let more = count(recording.damaged - kept, "more damaged record");
        missing.push(more);
    }
    for (kind, ring) in recording.header.rings.iter().zip(&recording.rings) {
        let (events, commands) = ring.dropped;
        if events > 0 {
            missing.push(format!(
                "{kind}: the recorder dropped {}, with {}",
                count(events, "event"),
                count(commands, "command")
            ));
        }
    }
    match &recording.totals {
        None => missing.push(end_missing(recording).to_owned()),
        Some(totals) if totals.left_out > 0 => missing.push(format!(
            "{} at the end, which the file's limit had no room for",
            count(totals.left_out, "record")
        )),
        Some(_) => {}
    }
    if recording.unknown > 0 {
        missing.push(format!(
            "{} of kinds that a newer vcmdq writes",
            count(recording.unknown, "record")
        ));
    }
    missing
}

/// Why there is no last record.
fn end_missing(recording: &Recording) -> &'static str {
    let is_cut = |error: &TraceError| matches!(error, TraceError::CutOff { .. });
    if recording.errors.is_empty() || recording.errors.iter().any(is_cut) {
        "the end of the recording: it was cut off"
    } else {
        "the end of the recording: it is damaged, or was cut off"
    }
}
