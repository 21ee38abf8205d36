//! The documentation, as rustdoc builds it.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// `cargo doc`, warnings (dead links among them) denied. Not of the tool: its program and the
/// library are both called `vcmdq`, and would write to the same place.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let arguments = ["doc", "--workspace", "--exclude", "vcmdq-cli", "--no-deps"];
    run_command(cargo(workspace, arguments).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}
