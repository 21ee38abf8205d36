//! An unmodified Linux guest under QEMU drives the engine, and notices when it is broken.

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

use crate::command::{cargo, show};
use crate::guest;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// The tool's exit code when QEMU or another part is not to be had.
pub(super) const SKIPPED: i32 = 3;

/// A guest.
struct Guest {
    arguments: &'static [&'static str],
    /// What it shows.
    what: &'static str,
    /// What must fail with every invalidation lost.
    broken: Broken,
}

/// How a guest is run again, with every batch of invalidations lost.
enum Broken {
    /// It uses the SMMU as another one does.
    No,
    /// The first thing that goes wrong ends the run, and is one of these.
    First(&'static [&'static str]),
    /// All of these go wrong.
    Each(&'static [&'static str]),
}

/// Checks that look at contents or translations.
const CONTENTS: Broken = Broken::First(&["content", "content-host", "parallel", "fault-device"]);
/// Those whose translations change in stage 2, in stage 1, and in the stage 2 below it; by the program itself, and
/// by the engine in it.
const REMAPS: Broken = Broken::Each(&[
    "stage2-remap",
    "nested-remap",
    "nested-remap2",
    "engine-remap",
    "engine-ste",
    "engine-stage2",
]);

/// The distribution's kernel on stage 1, on stage 2, and with the choice; one that drives VCMDQs; one whose
/// user space nests, on the engine's SMMU and on QEMU's.
const GUESTS: [Guest; 6] = [
    Guest {
        arguments: &[],
        what: "Linux runs on the engine",
        broken: CONTENTS,
    },
    Guest {
        arguments: &["--stages=two", "--modes=strict,lazy"],
        what: "Linux runs on stage 2",
        broken: CONTENTS,
    },
    Guest {
        arguments: &["--stages=both", "--modes=strict"],
        what: "Linux runs where both stages are",
        broken: Broken::No,
    },
    Guest {
        arguments: &["--cmdqv", "--modes=strict,lazy"],
        what: "Linux drives VCMDQs",
        broken: CONTENTS,
    },
    Guest {
        arguments: &[NESTING, "--modes=strict"],
        what: "user space nests",
        broken: REMAPS,
    },
    Guest {
        arguments: &[NESTING, "--smmu=qemu", "--modes=strict"],
        what: "user space nests on QEMU's SMMU",
        broken: Broken::No,
    },
];

/// The guest that needs a program of ours.
const NESTING: &str = "--nesting";

/// Every batch of invalidations is lost.
const BROKEN: [&str; 3] = ["--drop-invalidations=1", "--timeout=90", "--boots=1"];

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
        if let Err(error) = guest::install_target(&guest::NESTING) {
            println!("{error:#}");
            return Ok(false);
        }
        guest::build(workspace, &guest::NESTING)?;
    }
    let mut command = tool(workspace, arguments);
    show(&command);
    let status = command.status().context("cannot start cargo")?;
    match status.code() {
        Some(0) => {}
        Some(SKIPPED) => return Ok(false),
        _ => bail!("a guest has failed ({status})"),
    }
    notices(workspace, guest)?;
    Ok(true)
}

/// The same guest with an engine that loses invalidations.
fn notices(workspace: &Workspace, guest: &Guest) -> Result<()> {
    let (stop, checks) = match guest.broken {
        Broken::No => return Ok(()),
        Broken::First(checks) => (true, checks),
        Broken::Each(checks) => (false, checks),
    };
    let arguments = guest.arguments;
    let modes = arguments.iter().filter(|one| !one.starts_with("--modes"));
    let mut command = tool(workspace, &BROKEN);
    command.args(modes).arg("--modes=strict");
    command.args(stop.then_some("--stop-at-failure"));
    show(&command);
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "with every invalidation lost, the guest noticed nothing ({})\n{text}",
        output.status
    );
    let noticed = noticed_by(&guest.broken, &failed(&text));
    let noticed =
        noticed.with_context(|| format!("it failed, but not by all of {checks:?}\n{text}"))?;
    println!("every invalidation lost: noticed by `{noticed}`");
    Ok(())
}

/// The checks that were made and failed, in order.
fn failed(text: &str) -> Vec<&str> {
    let failures = text.lines().filter_map(|line| line.strip_prefix("FAILED "));
    let made = failures.filter(|line| !line.ends_with(": not made"));
    made.filter_map(|line| line.split(": ").nth(1)).collect()
}

/// Those of the failed checks that had to fail, if it is as it has to be.
fn noticed_by(broken: &Broken, failed: &[&str]) -> Option<String> {
    match broken {
        Broken::No => None,
        Broken::First(checks) => {
            let first = failed.first().filter(|name| checks.contains(name))?;
            Some((*first).to_owned())
        }
        Broken::Each(checks) => {
            let all = checks.iter().all(|check| failed.contains(check));
            all.then(|| checks.join(", "))
        }
    }
}

/// `vcmdq boot` with these arguments.
pub(crate) fn tool(workspace: &Workspace, arguments: &[&str]) -> Command {
    tool_for(workspace, "boot", arguments)
}

/// A sub-command of the tool that needs the parts in target/e2e.
pub(super) fn tool_for(workspace: &Workspace, name: &str, arguments: &[&str]) -> Command {
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "vcmdq-cli",
        "--",
        name,
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
        let noticed = |text| noticed_by(&CONTENTS, &failed(text));
        assert_eq!(noticed(text).as_deref(), Some("parallel"));
        assert_eq!(noticed("FAILED strict boot 1: probe: no disk\n"), None);
        assert_eq!(noticed("FAILED strict boot 1: content: not made\n"), None);
        assert_eq!(noticed("boot: passed\n"), None);
    }

    #[test]
    fn each_change_of_a_translation_must_be_noticed() {
        let line = |name| format!("FAILED strict boot 1: {name}: change 1: of before\n");
        let all = [
            "stage2-remap",
            "stage2-fault",
            "nested-remap",
            "dirty-pages",
            "engine-remap",
            "engine-ste",
            "engine-stage2",
            "nested-remap2",
        ];
        let text: String = all.into_iter().map(line).collect();
        assert!(noticed_by(&REMAPS, &failed(&text)).is_some());
        let text: String = all[..7].iter().copied().map(line).collect();
        assert_eq!(noticed_by(&REMAPS, &failed(&text)), None);
        let made = text + "FAILED strict boot 1: nested-remap2: not made\n";
        assert_eq!(noticed_by(&REMAPS, &failed(&made)), None);
    }
}
