//! Full rings consumed by one thread: what a command costs while nobody waits for it.

use crate::data::{Cost, Placed};
use crate::options::{Options, Part, Progress};
use serde::{Deserialize, Serialize};
use vcmdq_benches::backends::InjectedCost;
use vcmdq_benches::drains::{Who, contenders, laps};
use vcmdq_benches::rig::LOG2SIZE;
use vcmdq_benches::rounds::times;
use vcmdq_benches::streams::{Stream, published, with_goals};

/// The engine, through to the software backend.
pub const ENGINE: &str = Who::Engine.name();
/// The engine with a backend that does nothing.
pub const ENGINE_BARE: &str = Who::EngineBare.name();
/// One dispatch per command, without a lock, software backend.
pub const ONE_BY_ONE: &str = Who::OneByOne.name();
/// Synchronous consumption under a mutex, software backend.
pub const BASELINE: &str = Who::Baseline.name();
/// Synchronous consumption under a mutex, without a backend.
pub const BASELINE_BARE: &str = Who::BaselineBare.name();

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drains {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// What a backend costs where it is not free.
    pub injected: Injected,
    /// Each stream with the backend as it is, then some with the injected cost.
    pub streams: Vec<Drain>,
}

/// The injected cost, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Once for each call.
    pub per_call_ns: u64,
    /// Once for each request in it.
    pub per_command_ns: u64,
}

/// One stream, consumed by each in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Of the stream.
    pub name: String,
    /// How many it has; a ring has 4096 at most, a longer stream comes in laps.
    pub commands: usize,
    /// At most so many nanoseconds per command for [`ENGINE`].
    pub goal_ns: Option<f64>,
    /// At least so many times as fast as [`BASELINE`].
    pub goal_ratio: Option<f64>,
    /// OpenVMM's published figure, to which [`BASELINE_BARE`] is comparable.
    pub published_ns: Option<f64>,
    /// Every backend here costs what [`Drains::injected`] says.
    pub injected: bool,
    /// Nanoseconds per command.
    pub costs: Vec<Cost>,
}

impl Drain {
    /// Somebody's cost per command.
    #[must_use]
    pub fn cost(&self, name: &str) -> Option<f64> {
        crate::data::cost_of(&self.costs, name)
    }
}

impl Drains {
    /// A stream, with the injected cost or without.
    #[must_use]
    pub fn find(&self, stream: &str, injected: bool) -> Option<&Drain> {
        let mut streams = self.streams.iter();
        streams.find(|drain| drain.name == stream && drain.injected == injected)
    }
}

pub(crate) fn measure(
    options: &Options,
    placement: Vec<Placed>,
    progress: &dyn Progress,
) -> Result<Drains, String> {
    let (rounds, dear) = (options.rounds(301, 3), options.rounds(7, 1));
    let goals = with_goals(1 << LOG2SIZE);
    let free = goals.iter().cloned().chain(published());
    let free: Vec<_> = free.map(|stream| (stream, false, rounds)).collect();
    let costly = goals
        .into_iter()
        .map(|stream| (shortened(stream), true, dear));
    let all: Vec<_> = free.into_iter().chain(costly).collect();
    progress.part(
        Part::Drains,
        all.iter().map(|(_, _, rounds)| *rounds as u64).sum(),
    );
    let one = |(stream, injected, rounds): &(Stream, bool, usize)| {
        drain(stream, *injected, *rounds, progress)
    };
    let cost = InjectedCost::HOST;
    Ok(Drains {
        placement,
        injected: Injected {
            per_call_ns: cost.per_call.as_nanos() as u64,
            per_command_ns: cost.per_command.as_nanos() as u64,
        },
        streams: all.iter().map(one).collect(),
    })
}

/// A ring's worth at most: what costs microseconds needs no more to be told apart.
fn shortened(mut stream: Stream) -> Stream {
    stream.commands.truncate(1 << LOG2SIZE);
    stream
}

fn drain(stream: &Stream, injected: bool, rounds: usize, progress: &dyn Progress) -> Drain {
    let (who, cost) = if injected {
        (&Who::EXECUTING[..], Some(InjectedCost::HOST))
    } else {
        (&Who::ALL[..], None)
    };
    let commands = stream.commands.len();
    let mut contenders = contenders(&laps(stream), who, cost);
    let times = times(&mut contenders, rounds, commands, || progress.step());
    let costs = contenders.iter().zip(times);
    Drain {
        name: stream.name.to_owned(),
        commands,
        goal_ns: stream.goal_ns.filter(|_| !injected),
        goal_ratio: stream.goal_ratio.filter(|_| !injected),
        published_ns: stream.published_ns,
        injected,
        costs: costs
            .map(|(who, times)| Cost::of(who.name, times))
            .collect(),
    }
}
