//! Lints of rustc and clippy, for every set of features and cfgs that is built.

use anyhow::Result;

use super::fmt::install_component;
use super::loom::{LOOM_FLAGS, target_of_loom};
use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// What is looked at: everything, then what a VMM can switch off.
const SELECTIONS: [&[&str]; 3] = [
    &["--workspace", "--all-targets"],
    &["--package", "vcmdq", "--no-default-features"],
    &["--package", "smmu-core", "--no-default-features"],
];

/// `cargo clippy`, warnings denied.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    install_component(workspace, "clippy", "clippy")?;
    for selection in SELECTIONS {
        run_command(&mut clippy(workspace, selection))?;
    }
    // The models are empty crates unless cfg(loom).
    let models = &["--package", "loom-tests", "--all-targets"];
    let target = target_of_loom(workspace);
    run_command(
        clippy(workspace, models)
            .env("RUSTFLAGS", LOOM_FLAGS)
            .env("CARGO_TARGET_DIR", target),
    )?;
    Ok(Outcome::Passed)
}

fn clippy(workspace: &Workspace, selection: &[&str]) -> std::process::Command {
    let mut command = cargo(workspace, ["clippy", "--quiet"]);
    command.args(selection).args(["--", "-D", "warnings"]);
    command
}
