//! Formatting, by rustfmt.

use anyhow::Result;

use crate::command::{cargo, run as run_command, succeeds};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// `cargo fmt --check`.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    install_component(workspace, "fmt", "rustfmt")?;
    run_command(&mut cargo(workspace, ["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

/// Has rustup add `component` when cargo does not know `subcommand`: a minimal toolchain
/// comes without it.
pub(super) fn install_component(
    workspace: &Workspace,
    subcommand: &str,
    component: &str,
) -> Result<()> {
    if succeeds(&mut cargo(workspace, [subcommand, "--version"])) {
        return Ok(());
    }
    let mut rustup = std::process::Command::new("rustup");
    run_command(rustup.args(["component", "add", component]))
}
