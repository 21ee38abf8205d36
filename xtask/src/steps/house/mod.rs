//! House rules that a compiler does not know, read from the text of the files.

mod code;
mod debris;
mod laws;
mod shape;
mod sync;
mod unsafe_code;

use std::fmt;
use vcmdq_wording::count;

use anyhow::{Result, ensure};

use crate::summary::Outcome;
use crate::workspace::{Source, Workspace};

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    what: String,
}

impl Finding {
    fn new(source: &Source, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: source.path.clone(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A rule and the function that finds where it is broken.
type Lint = (&'static str, fn(&[Source]) -> Vec<Finding>);

const LINTS: &[Lint] = &[
    (
        "atomics and threads come from crates/sync",
        sync::atomics_and_threads,
    ),
    (
        "smmu-core and dispatch reach no host through std",
        sync::host_interfaces,
    ),
    (
        "a file under crates/ has at most 500 lines",
        shape::long_files,
    ),
    (
        "lib.rs holds docs, attributes, mod and use",
        shape::code_in_lib_rs,
    ),
    ("a module begins with its docs", shape::missing_module_docs),
    (
        "unsafe stands in few files, all of them listed",
        unsafe_code::outside_of_list,
    ),
    ("nothing is unfinished or switched off", debris::unfinished),
    ("no path of somebody's machine", debris::paths_of_a_machine),
    (
        "a law that a switch breaks has tests named for it",
        laws::without_tests,
    ),
];

/// Applies every rule to the whole workspace.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let sources = workspace.texts()?;
    let mut broken = 0;
    for (rule, lint) in LINTS {
        let findings = lint(&sources);
        println!(
            "{} {rule}",
            if findings.is_empty() { "ok  " } else { "FAIL" }
        );
        for finding in &findings {
            println!("       {finding}");
        }
        broken += usize::from(!findings.is_empty());
    }
    ensure!(
        broken == 0,
        "{broken} of {} broken",
        count(LINTS.len(), "house rule")
    );
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod testing {
    use super::*;

    /// A file for a test.
    pub(super) fn file(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The lines in which `lint` finds something in one file.
    pub(super) fn lines(lint: fn(&[Source]) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        lint(&[file(path, text)])
            .iter()
            .map(|finding| finding.line)
            .collect()
    }
}
