//! The goals: what is promised, computed from what was measured. One file for each row of the table.

mod away;
mod blocked;
mod coalesced;
mod drains;
mod fairness;
mod flat;
mod goal;
mod group_commit;
mod idle;
mod linux_waiter;
mod shared_page;
#[cfg(test)]
pub(crate) mod testing;
mod unmap;

use super::plot::Unit;
use super::results::Results;
use kvm_roundtrip::{Case, Report, Row};
use vcmdq_measure::InProcess;
use vcmdq_measure::data::Section;

pub(crate) use unmap::best_and_exit;

pub(crate) use goal::{Bound, Goal, Part, Reading, Tally, Verdict, WithoutExits};

/// What the goals are computed from, or why it is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    /// Inside one process.
    pub(crate) rows: &'a Section<InProcess>,
    /// As a guest under KVM sees it.
    pub(crate) kvm: &'a Section<Report>,
}

/// Every goal, in the order of the table.
pub(crate) fn all(results: &Results) -> Vec<Goal> {
    let sources = Sources::of(results);
    let goals = [
        shared_page::goal,
        linux_waiter::goal,
        away::goal,
        coalesced::goal,
        unmap::goal,
        group_commit::goal,
        drains::goal,
        fairness::goal,
        blocked::goal,
        idle::goal,
        flat::goal,
    ];
    goals.map(|goal| goal(&sources)).into()
}

impl<'a> Sources<'a> {
    pub(crate) fn of(results: &'a Results) -> Self {
        Self {
            rows: &results.rows,
            kvm: &results.kvm,
        }
    }

    /// A part of what was measured inside one process.
    ///
    /// # Errors
    ///
    /// Why it is missing.
    pub(crate) fn row<T>(
        &self,
        part: impl Fn(&'a InProcess) -> &'a Section<T>,
    ) -> Result<&'a T, String> {
        measured(part(measured(self.rows)?))
    }

    /// A row of the guest.
    ///
    /// # Errors
    ///
    /// Why it is missing.
    pub(crate) fn guest(&self, case: &Case) -> Result<&'a Row, String> {
        let row = measured(self.kvm)?.row(case);
        row.ok_or_else(|| {
            let plural = if case.vcpus == 1 { "" } else { "s" };
            format!(
                "there is no row for '{}' with {} vCPU{plural}",
                case.mode.name(),
                case.vcpus
            )
        })
    }
}

fn measured<T>(section: &Section<T>) -> Result<&T, String> {
    match section {
        Section::Measured(measured) => Ok(measured),
        Section::Skipped(why) => Err(why.clone()),
    }
}

/// How many times `below` is in `above`, two times in nanoseconds, and both in words.
fn times(above: f64, below: f64) -> Result<(f64, String), String> {
    if !(above > 0.0 && below > 0.0) {
        return Err("nothing is left to compare".to_owned());
    }
    let show = |ns| Unit::Nanoseconds.show(ns);
    let words = format!("{} against {}", show(above), show(below));
    Ok((above / below, words))
}

/// What is left of the first time when the second is taken out of it: a time, and no goal.
fn beyond(both: Result<(f64, f64), String>, what: &str) -> WithoutExits {
    let left = both.map(|(all, out)| (all - out, format!("beyond {what}")));
    WithoutExits {
        reading: Reading::from(left),
        unit: Unit::Nanoseconds,
        bound: None,
    }
}
