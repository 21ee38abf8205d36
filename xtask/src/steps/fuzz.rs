//! Searches for inputs that break something: a minute for each kind of bad input, less for what puts them
//! together.

use std::cmp::Reverse;

use anyhow::Result;

use crate::fuzz;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Targets that drive the whole engine, with what the others look at one by one.
const WHOLE: [&str; 2] = ["commands", "registers"];
const SECONDS_FOR_WHOLE: u64 = 20;

/// Every target; those that take long first, so that no processor waits for the other at the end.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let seconds = |name: &str| match WHOLE.contains(&name) {
        true => SECONDS_FOR_WHOLE,
        false => fuzz::SECONDS,
    };
    let names = fuzz::names(workspace).into_iter();
    let mut times: Vec<fuzz::Time> = names
        .map(|name| {
            let seconds = seconds(&name);
            (name, seconds)
        })
        .collect();
    times.sort_by_key(|(_, seconds)| Reverse(*seconds));
    fuzz::run(workspace, &times)
}
