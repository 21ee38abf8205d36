//! The iommufd backend inside a Linux kernel whose iommufd has a mock IOMMU.

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

use super::boot::{SKIPPED, tool_for};
use crate::command::show;
use crate::guest;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Checks that must fail when every invalidation is lost.
const LOOKS: [&str; 6] = [
    "engine-exact",
    "engine-law4-gone",
    "engine-law4-fail-nth",
    "streams-plug",
    "streams-law4-gone",
    "streams-law9-stage2",
];

/// What takes so long hangs, also beside other steps.
const LIMIT: &str = "--timeout=900";

/// Builds the program and runs it there; then again with every invalidation lost.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let skipped = |why: &str| {
        let what =
            format!("not checked: that the backend does what it should on a real kernel; {why}");
        Ok(Outcome::Skipped(what))
    };
    if let Err(error) = guest::install_target(&guest::MOCK) {
        return skipped(&format!("{error:#}"));
    }
    guest::build(workspace, &guest::MOCK)?;
    let mut command = tool(workspace, &[LIMIT]);
    show(&command);
    let status = command.status().context("cannot start cargo")?;
    match status.code() {
        Some(0) => notices(workspace),
        Some(SKIPPED) => skipped("a line above says what to do"),
        _ => bail!("a check in the kernel has failed ({status})"),
    }
}

/// The same with an engine whose invalidations get nowhere: each check that looks for them fails.
fn notices(workspace: &Workspace) -> Result<Outcome> {
    let mut command = tool(workspace, &["--lose-invalidations", LIMIT]);
    show(&command);
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let blind = blind(&text);
    ensure!(
        output.status.code() == Some(1) && blind.is_empty(),
        "with every invalidation lost, {blind:?} noticed nothing ({})\n{text}",
        output.status
    );
    println!("every invalidation lost: noticed by {}", LOOKS.join(", "));
    Ok(Outcome::Passed)
}

/// Those of [`LOOKS`] that were not made, or held.
fn blind(text: &str) -> Vec<&'static str> {
    let failures: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("FAILED "))
        .filter(|line| !line.ends_with(": not made"))
        .filter_map(|line| line.split(": ").next())
        .collect();
    let holds = |name: &&'static str| !failures.contains(name);
    LOOKS.into_iter().filter(holds).collect()
}

/// `vcmdq mock` with these arguments.
pub(crate) fn tool(workspace: &Workspace, arguments: &[&str]) -> Command {
    tool_for(workspace, "mock", arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_held_or_was_not_made_has_noticed_nothing() {
        let all: String = LOOKS
            .iter()
            .map(|name| format!("FAILED {name}: 1111 left\n"))
            .collect();
        assert!(blind(&all).is_empty());
        let held = all.replace("FAILED engine-exact: 1111 left\n", "");
        assert_eq!(blind(&held), ["engine-exact"]);
        let none = all.replace("engine-exact: 1111 left", "engine-exact: not made");
        assert_eq!(blind(&none), ["engine-exact"]);
    }
}
