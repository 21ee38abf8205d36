//! Built tests of a law: with a fault one of them must fail, and without it pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vcmdq_wording::count;

use anyhow::{Result, bail};

use super::libtest::{Results, is_for_law};
use super::limit::End;
use super::suite::Suite;
use super::switch::Switch;
use crate::parallel;

/// What takes so many times as long as without a fault hangs, too, but for what is quick anyway.
const HANGS_AFTER: u32 = 10;
const QUICK: Duration = Duration::from_secs(15);

/// Without a fault the machine may be slow, but nothing may hang.
const LIMIT_WITHOUT_FAULT: Duration = Duration::from_secs(600);

/// Executables that hold tests named for a law.
#[derive(Debug)]
pub(super) struct Built {
    held: Vec<Held>,
    /// How long one of them may take with a fault in it, at most.
    limit: Duration,
    logs: PathBuf,
}

/// An executable and its tests that are named for a law.
#[derive(Debug)]
pub(super) struct Held {
    suite: Suite,
    tests: Vec<String>,
    /// How long these have taken without a fault, if they have passed already.
    took: Option<Duration>,
}

/// A test that has noticed a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noticed {
    test: String,
    /// Another way than to fail.
    how: Option<&'static str>,
}

impl Held {
    pub(super) fn new(suite: Suite, tests: Vec<String>) -> Self {
        Self {
            suite,
            tests,
            took: None,
        }
    }

    /// How long it may take with a fault in it.
    fn limit(&self, most: Duration) -> Duration {
        match self.took {
            Some(took) => (took * HANGS_AFTER).clamp(QUICK, most),
            None => most,
        }
    }

    fn of_law(&self, law: u32) -> Vec<String> {
        let named = |test: &&String| is_for_law(test, law);
        self.tests.iter().filter(named).cloned().collect()
    }

    /// Whether it is called like a part of this path: likely the tests of what is there.
    fn is_called_like(&self, path: &str) -> bool {
        let label = self.suite.label();
        path.split(['/', '.']).any(|part| part == label)
    }

    /// Demands that these tests pass while nothing is broken.
    fn passes(&self, tests: &[String], log: &Path) -> Result<Duration> {
        let start = Instant::now();
        let (end, results) = self.suite.run(None, tests, log, LIMIT_WITHOUT_FAULT)?;
        demand_green(end, &results, log)?;
        Ok(start.elapsed())
    }
}

impl Built {
    pub(super) fn new(held: Vec<Held>, limit: Duration, logs: PathBuf) -> Self {
        Self { held, limit, logs }
    }

    /// Demands that all tests pass while nothing is broken, and learns how long they take.
    ///
    /// # Errors
    ///
    /// One does not, or an executable cannot be started.
    pub(super) fn prove(&mut self) -> Result<()> {
        let start = Instant::now();
        let numbered: Vec<(usize, &Held)> = self.held.iter().enumerate().collect();
        let times = parallel::each(&numbered, |(number, held)| {
            let name = format!("none-{number}-{}.log", held.suite.label());
            held.passes(&held.tests, &self.logs.join(name))
        });
        let times = times.into_iter().collect::<Result<Vec<_>>>()?;
        for (held, took) in self.held.iter_mut().zip(times) {
            held.took = Some(took);
        }
        let tests: usize = self.held.iter().map(|held| held.tests.len()).sum();
        let took = start.elapsed().as_secs_f64();
        let tests = count(tests, "test");
        println!("none           {took:>6.1} s  passed: {tests} named for a law");
        Ok(())
    }

    /// The tests of the law that notice `switch`, in the first executable that has any; they pass without it.
    /// Asked first are the likely executables, then the quick ones.
    ///
    /// # Errors
    ///
    /// Tests do not pass while nothing is broken, or an executable cannot be started.
    pub(super) fn challenge(&self, switch: &Switch) -> Result<Vec<String>> {
        let mut order: Vec<&Held> = self.held.iter().collect();
        order.sort_by_key(|held| (!held.is_called_like(&switch.path), held.took));
        for held in order {
            let tests = held.of_law(switch.law);
            if tests.is_empty() {
                continue;
            }
            let (name, label) = (switch.name.as_str(), held.suite.label());
            let log = |what: &str| self.logs.join(format!("{name}-{label}{what}.log"));
            let limit = held.limit(self.limit);
            let (end, results) = held.suite.run(Some(name), &tests, &log(""), limit)?;
            let noticed = noticed(end, &results);
            if noticed.is_empty() {
                continue;
            }
            if held.took.is_none() {
                let tests: Vec<String> = noticed.iter().map(|one| one.test.clone()).collect();
                held.passes(&tests, &log("-without"))?;
            }
            let said = noticed.iter().map(|one| match one.how {
                None => format!("{label}: {}", one.test),
                Some(how) => format!("{label}: {} ({how})", one.test),
            });
            return Ok(said.collect());
        }
        Ok(Vec::new())
    }
}

fn demand_green(end: End, results: &Results, log: &Path) -> Result<()> {
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
fn noticed(end: End, results: &Results) -> Vec<Noticed> {
    let how = match end {
        _ if !results.failed.is_empty() => None,
        End::Exit(status) if status.success() => return Vec::new(),
        End::Exit(_) => Some("crashed"),
        End::OutOfTime => Some("hung"),
        End::Enough => None,
    };
    let tests = match how {
        None => &results.failed,
        Some(_) => &results.unfinished,
    };
    let noticed = |test: &String| Noticed {
        test: test.clone(),
        how,
    };
    tests.iter().map(noticed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

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

    /// A shell script in the place of an executable that holds `a::law1_x`.
    fn built(script: &str) -> (Built, PathBuf) {
        let name = format!("xtask-built-{}-{}", std::process::id(), script.len());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("tests.sh");
        // Written by another process. What this one has open for writing is inherited by what other tests start
        // just then, and what anybody has open for writing cannot be executed.
        let mut write = Command::new("sh");
        write.args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        write.arg(&path).arg(format!("#!/bin/sh\n{script}\n"));
        assert!(write.status().expect("sh").success(), "a script");
        let suite = Suite {
            target: vec!["--test".into(), "t".into()],
            directory: directory.clone(),
            path,
        };
        let held = vec![Held::new(suite, vec!["a::law1_x".into()])];
        let limit = Duration::from_secs(60);
        (Built::new(held, limit, directory.clone()), directory)
    }

    fn asked(script: &str) -> Result<Vec<String>> {
        let (built, directory) = built(script);
        let answer = built.challenge(&super::super::switch::example("break_law1a"));
        fs::remove_dir_all(directory)?;
        answer
    }

    const PASSES: &str = "echo 'test a::law1_x ... ok'";
    const FAILS: &str = "echo 'test a::law1_x ... FAILED'";

    #[test]
    fn a_test_that_fails_with_the_fault_and_passes_without_has_noticed() {
        let notices = format!("if [ -n \"$BREAK_LAW\" ]; then {FAILS}; exit 101; fi; {PASSES}");
        let answer = asked(&notices).expect("it passes without");
        assert_eq!(answer, ["t: a::law1_x"]);
        let blind = asked(PASSES).expect("it passes");
        assert!(blind.is_empty(), "{blind:?}");
    }

    #[test]
    fn a_test_that_fails_without_the_fault_too_proves_nothing() {
        let always = format!("{FAILS}; exit 101");
        let error = asked(&always).expect_err("red").to_string();
        assert!(error.contains("a::law1_x"), "{error}");
        let (mut built, directory) = built(&format!("true; {always}"));
        assert!(built.prove().is_err());
        fs::remove_dir_all(directory).expect("a directory");
    }

    #[test]
    fn a_fault_is_noticed_by_failures_hangs_and_crashes() {
        let one = |test: &str, how| {
            let test = test.to_owned();
            vec![Noticed { test, how }]
        };
        assert_eq!(noticed(exit(101), &results(&["a"], &["b"])), one("a", None));
        let enough = noticed(End::Enough, &results(&["a"], &["b"]));
        assert_eq!(enough, one("a", None));
        let hang = noticed(End::OutOfTime, &results(&[], &["b"]));
        assert_eq!(hang, one("b", Some("hung")));
        let crash = End::Exit(ExitStatus::from_raw(6));
        let crash = noticed(crash, &results(&[], &["b"]));
        assert_eq!(crash, one("b", Some("crashed")));
    }

    #[test]
    fn a_green_run_has_noticed_nothing() {
        assert!(noticed(exit(0), &results(&[], &[])).is_empty());
        // Not run at all, because the filter selects it no longer: that is no catch either.
        assert!(noticed(exit(0), &results(&[], &["a"])).is_empty());
    }

    #[test]
    fn what_was_slow_before_gets_longer() {
        let (built, directory) = built(":");
        fs::remove_dir_all(directory).expect("a directory");
        let most = Duration::from_secs(60);
        let limit = |took: Option<u64>| {
            let suite = built.held[0].suite.clone();
            let took = took.map(Duration::from_millis);
            let tests = Vec::new();
            Held { suite, tests, took }.limit(most)
        };
        assert_eq!(limit(Some(20)), QUICK);
        assert_eq!(limit(Some(4_000)), Duration::from_secs(40));
        assert_eq!(limit(Some(30_000)), most);
        assert_eq!(limit(None), most);
    }

    #[test]
    fn tests_of_the_file_that_is_broken_are_asked_first() {
        let (built, directory) = built(" :");
        fs::remove_dir_all(directory).expect("a directory");
        assert!(built.held[0].is_called_like("crates/x/src/t.rs"));
        assert!(built.held[0].is_called_like("crates/x/src/t/mod.rs"));
        assert!(!built.held[0].is_called_like("crates/x/src/tt.rs"));
    }

    #[test]
    fn without_a_fault_every_test_must_have_passed() {
        let log = std::env::temp_dir().join(format!("xtask-green-{}", std::process::id()));
        fs::write(&log, "").expect("log");
        assert!(demand_green(exit(0), &results(&[], &[]), &log).is_ok());
        assert!(demand_green(exit(101), &results(&["a"], &[]), &log).is_err());
        assert!(demand_green(exit(0), &results(&[], &["a"]), &log).is_err());
        assert!(demand_green(End::OutOfTime, &results(&[], &[]), &log).is_err());
        fs::remove_file(&log).expect("log");
    }
}
