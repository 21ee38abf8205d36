//! What came out of the boots.

use super::plan::{Mode, Plan};
use vcmdq_wording::count;

/// One check as the guest or the host has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// What one boot gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Booted {
    pub(super) checks: Vec<Check>,
    pub(super) notes: Vec<String>,
    /// The guest said that it was done, and what its clock showed.
    pub(super) done: Option<String>,
}

impl Booted {
    /// The checks that should have been made and were not.
    fn missing(&self, expected: &[&'static str]) -> Vec<&'static str> {
        let made = |name: &&'static str| self.checks.iter().any(|check| check.name == *name);
        expected
            .iter()
            .filter(|name| !made(name))
            .copied()
            .collect()
    }
}

/// What one machine gave.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) plan: Plan,
    pub(super) boots: Vec<Booted>,
    /// Why it was not run to its end, with the last lines of its console.
    pub(super) stuck: Option<String>,
    /// Counters of the engine and the device, by name.
    pub(super) counters: Vec<(String, u64)>,
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub(super) machines: Vec<Ran>,
}

impl Verdict {
    /// What failed, one line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut all = Vec::new();
        for ran in &self.machines {
            let mode = ran.plan.mode.name();
            for (index, checks) in ran.plan.boots.iter().enumerate() {
                let nothing = Booted::default();
                let booted = ran.boots.get(index).unwrap_or(&nothing);
                let place = format!("{mode} boot {}", index + 1);
                let failed = booted.checks.iter().filter(|check| !check.ok);
                all.extend(
                    failed.map(|check| format!("{place}: {}: {}", check.name, check.detail)),
                );
                let missing = booted.missing(&Plan::expected(checks));
                all.extend(
                    missing
                        .iter()
                        .map(|name| format!("{place}: {name}: not made")),
                );
            }
            all.extend(ran.stuck.iter().map(|why| format!("{mode}: {why}")));
        }
        all
    }

    /// Whether everything held.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.machines.is_empty() && self.failures().is_empty()
    }

    /// Checks that were made and held.
    #[must_use]
    pub fn held(&self) -> usize {
        let boots = self.machines.iter().flat_map(|ran| &ran.boots);
        let checks = boots.flat_map(|booted| &booted.checks);
        checks.filter(|check| check.ok).count()
    }

    /// A check of a mode, from its first boot.
    #[must_use]
    pub fn check(&self, mode: Mode, name: &str) -> Option<&Check> {
        let ran = self.machines.iter().find(|ran| ran.plan.mode == mode)?;
        let checks = &ran.boots.first()?.checks;
        checks.iter().find(|check| check.name == name)
    }

    /// The counters of every machine, and what failed.
    pub fn print(&self) {
        let counted = |ran: &&Ran| !ran.counters.is_empty();
        for ran in self.machines.iter().filter(counted) {
            println!("\n{}: counters", ran.plan.mode.name());
            for (name, number) in ran.counters.iter().filter(|(_, number)| *number > 0) {
                println!("  {name:<28} {number:>12}");
            }
        }
        println!();
        let failures = self.failures();
        for line in &failures {
            println!("FAILED {line}");
        }
        let boots: usize = self.machines.iter().map(|ran| ran.boots.len()).sum();
        let verdict = if self.holds() { "passed" } else { "FAILED" };
        let (held, failed) = (self.held(), failures.len());
        let (boots, held) = (count(boots, "boot"), count(held, "check"));
        println!("boot: {verdict}: {boots}, {held} held, {failed} failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(checks: &[(&str, bool)]) -> Verdict {
        let check = |&(name, ok): &(&str, bool)| Check {
            name: name.into(),
            ok,
            detail: String::new(),
        };
        let booted = Booted {
            checks: checks.iter().map(check).collect(),
            ..Booted::default()
        };
        let plan = Plan {
            mode: Mode::Strict,
            boots: vec![vec!["probe"]],
        };
        Verdict {
            machines: vec![Ran {
                plan,
                boots: vec![booted],
                stuck: None,
                counters: Vec::new(),
            }],
        }
    }

    #[test]
    fn all_that_is_expected_must_be_there_and_hold() {
        assert!(ran(&[("probe", true), ("kernel-log", true)]).holds());
        assert!(!ran(&[("probe", false), ("kernel-log", true)]).holds());
        let missing = ran(&[("probe", true)]);
        assert_eq!(missing.failures(), ["strict boot 1: kernel-log: not made"]);
    }

    #[test]
    fn a_machine_that_hangs_fails_and_so_does_none_at_all() {
        let mut hung = ran(&[("probe", true), ("kernel-log", true)]);
        hung.machines[0].stuck = Some("no end".into());
        assert!(!hung.holds());
        assert!(!Verdict::default().holds());
    }

    #[test]
    fn a_boot_that_never_came_is_a_failure() {
        let mut short = ran(&[("probe", true), ("kernel-log", true)]);
        short.machines[0].plan.boots.push(vec!["probe"]);
        assert_eq!(short.failures().len(), 2);
    }
}
