//! An unmodified Linux guest under QEMU drives the engine, and notices when it is broken.

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

use crate::command::{cargo, show};
use crate::guest;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// The tool's exit code when QEMU or another part is not to be had.
const SKIPPED: i32 = 3;

/// A guest.
struct Guest {
    arguments: &'static [&'static str],
    /// What it shows.
    what: &'static str,
    /// Whether it is run again with every invalidation lost.
    broken: bool,
}

/// The distribution's kernel on stage 1, on stage 2, and with the choice; one that drives VCMDQs; one whose
/// user space nests.
const GUESTS: [Guest; 5] = [
    Guest {
        arguments: &[],
        what: "Linux runs on the engine",
        broken: true,
    },
    Guest {
        arguments: &["--stages=two", "--modes=strict,lazy"],
        what: "Linux runs on stage 2",
        broken: false,
    },
    Guest {
        arguments: &["--stages=both", "--modes=strict"],
        what: "Linux runs where both stages are",
        broken: false,
    },
    Guest {
        arguments: &["--cmdqv", "--modes=strict,lazy"],
        what: "Linux drives VCMDQs",
        broken: true,
    },
    Guest {
        arguments: &[NESTING, "--modes=strict"],
        what: "user space nests",
        broken: false,
    },
];

/// The guest that needs a program of ours.
const NESTING: &str = "--nesting";

/// Every batch of invalidations is lost; the first thing that goes wrong ends the run.
const BROKEN: [&str; 4] = [
    "--drop-invalidations=1",
    "--stop-at-failure",
    "--timeout=90",
    "--boots=1",
];

/// Checks that look at contents or translations; one of them must notice.
const MUST_NOTICE: [&str; 4] = ["content", "content-host", "parallel", "fault-device"];

/// Each guest, then the same with an engine that loses invalidations.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut skipped = Vec::new();
    for guest in GUESTS {
        if !holds(workspace, &guest)? {
            skipped.push(guest.what);
        }
    }
    if skipped.is_empty() {
        return Ok(Outcome::Passed);
    }
    let what = skipped.join(" and that ");
    let what = format!("not checked: that {what}; a line above says what to do");
    Ok(Outcome::Skipped(what))
}

/// One guest; `false` if a part of it is not to be had.
fn holds(workspace: &Workspace, guest: &Guest) -> Result<bool> {
    let arguments = guest.arguments;
    if arguments.contains(&NESTING) {
        if let Err(error) = guest::build(workspace) {
            println!("{error:#}");
            return Ok(false);
        }
    }
    let mut command = tool(workspace, arguments);
    show(&command);
    let status = command.status().context("cannot start cargo")?;
    match status.code() {
        Some(0) => {}
        Some(SKIPPED) => return Ok(false),
        _ => bail!("a guest has failed ({status})"),
    }
    if !guest.broken {
        return Ok(true);
    }
    let modes = arguments.iter().filter(|one| !one.starts_with("--modes"));
    let mut command = tool(workspace, &BROKEN);
    command.args(modes).arg("--modes=strict");
    show(&command);
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "with every invalidation lost, the guest noticed nothing ({})\n{text}",
        output.status
    );
    let noticed = noticed_by(&text);
    let noticed = noticed.with_context(|| format!("it failed, but not by its contents\n{text}"))?;
    println!("every invalidation lost: noticed by `{noticed}`");
    Ok(true)
}

/// The first check that failed, if it is one that looks at contents or translations.
fn noticed_by(text: &str) -> Option<&'static str> {
    let failed = text.lines().find_map(|line| line.strip_prefix("FAILED "))?;
    let mut fields = failed.split(": ");
    let name = fields.nth(1)?;
    MUST_NOTICE.into_iter().find(|check| *check == name)
}

/// `vcmdq boot` with these arguments.
pub(crate) fn tool(workspace: &Workspace, arguments: &[&str]) -> Command {
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "vcmdq-cli",
        "--",
        "boot",
    ];
    let mut command = cargo(workspace, run);
    command.arg("--directory").arg(workspace.target.join("e2e"));
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_noticed_is_the_first_failure_and_about_contents() {
        let text = "strict 1 probe ok\nFAILED strict boot 1: parallel: 4 CPUs, 3 wrong\n\
                    FAILED strict boot 1: rebind: not made\n";
        assert_eq!(noticed_by(text), Some("parallel"));
        assert_eq!(noticed_by("FAILED strict boot 1: probe: not made\n"), None);
        assert_eq!(noticed_by("boot: passed\n"), None);
    }
}
