//! What a run has found out, as data; for a person ([`text`]) and for a program ([`json`]).

pub(crate) mod json;
pub(crate) mod shape;
pub(crate) mod text;

use crate::drain::Drains;
use crate::drive::Outcome;
use serde::Serialize;
use shape::Shape;

/// Everything that a run has found out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) vcpus: u32,
    /// CPUs that this process may use. With fewer than producers and a worker need, latencies
    /// hold waiting for a CPU.
    pub(crate) cpus: usize,
    /// Every so manieth submission was checked.
    pub(crate) check_every: u32,
    /// What the replayed streams look like.
    pub(crate) streams: Vec<Shape>,
    pub(crate) workloads: Vec<Comparison>,
    /// Single-threaded drains of a full queue.
    pub(crate) drains: Option<Drains>,
    /// Whether every check held.
    pub(crate) ok: bool,
}

/// One workload by both consumers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) workload: String,
    pub(crate) submissions: u64,
    pub(crate) engine: Outcome,
    pub(crate) baseline: Outcome,
    pub(crate) ratios: Ratios,
}

/// Engine against baseline; above 1 the engine is better.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratios {
    pub(crate) commands_per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Calls to the backend saved.
    pub(crate) calls: f64,
}

impl Comparison {
    pub(crate) fn new(workload: String, engine: Outcome, baseline: Outcome) -> Self {
        let ratios = Ratios {
            commands_per_second: ratio(engine.commands_per_second, baseline.commands_per_second),
            p50: ratio(baseline.all.p50 as f64, engine.all.p50 as f64),
            p99: ratio(baseline.all.p99 as f64, engine.all.p99 as f64),
            calls: ratio(baseline.figures.calls as f64, engine.figures.calls as f64),
        };
        Self {
            workload,
            submissions: engine.all.count,
            engine,
            baseline,
            ratios,
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.engine.checks.holds() && self.baseline.checks.holds()
    }
}

fn ratio(over: f64, under: f64) -> f64 {
    if under > 0.0 { over / under } else { 0.0 }
}
