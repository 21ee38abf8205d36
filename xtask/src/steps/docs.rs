//! The documentation, as rustdoc builds it.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// `cargo doc`, warnings (dead links among them) denied.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut doc = cargo(workspace, ["doc", "--workspace", "--no-deps"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}
