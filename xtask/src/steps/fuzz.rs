//! Searches for inputs that break something: a minute for each kind of bad input, less for what puts them
//! together.

use anyhow::Result;

use crate::fuzz;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Targets that drive the whole engine, with what the others look at one by one.
const WHOLE: [&str; 2] = ["commands", "registers"];
const SECONDS_FOR_WHOLE: u64 = 20;

/// Every target.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let (whole, parts): (Vec<_>, Vec<_>) = fuzz::names(workspace)
        .into_iter()
        .partition(|name| WHOLE.contains(&name.as_str()));
    let outcome = fuzz::run(workspace, &parts, fuzz::SECONDS)?;
    if outcome == Outcome::Passed {
        return fuzz::run(workspace, &whole, SECONDS_FOR_WHOLE);
    }
    Ok(outcome)
}
