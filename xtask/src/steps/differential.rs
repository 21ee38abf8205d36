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

/// Accesses where one of the two is told something wrong, or nothing.
const MISLED_CASES: &str = "2000";

/// What is told, and what the tool says then.
const LIES: [(&[&str], &str, &str); 3] = [
    (&["--misled"], "another OAS than QEMU's", "DIFFERENCE"),
    (
        &["--untold", "qemu"],
        "no invalidation for QEMU",
        "DIFFERENCE",
    ),
    (
        &["--untold", "engine"],
        "no invalidation for the engine",
        "cached",
    ),
];

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
    for (lie, what, finds) in LIES {
        let mut command = tool(workspace);
        command.args(["--cases", MISLED_CASES]).args(lie);
        show(&command);
        let output = command.output().context("cannot start cargo")?;
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said);
        let found = output.status.code() == Some(1) && text.contains(finds);
        ensure!(found, "not noticed: {what} ({})\n{text}", output.status);
        println!("noticed: {what}");
    }
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
