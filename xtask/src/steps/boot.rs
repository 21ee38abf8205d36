//! An unmodified Linux guest under QEMU drives the engine, and notices when it is broken.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::command::{cargo, line};
use crate::guest;
use crate::parallel;
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

/// The distribution's kernel with the choice of stages, on stage 1, and on stage 2; one that drives VCMDQs; one
/// whose user space nests, on the engine's SMMU and on QEMU's. The first is there soon, and fetches what the others
/// start with.
const GUESTS: [Guest; 6] = [
    Guest {
        arguments: &["--stages=both", "--modes=strict"],
        what: "Linux runs where both stages are",
        broken: Broken::No,
    },
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
const BROKEN: [&str; 2] = ["--drop-invalidations=1", "--boots=1"];
/// A boot takes some ten seconds, also beside other steps: what takes so long hangs.
const LIMIT: &str = "--timeout=300";

/// A guest, as it is or with an engine that loses invalidations.
#[derive(Clone, Copy)]
struct Run<'a> {
    guest: &'a Guest,
    loses: bool,
}

/// The first guest; then the others, and those with an engine that loses invalidations, as many at a time as there
/// are processors.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let nests = match guest::install_target(&guest::NESTING) {
        Ok(()) => guest::build(workspace, &guest::NESTING).map(|_| true)?,
        Err(error) => {
            println!("{error:#}");
            false
        }
    };
    let possible = |guest: &Guest| nests || !guest.arguments.contains(&NESTING);
    let (here, not): (Vec<&Guest>, _) = GUESTS.iter().partition(|guest| possible(guest));
    let mut skipped: BTreeSet<&str> = not.iter().map(|guest| guest.what).collect();
    let runs = here.iter().flat_map(|guest| {
        let again = !matches!(guest.broken, Broken::No);
        let loses = [false, true].into_iter().take(1 + usize::from(again));
        loses.map(|loses| Run { guest, loses })
    });
    let runs: Vec<Run<'_>> = runs.collect();
    let (first, others) = runs.split_at(1);
    let mut held = parallel::each(first, |run| run.holds(workspace));
    held.extend(parallel::each(others, |run| run.holds(workspace)));
    for (run, held) in runs.iter().zip(held) {
        if !held? {
            skipped.insert(run.guest.what);
        }
    }
    if skipped.is_empty() {
        return Ok(Outcome::Passed);
    }
    let what = Vec::from_iter(skipped).join(" and that ");
    let what = format!("not checked: that {what}; a line above says what to do");
    Ok(Outcome::Skipped(what))
}

impl Run<'_> {
    /// Runs it, and shows what it has printed when it is over; `false` if a part of it is not to be had.
    fn holds(&self, workspace: &Workspace) -> Result<bool> {
        let mut command = match self.loses {
            false => tool(workspace, self.guest.arguments),
            true => self.guest.losing(workspace),
        };
        command.arg(LIMIT);
        let output = command.stdin(Stdio::null()).output();
        let output = output.context("cannot start cargo")?;
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said);
        let shown = line(&command);
        match (self.loses, output.status.code()) {
            (_, Some(SKIPPED)) => {
                println!("$ {shown}\n{text}");
                Ok(false)
            }
            (true, Some(1)) => {
                let noticed = self.guest.noticed(&text)?;
                println!("$ {shown}\nevery invalidation lost: noticed by `{noticed}`");
                Ok(true)
            }
            (true, _) => bail!(
                "with every invalidation lost, the guest noticed nothing ({})\n{text}",
                output.status
            ),
            (false, Some(0)) => {
                print!("$ {shown}\n{text}");
                Ok(true)
            }
            (false, _) => {
                print!("$ {shown}\n{text}");
                bail!("a guest has failed ({})", output.status)
            }
        }
    }
}

impl Guest {
    /// The same guest with an engine that loses invalidations.
    fn losing(&self, workspace: &Workspace) -> Command {
        let modes = |one: &&&str| !one.starts_with("--modes");
        let mut command = tool(workspace, &BROKEN);
        command.args(self.arguments.iter().filter(modes));
        command.arg("--modes=strict");
        let stop = matches!(self.broken, Broken::First(_));
        command.args(stop.then_some("--stop-at-failure"));
        command
    }

    /// Which of the checks that had to fail did, in what it printed.
    fn noticed(&self, text: &str) -> Result<String> {
        let checks = match self.broken {
            Broken::No => &[],
            Broken::First(checks) | Broken::Each(checks) => checks,
        };
        let noticed = noticed_by(&self.broken, &failed(text));
        noticed.with_context(|| format!("it failed, but not by all of {checks:?}\n{text}"))
    }
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
