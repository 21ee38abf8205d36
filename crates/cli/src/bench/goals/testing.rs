//! Rows that nobody has measured.

use super::{Goal, Sources};
use kvm_roundtrip::{Case, Latency, Report, Row};
use vcmdq_measure::data::{Cost, Latencies, Section};
use vcmdq_measure::trips::RoundTrips;
use vcmdq_measure::{InProcess, Options};

/// What a test wants to have been measured; at first nothing.
#[derive(Debug)]
pub(in crate::bench) struct Synthetic {
    rows: Section<InProcess>,
    kvm: Section<Report>,
}

impl Default for Synthetic {
    fn default() -> Self {
        let options = Options {
            quick: true,
            only: Some(Vec::new()),
        };
        Self {
            rows: Section::Measured(vcmdq_measure::measure(&options, &())),
            kvm: Section::Measured(Report {
                quick: false,
                cpus: 2,
                ticks_per_us: 1000.0,
                passes: 1,
                empty_exit_ns: 0.0,
                placement: Vec::new(),
                rows: Vec::new(),
            }),
        }
    }
}

impl Synthetic {
    pub(in crate::bench) fn sources(&self) -> Sources<'_> {
        Sources {
            rows: &self.rows,
            kvm: &self.kvm,
        }
    }

    /// Changes the rows inside one process.
    pub(in crate::bench) fn rows(&mut self, change: impl FnOnce(&mut InProcess)) {
        if let Section::Measured(rows) = &mut self.rows {
            change(rows);
        }
    }

    /// Adds a row of the guest whose rounds all took so long.
    pub(in crate::bench) fn guest(&mut self, case: Case, ns: f64) -> &mut Row {
        let Section::Measured(report) = &mut self.kvm else {
            panic!("it was measured from the beginning");
        };
        report.rows.push(Row {
            case,
            rounds: 1,
            latency: Latency {
                passes_p50: ns,
                passes_p99: ns,
                passes_mean: ns,
                ..Latency::default()
            },
            exit_beside: None,
            exits_per_round: 0.0,
            seen: None,
            seen_by_pass: Vec::new(),
            host: None,
        });
        report.rows.last_mut().expect("one was added")
    }
}

impl Goal {
    /// The figures of its parts.
    pub(in crate::bench) fn values(&self) -> Vec<Option<f64>> {
        self.parts.iter().map(|part| part.reading.value()).collect()
    }
}

/// Times with this median and these percentiles.
pub(in crate::bench) fn latencies(name: &str, p50: u64, p99: u64, p999: u64) -> Latencies {
    Latencies {
        name: name.to_owned(),
        count: 1000,
        p50,
        p99,
        p999,
        max: p999,
        mean: p50 as f64,
        rounds_p50: vec![p50],
        median_p99: p99,
        median_p999: p999,
        cdf: Vec::new(),
    }
}

/// Round trips of these contenders.
pub(in crate::bench) fn trips(contenders: Vec<Latencies>) -> Section<RoundTrips> {
    Section::Measured(RoundTrips {
        placement: Vec::new(),
        clock_cost_ns: 0,
        contenders,
        record_read: Cost::of("", Vec::new()),
    })
}
