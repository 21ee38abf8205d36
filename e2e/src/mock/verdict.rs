//! Which checks there must be, and what came of them.

use crate::boot::Check;
use vcmdq_wording::count;

/// Every check that the program makes. One that is missing has failed, and so has one that is not here.
pub const CHECKS: &[&str] = &[
    "hw-info",
    "tables",
    "viommu",
    "nested",
    "exact",
    "partial",
    "refusals",
    "events",
    "faults",
    "fail-nth",
    "engine-exact",
    "engine-law4-gone",
    "engine-law4-fail-nth",
    "engine-calls",
    "streams-attach",
    "streams-plug",
    "streams-law4-gone",
    "streams-law9-stage2",
    "streams-events",
    "streams-faults",
    "streams-fail-nth",
    "measured",
];

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct MockVerdict {
    pub(super) checks: Vec<Check>,
    /// The program said that it was done, and how many seconds it took.
    pub(super) done: Option<String>,
    /// Why the machine was not run to its end, with the last lines of its console.
    pub(super) stuck: Option<String>,
}

impl MockVerdict {
    /// What failed, a line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| !check.ok);
        let mut all: Vec<_> = failed
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        let made = |name: &str| self.checks.iter().any(|check| check.name == name);
        let missing = CHECKS.iter().filter(|name| !made(name));
        all.extend(missing.map(|name| format!("{name}: not made")));
        let unknown = |check: &&Check| !CHECKS.contains(&check.name.as_str());
        let unknown = self.checks.iter().filter(unknown);
        all.extend(unknown.map(|check| format!("{}: nobody expects it", check.name)));
        all.extend(self.stuck.clone());
        all
    }

    /// Whether every check was made and held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }

    /// Prints what failed, and how many checks held.
    pub fn print(&self) {
        let failures = self.failures();
        for line in &failures {
            println!("FAILED {line}");
        }
        let verdict = if self.holds() { "passed" } else { "FAILED" };
        let held = self.checks.iter().filter(|check| check.ok).count();
        let seconds = self.done.as_deref().unwrap_or("unknown");
        let failed = failures.len();
        let held = count(held, "check");
        println!("mock: {verdict}: {held} held, {failed} failed; {seconds} s in the kernel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ok: impl Fn(&str) -> bool) -> MockVerdict {
        let check = |name: &&str| Check {
            name: (*name).into(),
            ok: ok(name),
            detail: "seen".into(),
        };
        MockVerdict {
            checks: CHECKS.iter().map(check).collect(),
            ..MockVerdict::default()
        }
    }

    #[test]
    fn every_check_must_be_made_and_hold() {
        assert!(all(|_| true).holds());
        assert_eq!(all(|name| name != "exact").failures(), ["exact: seen"]);
        let mut short = all(|_| true);
        short.checks.retain(|check| check.name != "partial");
        assert_eq!(short.failures(), ["partial: not made"]);
        assert_eq!(MockVerdict::default().failures().len(), CHECKS.len());
    }

    #[test]
    fn a_check_that_nobody_expects_and_a_machine_that_hangs_are_failures() {
        let mut more = all(|_| true);
        more.checks[0].name = "other".into();
        assert_eq!(more.failures().len(), 2);
        let mut hung = all(|_| true);
        hung.stuck = Some("no end".into());
        assert!(!hung.holds());
    }
}
