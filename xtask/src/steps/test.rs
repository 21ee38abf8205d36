//! The tests that cargo finds: unit, property, integration, doc.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// `cargo test` for all members.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    run_command(&mut cargo(workspace, ["test", "--workspace"]))?;
    Ok(Outcome::Passed)
}
