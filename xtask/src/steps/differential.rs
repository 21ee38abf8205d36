//! Random worlds through the engine and through QEMU's SMMU, for a moment.

use anyhow::{Context, Result, bail, ensure};
use std::process::Command;

use crate::command::{cargo, show};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// The tool's exit code when QEMU is not to be had, or has not both devices.
const SKIPPED: i32 = 3;

/// Accesses here; `cargo xtask differential` makes a hundred thousand.
const CASES: &str = "20000";

/// Accesses of an engine that is told of a smaller OAS than QEMU has.
const MISLED_CASES: &str = "2000";

/// The same worlds each time: a failure here is one that can be repeated.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut command = tool(workspace);
    command.args(["--cases", CASES]);
    show(&command);
    let status = command.status().context("cannot start cargo")?;
    match status.code() {
        Some(0) => notices(workspace),
        Some(SKIPPED) => {
            let what = "not checked: that QEMU's SMMU agrees; a line above says what to do";
            Ok(Outcome::Skipped(what.into()))
        }
        _ => bail!("the engine and QEMU differ, or one of them has failed ({status})"),
    }
}

/// The same comparison finds differences where there must be some.
fn notices(workspace: &Workspace) -> Result<Outcome> {
    let mut command = tool(workspace);
    command.args(["--cases", MISLED_CASES, "--misled"]);
    show(&command);
    let output = command.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = output.status.code() == Some(1) && text.contains("DIFFERENCE");
    ensure!(
        found,
        "an engine with another OAS than QEMU's was not noticed ({})\n{text}",
        output.status
    );
    println!("another OAS than QEMU's: noticed");
    Ok(Outcome::Passed)
}

/// `vcmdq-differential`, with the parts that `vcmdq boot` uses.
pub(crate) fn tool(workspace: &Workspace) -> Command {
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "vcmdq-differential",
        "--",
    ];
    let mut command = cargo(workspace, run);
    command.arg("--directory").arg(workspace.target.join("e2e"));
    command
}
