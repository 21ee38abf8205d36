//! The loom models: exhaustive searches over what threads can do to each other.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// What switches `crates/sync` to loom.
pub(crate) const LOOM_FLAGS: &str = "--cfg loom";

/// A target directory of its own: the flags would rebuild everything else otherwise.
pub(crate) fn target_of_loom(workspace: &Workspace) -> PathBuf {
    workspace.target.join("loom")
}

/// `cargo test -p loom-tests` under `cfg(loom)`.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let arguments = ["test", "--package", "loom-tests", "--profile", "loom"];
    run_command(
        cargo(workspace, arguments)
            .env("RUSTFLAGS", LOOM_FLAGS)
            .env("CARGO_TARGET_DIR", target_of_loom(workspace)),
    )?;
    Ok(Outcome::Passed)
}
