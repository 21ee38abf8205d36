//! Everything in one run.

use crate::blocked::Blocked;
use crate::cores::Pair;
use crate::data::{Placed, Section};
use crate::drains::Drains;
use crate::fairness::Fairness;
use crate::group_commit::GroupCommit;
use crate::idle::Idle;
use crate::options::{Options, Part, Progress};
use crate::throughput::Throughput;
use crate::tlb::TlbCosts;
use crate::trips::RoundTrips;
use crate::{blocked, drains, fairness, group_commit, idle, throughput, tlb, trips};
use serde::{Deserialize, Serialize};
use std::thread::available_parallelism;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InProcess {
    /// The figures mean nothing.
    pub quick: bool,
    /// CPUs that the process may use.
    pub cpus: usize,
    /// The two that were used, if there are two: of the thread that measures and the producers;
    /// and of the worker.
    pub cpu_pair: Option<(usize, usize)>,
    /// Row by row.
    pub round_trips: Section<RoundTrips>,
    /// Row by row.
    pub drains: Section<Drains>,
    /// Row by row.
    pub throughput: Section<Throughput>,
    /// Row by row.
    pub group_commit: Section<GroupCommit>,
    /// Row by row.
    pub fairness: Section<Fairness>,
    /// Row by row.
    pub blocked: Section<Blocked>,
    /// Row by row.
    pub idle: Section<Idle>,
    /// Row by row.
    pub tlb: Section<TlbCosts>,
}

/// Measures everything that `options` ask for. Takes a minute or two, with `quick` seconds.
///
/// Nothing else should run meanwhile. The caller's thread is pinned to a CPU until this returns.
#[must_use]
pub fn measure(options: &Options, progress: &dyn Progress) -> InProcess {
    // Before the caller is pinned: afterwards it may use one.
    let cpus = available_parallelism().map_or(1, usize::from);
    let pair = Pair::take();
    let on_two = |part| match &pair {
        _ if !options.wants(part) => Err("it was not asked for".to_owned()),
        Ok(pair) => Ok(pair),
        Err(reason) => Err(reason.clone()),
    };
    let alone = match &pair {
        Ok(pair) => vec![Placed::on("the thread that consumes", pair.numbers().0)],
        Err(_) => Vec::new(),
    };
    let on_one = |part| match options.wants(part) {
        true => Ok(alone.clone()),
        false => Err("it was not asked for".to_owned()),
    };
    InProcess {
        quick: options.quick,
        cpus,
        cpu_pair: pair.as_ref().ok().map(Pair::numbers),
        round_trips: on_two(Part::RoundTrips)
            .and_then(|pair| trips::measure(options, pair, progress))
            .into(),
        drains: on_one(Part::Drains)
            .and_then(|placement| drains::measure(options, placement, progress))
            .into(),
        throughput: on_two(Part::Throughput)
            .and_then(|pair| throughput::measure(options, pair, progress))
            .into(),
        group_commit: on_two(Part::GroupCommit)
            .and_then(|pair| group_commit::measure(options, pair, progress))
            .into(),
        fairness: on_two(Part::Fairness)
            .and_then(|pair| fairness::measure(options, pair, progress))
            .into(),
        blocked: on_two(Part::Blocked)
            .and_then(|pair| blocked::measure(options, pair, progress))
            .into(),
        idle: on_two(Part::Idle)
            .and_then(|pair| idle::measure(options, pair, progress))
            .into(),
        tlb: on_one(Part::Tlb)
            .and_then(|placement| tlb::measure(options, placement, progress))
            .into(),
    }
}
