//! Breaking the laws on purpose, to see whether the tests notice.
//!
//! The product holds switches, `broken!(break_law4a)` and the like, each of which breaks one law
//! as a tired colleague would. A build with `--cfg break_laws` holds all of them, each turned off
//! unless the environment names it. For each switch this runs the tests whose name contains `law4_`
//! ([`suite`]), until one of them fails, hangs or crashes.
//!
//! Without any switch those tests must pass, in the same build. The tests outside the models are asked
//! first, because they are quick.

pub(crate) mod switch;

mod built;
mod libtest;
pub(crate) mod limit;
mod report;
mod suite;
mod tier;

use std::time::{Duration, Instant};
use vcmdq_wording::count;

use anyhow::{Result, bail, ensure};

use self::built::Built;
use self::report::Verdict;
use self::switch::Switch;
use self::tier::TIERS;
use crate::parallel;
use crate::workspace::Workspace;

/// Laws that the product must be able to break, in at least [`EACH`] ways.
const LAWS: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// One way to break a law may be caught by luck.
const EACH: usize = 2;

/// Breaks what `wanted` names (everything, when it is empty) and prints what caught it.
///
/// # Errors
///
/// A law has too few switches, a switch is unknown or undescribed, a test fails without any switch, or a switch is caught by no test of its law.
pub(crate) fn run(workspace: &Workspace, wanted: &[String]) -> Result<()> {
    let found = switch::scan(&workspace.rust_files()?);
    let chosen = if wanted.is_empty() {
        switch::demand(&found, LAWS, EACH)?;
        found
    } else {
        choose(found, wanted)?
    };
    let verdicts = ask(workspace, chosen)?;
    print!("\n{}", report::table(&verdicts));
    println!("{}", report::slowest(&verdicts));
    let missed = verdicts
        .iter()
        .filter(|verdict| verdict.caught_by.is_empty())
        .count();
    ensure!(
        missed == 0,
        "caught by no test: {missed} of {}",
        count(verdicts.len(), "switch")
    );
    Ok(())
}

/// Prints the switches and what they break.
///
/// # Errors
///
/// A file cannot be read.
pub(crate) fn list(workspace: &Workspace) -> Result<()> {
    for switch in switch::scan(&workspace.rust_files()?) {
        println!("{:<14} {} ({})", switch.name, switch.about, switch.path);
    }
    Ok(())
}

fn choose(found: Vec<Switch>, wanted: &[String]) -> Result<Vec<Switch>> {
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !found.iter().any(|s| s.name == **name))
    {
        bail!("the product has no switch {unknown}; `cargo xtask break --list` shows them all");
    }
    Ok(found
        .into_iter()
        .filter(|switch| wanted.contains(&switch.name))
        .collect())
}

/// What became of each switch. A tier is built for those that no tier before it has caught, and asked
/// about as many at a time as there are processors.
fn ask(workspace: &Workspace, switches: Vec<Switch>) -> Result<Vec<Verdict>> {
    let unknown = |switch| Verdict {
        switch,
        caught_by: Vec::new(),
        took: Duration::ZERO,
    };
    let mut verdicts: Vec<Verdict> = switches.into_iter().map(unknown).collect();
    for tier in &TIERS {
        let open = verdicts.iter().filter(|one| one.caught_by.is_empty());
        let open: Vec<Switch> = open.map(|one| one.switch.clone()).collect();
        if open.is_empty() {
            break;
        }
        let built = tier.build(workspace, &open)?;
        let mut answers = parallel::each(&open, |switch| challenge(&built, switch)).into_iter();
        for verdict in verdicts.iter_mut().filter(|one| one.caught_by.is_empty()) {
            if let Some(answer) = answers.next() {
                let answer = answer?;
                verdict.caught_by = answer.caught_by;
                verdict.took += answer.took;
            }
        }
    }
    Ok(verdicts)
}

/// What one tier says of a switch; shown if that is the end of it.
fn challenge(built: &Built, switch: &Switch) -> Result<Verdict> {
    let start = Instant::now();
    let caught_by = built.challenge(switch)?;
    let verdict = Verdict {
        switch: switch.clone(),
        caught_by,
        took: start.elapsed(),
    };
    if !verdict.caught_by.is_empty() {
        println!("{}", report::line(&verdict));
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_not_there_is_refused_by_name() {
        let found = vec![switch::example("break_law4a")];
        let error = choose(found.clone(), &["break_law4z".into()]).expect_err("unknown");
        assert!(error.to_string().contains("break_law4z"));
        let chosen = choose(found, &["break_law4a".into()]).expect("known");
        assert_eq!(chosen[0].name, "break_law4a");
    }
}
