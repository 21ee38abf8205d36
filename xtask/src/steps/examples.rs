//! The examples of the crates under `crates/`: each runs to its end and prints what its header says.
//!
//! The header is the documentation at the beginning of the file. Its blocks marked `text` are what the
//! example may print; one of them it must print, to the letter. So no header says what is not true.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Target;

use crate::command::{cargo, run as run_command, show};
use crate::faults::limit::{self, End};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Each takes less than a second; what takes so long hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Builds all of them, with what the tests are built from, and runs one after the other.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let examples = of_crates(workspace);
    ensure!(!examples.is_empty(), "there are no examples");
    let mut build = cargo(workspace, ["build", "--workspace"]);
    for example in &examples {
        build.args(["--example", &example.name]);
    }
    run_command(&mut build)?;
    let built = workspace.target.join("debug/examples");
    for example in examples {
        let source = fs::read_to_string(&example.src_path)?;
        let log = built.join(&example.name).with_extension("log");
        let mut command = Command::new(built.join(&example.name));
        show(&command);
        check(&mut command, &log, &source).with_context(|| format!("example {}", example.name))?;
    }
    Ok(Outcome::Passed)
}

/// The examples of the packages under `crates/`; those elsewhere are tools.
fn of_crates(workspace: &Workspace) -> Vec<&Target> {
    let crates = workspace.root.join("crates");
    let packages = workspace.metadata.packages.iter();
    let targets = packages.flat_map(|package| &package.targets);
    targets
        .filter(|target| target.is_example() && target.src_path.starts_with(&crates))
        .collect()
}

/// Runs an example whose source is `source`; what it prints is kept in `log`.
fn check(command: &mut Command, log: &Path, source: &str) -> Result<()> {
    let expected = printed(source);
    ensure!(
        !expected.is_empty(),
        "its header has no block marked `text` that says what it prints"
    );
    let end = limit::run(command, log, LIMIT)?;
    let output = fs::read_to_string(log)?;
    print!("{output}");
    match end {
        End::Exit(status) if status.success() => {}
        End::Exit(status) => bail!("it failed ({status})"),
        End::OutOfTime | End::Enough => {
            bail!("it was not done within {} s", LIMIT.as_secs())
        }
    }
    if !expected.iter().any(|block| block == output.trim_end()) {
        bail!("it does not print what its header says:\n{}", expected[0]);
    }
    Ok(())
}

/// The blocks marked `text` of a file's header.
fn printed(source: &str) -> Vec<String> {
    let header = source.lines().map_while(|line| line.strip_prefix("//!"));
    let mut blocks = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in header.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
        match (line, &mut block) {
            ("```text", None) => block = Some(Vec::new()),
            ("```", Some(lines)) => {
                blocks.push(lines.join("\n"));
                block = None;
            }
            (line, Some(lines)) => lines.push(line),
            (_, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! About.\n//!\n//! ```text\n//! a\n//!\n//!   b\n//! ```\n//!\n\
                          //! ```text\n//! or c\n//! ```\n\n//! ```text\n//! no header\n//! ```\n";

    #[test]
    fn what_an_example_prints_stands_in_the_blocks_of_its_header() {
        assert_eq!(printed(SOURCE), ["a\n\n  b", "or c"]);
        assert!(printed("//! ```\n//! code\n//! ```\n").is_empty());
    }

    #[test]
    fn the_tutorial_is_among_them_and_tools_are_not() {
        let workspace = Workspace::find().expect("cargo metadata");
        let examples = of_crates(&workspace);
        let names: Vec<_> = examples.iter().map(|target| target.name.as_str()).collect();
        assert!(names.contains(&"smallest-vmm"), "{names:?}");
        assert!(!names.contains(&"rows"), "{names:?}");
    }

    /// Of a shell script in the place of an example.
    fn verdict(script: &str, source: &str) -> Result<()> {
        let name = format!("xtask-example-{}-{}", std::process::id(), script.len());
        let log = std::env::temp_dir().join(name);
        let verdict = check(Command::new("sh").args(["-c", script]), &log, source);
        if log.exists() {
            fs::remove_file(&log)?;
        }
        verdict
    }

    #[test]
    fn other_output_another_exit_status_or_no_header_is_a_failure() {
        verdict("printf 'a\\n\\n  b\\n'", SOURCE).expect("the first block");
        verdict("echo or c", SOURCE).expect("the second block");
        let why = |script, header| format!("{:#}", verdict(script, header).expect_err(script));
        assert!(why("echo a", SOURCE).contains("does not print"));
        assert!(why("echo or c; exit 3", SOURCE).contains("exit status: 3"));
        assert!(why("echo or c; ", "//! About.\n").contains("no block"));
    }
}
