//! The iommufd backend inside a Linux kernel whose iommufd has a mock IOMMU.

use anyhow::{Context, Result, bail};
use std::process::Command;

use super::boot::{SKIPPED, tool_for};
use crate::command::show;
use crate::guest;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Builds the program and runs it there.
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
    let mut command = tool(workspace, &[]);
    show(&command);
    let status = command.status().context("cannot start cargo")?;
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(SKIPPED) => skipped("a line above says what to do"),
        _ => bail!("a check in the kernel has failed ({status})"),
    }
}

/// `vcmdq mock` with these arguments.
pub(crate) fn tool(workspace: &Workspace, arguments: &[&str]) -> Command {
    tool_for(workspace, "mock", arguments)
}
