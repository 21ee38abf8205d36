//! Coverage-guided searches for inputs that break something: the targets of `fuzz/`, with libFuzzer.
//!
//! They run on a stable toolchain: rustc's own flags have LLVM mark the edges, and `libfuzzer-sys`
//! brings libFuzzer. It is C++, so a compiler for that has to be there.

mod build;
mod search;

use std::path::Path;
use vcmdq_wording::count;

use anyhow::{Result, bail, ensure};

use self::build::Programs;
use self::search::Search;
use crate::command::run as run_command;
use crate::parallel;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// How long each target is searched when nobody says.
pub(crate) const SECONDS: u64 = 60;

/// A target and how many seconds it is searched.
pub(crate) type Time = (String, u64);

/// Searches targets: as many at a time as there are processors, in this order. Skipped without a C++
/// compiler.
///
/// # Errors
///
/// The programs do not build, or a search has found something.
pub(crate) fn run(workspace: &Workspace, times: &[Time]) -> Result<Outcome> {
    let names: Vec<String> = times.iter().map(|(name, _)| name.clone()).collect();
    let Some(programs) = Programs::build(workspace, &names)? else {
        let what = "not searched: inputs that break something. No C++ compiler; `apt-get install \
                    g++` mends it";
        return Ok(Outcome::Skipped(what.into()));
    };
    let searches = times
        .iter()
        .map(|(name, seconds)| Ok((Search::prepare(&programs, name)?, *seconds)));
    let searches = searches.collect::<Result<Vec<_>>>()?;
    let found = parallel::each(&searches, |(search, seconds)| {
        let bad = search.run(*seconds);
        let why = bad.unwrap_or_else(|e| Some(format!("{e:#}")))?;
        Some(format!("{}: {why}", search.name))
    });
    let found: Vec<String> = found.into_iter().flatten().collect();
    for one in &found {
        println!("\n{one}");
    }
    ensure!(found.is_empty(), "failed: {}", count(found.len(), "target"));
    Ok(Outcome::Passed)
}

/// The same for a person: `false` when nothing could be searched. With an input, one target runs with
/// that instead.
///
/// # Errors
///
/// There is no such target; or as for [`run`].
pub(crate) fn perform(
    workspace: &Workspace,
    names: &[String],
    seconds: u64,
    input: Option<&Path>,
) -> Result<bool> {
    let outcome = match input {
        None => {
            let chosen = choose(workspace, names)?.into_iter();
            let times: Vec<Time> = chosen.map(|name| (name, seconds)).collect();
            run(workspace, &times)?
        }
        Some(input) => again(workspace, names, input)?,
    };
    if let Outcome::Skipped(what) = &outcome {
        println!("SKIPPED: {what}");
    }
    Ok(outcome == Outcome::Passed)
}

/// Runs a target with one input.
///
/// # Errors
///
/// As for [`perform`]; or the input still breaks something.
fn again(workspace: &Workspace, names: &[String], input: &Path) -> Result<Outcome> {
    let [name] = names else {
        bail!("an input is for one target: `cargo xtask fuzz TARGET --input FILE`");
    };
    let Some(programs) = Programs::build(workspace, &choose(workspace, names)?)? else {
        bail!("there is no C++ compiler");
    };
    let mut command = programs.command(name);
    run_command(
        command
            .arg(input.canonicalize()?)
            .env("RUST_BACKTRACE", "1"),
    )?;
    Ok(Outcome::Passed)
}

/// Every target.
pub(crate) fn names(workspace: &Workspace) -> Vec<String> {
    build::targets(&workspace.metadata)
}

/// The targets to search: all when none is named.
fn choose(workspace: &Workspace, names: &[String]) -> Result<Vec<String>> {
    let all = self::names(workspace);
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
        ensure!(
            all.contains(name),
            "no target {name} among {}",
            all.join(", ")
        );
    }
    Ok(names.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_are_searched_unless_some_are_named() {
        let workspace = Workspace::find().expect("cargo metadata");
        let all = choose(&workspace, &[]).expect("all");
        assert!(
            all.len() >= 5 && all.contains(&"descriptors".to_owned()),
            "{all:?}"
        );
        assert!(!all.contains(&"seeds".to_owned()), "it is for no search");
        let some = ["ste".to_owned()];
        assert_eq!(choose(&workspace, &some).expect("one"), some);
        let error = choose(&workspace, &["nonsense".to_owned()]).expect_err("no target");
        assert!(error.to_string().contains("descriptors"), "{error}");
    }
}
