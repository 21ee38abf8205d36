//! Kinds of tests that may notice a fault, each built in its own way.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::libtest::{Results, is_for_law};
use super::limit::End;
use super::suite::{self, Suite};
use super::switch::Switch;
use crate::command::cargo;
use crate::steps::LOOM_FLAGS;
use crate::workspace::Workspace;

/// A kind of tests.
#[derive(Debug)]
pub(super) struct Tier {
    packages: &'static [&'static str],
    /// Arguments of `cargo test`.
    arguments: &'static [&'static str],
    /// Beside the one that lets laws be broken.
    rustflags: &'static str,
    /// Directory inside the target directory.
    directory: &'static str,
    /// How long one executable may take with a fault in it, at most. What takes longer hangs.
    limit: Duration,
}

/// What takes so many times as long as without a fault hangs, too, but for what is quick anyway.
const HANGS_AFTER: u32 = 10;
const QUICK: Duration = Duration::from_secs(15);

/// The kinds, quick ones first.
pub(super) const TIERS: [Tier; 2] = [
    Tier {
        packages: &[
            "smmu-core",
            "vcmdq-dispatch",
            "vcmdq",
            "vcmdq-iommufd",
            "vcmdq-cli",
        ],
        arguments: &[],
        rustflags: "",
        directory: "break",
        limit: Duration::from_secs(60),
    },
    Tier {
        packages: &["loom-tests"],
        arguments: &["--profile", "loom"],
        rustflags: LOOM_FLAGS,
        directory: "break-loom",
        limit: Duration::from_secs(120),
    },
];

/// Without a fault the machine may be slow, but nothing may hang.
const LIMIT_WITHOUT_FAULT: Duration = Duration::from_secs(600);

/// A tier that is built.
#[derive(Debug)]
pub(super) struct Built {
    tier: &'static Tier,
    /// The executables that hold tests named for a law.
    suites: Vec<Held>,
}

/// An executable, its tests that are named for a law, and how long they have taken so far.
#[derive(Debug)]
struct Held {
    suite: Suite,
    tests: Vec<String>,
    took: Duration,
    /// Laws whose tests pass as long as nothing is broken.
    green: BTreeSet<u32>,
}

impl Tier {
    /// Builds the tier.
    ///
    /// # Errors
    ///
    /// It does not compile.
    pub(super) fn build(&'static self, workspace: &Workspace) -> Result<Built> {
        fs::create_dir_all(self.log_directory(workspace))?;
        let mut command = self.cargo_test(workspace);
        for package in self.packages {
            command.args(["--package", package]);
        }
        command.args(["--lib", "--bins", "--tests"]);
        let mut suites = Vec::new();
        for suite in suite::build(&mut command, &self.log(workspace, "none", "build"))? {
            let mut tests = suite.tests()?;
            tests.retain(|test| !laws_of(test).is_empty());
            if !tests.is_empty() {
                suites.push(Held {
                    suite,
                    tests,
                    took: Duration::ZERO,
                    green: BTreeSet::new(),
                });
            }
        }
        Ok(Built { tier: self, suites })
    }

    /// `cargo test --no-run`, with all faults in it that the environment can turn on. Debug information
    /// would only cost time and disk: nobody debugs a fault made on purpose.
    fn cargo_test(&self, workspace: &Workspace) -> Command {
        let mut command = cargo(workspace, ["test", "--no-run"]);
        command
            .args(self.arguments)
            .env("CARGO_TARGET_DIR", workspace.target.join(self.directory))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0");
        let flags = format!("{} --cfg break_laws", self.rustflags);
        command.env("RUSTFLAGS", flags.trim());
        command
    }

    fn log_directory(&self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(self.directory).join("log")
    }

    fn log(&self, workspace: &Workspace, switch: &str, what: &str) -> PathBuf {
        self.log_directory(workspace)
            .join(format!("{switch}-{what}.log"))
    }
}

impl Held {
    /// How long it may take with a fault in it.
    fn limit(&self, most: Duration) -> Duration {
        (self.took * HANGS_AFTER).clamp(QUICK, most)
    }

    fn of_law(&self, law: u32) -> Vec<String> {
        let named = |test: &&String| is_for_law(test, law);
        self.tests.iter().filter(named).cloned().collect()
    }
}

impl Held {
    /// Demands, once for each law, that its tests pass while nothing is broken.
    fn prove(&mut self, tier: &Tier, workspace: &Workspace, law: u32) -> Result<()> {
        if !self.green.insert(law) {
            return Ok(());
        }
        let tests = self.of_law(law);
        let log = tier.log(workspace, "none", &self.suite.label());
        let start = Instant::now();
        let laws = [law].into();
        let (end, results) = (self.suite).run(&laws, None, &tests, &log, LIMIT_WITHOUT_FAULT)?;
        demand_green(end, &results, &log)?;
        self.took += start.elapsed();
        Ok(())
    }
}

impl Built {
    /// The tests of the law that notice `switch`, in the first executable that has any; each has passed
    /// without it before.
    ///
    /// # Errors
    ///
    /// Tests of the law do not pass while nothing is broken, or an executable cannot be started.
    pub(super) fn challenge(
        &mut self,
        workspace: &Workspace,
        switch: &Switch,
    ) -> Result<Vec<String>> {
        for held in &mut self.suites {
            let tests = held.of_law(switch.law);
            if tests.is_empty() {
                continue;
            }
            held.prove(self.tier, workspace, switch.law)?;
            let (law, limit) = ([switch.law].into(), held.limit(self.tier.limit));
            let label = held.suite.label();
            let log = self.tier.log(workspace, &switch.name, &label);
            let (end, results) = (held.suite).run(&law, Some(&switch.name), &tests, &log, limit)?;
            let caught = catches(end, &results);
            if !caught.is_empty() {
                return Ok(caught
                    .iter()
                    .map(|test| format!("{label}: {test}"))
                    .collect());
            }
        }
        Ok(Vec::new())
    }
}

/// The laws that the name of a test contains.
fn laws_of(test: &str) -> BTreeSet<u32> {
    (1..=11).filter(|law| is_for_law(test, *law)).collect()
}

fn demand_green(end: End, results: &Results, log: &std::path::Path) -> Result<()> {
    let exited_well = matches!(end, End::Exit(status) if status.success());
    if exited_well && results.failed.is_empty() && results.unfinished.is_empty() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&fs::read(log)?));
    let red: Vec<&String> = results.failed.iter().chain(&results.unfinished).collect();
    bail!("tests do not pass although nothing is broken: {red:?}");
}

/// The tests that noticed: those that failed or, when none could because the process hung or
/// crashed, those that had not ended.
fn catches(end: End, results: &Results) -> Vec<String> {
    if !results.failed.is_empty() {
        return results.failed.iter().cloned().collect();
    }
    let how = match end {
        End::Exit(status) if status.success() => return Vec::new(),
        End::Exit(_) => "crashed",
        End::OutOfTime => "hung",
    };
    results
        .unfinished
        .iter()
        .map(|test| format!("{test} ({how})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn exit(code: i32) -> End {
        End::Exit(ExitStatus::from_raw(code << 8))
    }

    fn results(failed: &[&str], unfinished: &[&str]) -> Results {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Results {
            failed: set(failed),
            unfinished: set(unfinished),
            ..Results::default()
        }
    }

    #[test]
    fn a_fault_is_caught_by_failures_hangs_and_crashes() {
        assert_eq!(catches(exit(101), &results(&["a"], &["b"])), ["a"]);
        assert_eq!(catches(End::OutOfTime, &results(&[], &["b"])), ["b (hung)"]);
        let crash = End::Exit(ExitStatus::from_raw(6));
        assert_eq!(catches(crash, &results(&[], &["b"])), ["b (crashed)"]);
    }

    #[test]
    fn a_green_run_catches_nothing() {
        assert!(catches(exit(0), &results(&[], &[])).is_empty());
        // Not run at all, because the filter selects it no longer: that is no catch either.
        assert!(catches(exit(0), &results(&[], &["a"])).is_empty());
    }

    #[test]
    fn what_was_slow_before_gets_longer() {
        let suite = Suite {
            target: Vec::new(),
            directory: PathBuf::new(),
            path: PathBuf::new(),
        };
        let mut held = Held {
            suite,
            tests: Vec::new(),
            took: Duration::from_millis(20),
            green: BTreeSet::new(),
        };
        let most = Duration::from_secs(60);
        assert_eq!(held.limit(most), QUICK);
        held.took = Duration::from_secs(4);
        assert_eq!(held.limit(most), Duration::from_secs(40));
        held.took = Duration::from_secs(30);
        assert_eq!(held.limit(most), most);
    }

    #[test]
    fn a_test_may_speak_of_several_laws() {
        assert_eq!(laws_of("x::law3_law4_y"), [3, 4].into());
        assert_eq!(laws_of("x::law11_y"), [11].into());
        assert!(laws_of("x::lawful_y").is_empty());
    }

    #[test]
    fn without_a_fault_every_test_must_have_passed() {
        let log = std::env::temp_dir().join(format!("xtask-tier-{}", std::process::id()));
        fs::write(&log, "").expect("log");
        assert!(demand_green(exit(0), &results(&[], &[]), &log).is_ok());
        assert!(demand_green(exit(101), &results(&["a"], &[]), &log).is_err());
        assert!(demand_green(exit(0), &results(&[], &["a"]), &log).is_err());
        assert!(demand_green(End::OutOfTime, &results(&[], &[]), &log).is_err());
        fs::remove_file(&log).expect("log");
    }
}
