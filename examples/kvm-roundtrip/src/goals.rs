//! What is aimed at, computed from the rows.
//!
//! A ratio against an exit is given twice: as measured, and with the cost of the empty exits
//! that both sides had taken out.

use crate::data::{Case, Cost, Mode, Report, Row, Seen, Span, Waiter};
use serde::{Deserialize, Serialize};

/// Which values are good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether a value is good.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// The same with the cost of empty exits taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Without {
    /// What it is then, in words.
    pub what: String,
    /// The value; `None` if a side has nothing left.
    pub measured: Option<f64>,
    /// What is aimed at, if anything is.
    pub bound: Option<Bound>,
}

/// One goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What is compared with what.
    pub name: String,
    /// A ratio, or a share of 0 to 1; `None` if rows are missing.
    pub measured: Option<f64>,
    /// What is aimed at; `None` where it only stands beside another one.
    pub bound: Option<Bound>,
    /// With the exits taken out, for those against an exit.
    pub without_exits: Option<Without>,
}

impl Goal {
    /// Whether it is met, with all of its bounds; `None` if it was not measured or has none.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let own = self.bound?.holds(self.measured?);
        let without = self.without_exits.as_ref();
        let other = match without.and_then(|other| Some((other.bound?, other.measured))) {
            Some((bound, value)) => bound.holds(value?),
            None => true,
        };
        Some(own && other)
    }
}

/// All goals that a guest's view can tell.
#[must_use]
pub fn goals(report: &Report) -> Vec<Goal> {
    let mut goals = vec![away(report), coalesced(report)];
    goals.extend(shared_page(report));
    goals.extend(waiters(report));
    goals.extend(unmap(report));
    goals
}

fn median(report: &Report, case: &Case) -> Option<f64> {
    report.row(case).map(|row| row.latency.passes_p50)
}

fn ratio(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below.filter(|below| *below > 0.0)?)
}

/// Trap mode: the time that the vCPU is away from the guest.
fn away(report: &Report) -> Goal {
    let store = Case {
        span: Span::Store,
        ..Case::of(Mode::Worker)
    };
    let row = report.row(&store);
    let away = row.map(|row| row.latency.passes_p50);
    let exit = row.and_then(|row| row.exit_beside.as_ref());
    let exit = exit.map(|exit| exit.passes_p50);
    let left = away.zip(exit).map(|(away, exit)| (away - exit) / 1000.0);
    Goal {
        name: "trap: time away from the guest, against empty exits in turns".to_owned(),
        measured: ratio(away, exit),
        bound: Some(Bound::AtMost(1.15)),
        without_exits: Some(Without {
            what: "µs beyond the empty exit".to_owned(),
            measured: left,
            bound: None,
        }),
    }
}

/// Coalesced MMIO against an exit that the kernel handles.
fn coalesced(report: &Report) -> Goal {
    let trip = median(report, &Case::of(Mode::Coalesced));
    let exit = median(report, &Case::of(Mode::KernelExit));
    let left = trip.zip(exit).map(|(trip, exit)| (trip - exit) / 1000.0);
    Goal {
        name: "coalesced: round trip, against an exit within the kernel".to_owned(),
        measured: ratio(trip, exit),
        bound: Some(Bound::AtMost(1.3)),
        without_exits: Some(Without {
            what: "µs beyond the exit within the kernel".to_owned(),
            measured: left,
            bound: None,
        }),
    }
}

/// The shared page against rings between two threads; beside it, against the bare ping-pong of this
/// guest.
fn shared_page(report: &Report) -> Vec<Goal> {
    let row = |mode| report.row(&Case::of(mode));
    let p50 = |row: &Row| row.latency.passes_p50;
    let p99 = |row: &Row| row.latency.passes_p99;
    let goal = |name: &str, what: fn(&Row) -> f64, against: Mode, bound| Goal {
        name: format!("shared page: {name}, against {}", against.name()),
        measured: ratio(row(Mode::SharedPage).map(what), row(against).map(what)),
        bound,
        without_exits: None,
    };
    let rtrb = |name, what, most| goal(name, what, Mode::Rtrb, Some(Bound::AtMost(most)));
    vec![
        rtrb("median", p50, 1.5),
        rtrb("p99", p99, 3.0),
        goal("median", p50, Mode::Bare, None),
        goal("p99", p99, Mode::Bare, None),
    ]
}

/// When Linux's waiter sees one TLBI + SYNC.
fn waiters(report: &Report) -> [Goal; 2] {
    let share = |mode, early: fn(&Seen) -> u64| {
        let linux = Case {
            waiter: Waiter::Linux,
            ..Case::of(mode)
        };
        Seen::typically(&report.row(&linux)?.seen_by_pass, early)
    };
    let goal = |name: &str, measured| Goal {
        name: format!("Linux's waiter: {name}"),
        measured,
        bound: Some(Bound::AtLeast(0.99)),
        without_exits: None,
    };
    let page = share(Mode::SharedPage, |seen| seen.within_ten);
    let zone = share(Mode::Coalesced, |seen| seen.within_first_delay);
    [
        goal("shared page, SYNCs seen within ten looks", page),
        goal("coalesced, SYNCs seen within the first delay", zone),
    ]
}

/// 64 pages of two vCPUs at a price, in every mode of the engine against the exit that consumes.
/// Means, as in published tables: under a mutex one vCPU may be served often and the other seldom,
/// which a median does not show.
fn unmap(report: &Report) -> Vec<Goal> {
    let case = |mode| Case {
        vcpus: 2,
        pages: 64,
        backend: Cost::Injected,
        ..Case::of(mode)
    };
    let peer = report.row(&case(Mode::InExit));
    let exit = median(report, &Case::of(Mode::EmptyExit));
    let without = |row: &Row| {
        let left = row.latency.passes_mean - row.exits_per_round * exit?;
        (left > 0.0).then_some(left)
    };
    let modes = Mode::ALL.iter().filter(|mode| mode.is_engine());
    let goal = |mode: &Mode| {
        let own = report.row(&case(*mode));
        let mean = |row: Option<&Row>| row.map(|row| row.latency.passes_mean);
        Goal {
            name: format!(
                "{}: 64 pages, 2 vCPUs, injected cost, times faster than in the exit",
                mode.name()
            ),
            measured: ratio(mean(peer), mean(own)),
            bound: Some(Bound::AtLeast(20.0)),
            without_exits: Some(Without {
                what: "times, exits taken out".to_owned(),
                measured: ratio(peer.and_then(without), own.and_then(without)),
                bound: Some(Bound::AtLeast(5.0)),
            }),
        }
    };
    modes.map(goal).collect()
}

#[cfg(test)]
mod tests;
