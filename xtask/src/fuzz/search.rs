//! One search: a program of libFuzzer with its corpus, for some seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::build::Programs;
use crate::command::{line, show};

/// What an input may take at most: seconds, MiB of memory, and its own bytes. Inputs take micro- or
/// milliseconds and some MiB.
const LIMITS: [&str; 3] = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=4096"];

/// Lines of its output that are shown of a search that has found something else than a panic.
const SHOWN: usize = 40;

/// A target that can be searched.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) name: String,
    program: PathBuf,
    /// Inputs that have reached something new, kept from search to search.
    corpus: PathBuf,
    /// Inputs that have broken something.
    found: PathBuf,
    log: PathBuf,
}

impl Search {
    /// Makes the directories, and puts the seeds into the corpus.
    pub(super) fn prepare(programs: &Programs<'_>, name: &str) -> Result<Self> {
        let directory = programs.workspace.target.join("fuzz");
        let (corpus, found) = (directory.join("corpus").join(name), directory.join("found"));
        for directory in [&corpus, &found] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        programs.write_seeds(name, &corpus)?;
        Ok(Self {
            name: name.to_owned(),
            program: programs.command(name).get_program().into(),
            corpus,
            found,
            log: directory.join(format!("{name}.log")),
        })
    }

    /// Searches; what has been found, in words, or nothing.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub(super) fn run(&self, seconds: u64) -> Result<Option<String>> {
        let mut command = Command::new(&self.program);
        let prefix = self.found.join(format!("{}-", self.name));
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .args(LIMITS)
            .arg(format!("-artifact_prefix={}", prefix.display()))
            .arg(&self.corpus);
        show(&command);
        let log = fs::File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let status = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| format!("cannot start `{}`", line(&command)))?;
        // A target may print bytes of its input.
        let text = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if status.success() {
            println!("{}: {}", self.name, figures(&text));
            return Ok(None);
        }
        Ok(Some(self.report(&text, &status.to_string())))
    }

    /// The end of the output, with the input in it, and how to see it again.
    fn report(&self, text: &str, status: &str) -> String {
        let end = end(text);
        let again = match written(text) {
            Some(path) => again(&self.name, path),
            None => format!("no input was kept; the output is in {}", self.log.display()),
        };
        format!("{status}\n{end}\n{again}")
    }
}

/// The output from what it says of the panic on, or its last lines if it says nothing of one.
fn end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at "));
    let from = panic.unwrap_or_else(|| lines.len().saturating_sub(SHOWN));
    lines[from..].join("\n")
}

fn again(name: &str, path: &Path) -> String {
    format!(
        "To see it again: cargo xtask fuzz {name} --input {}\nFirst comes a test of the crate that \
         fails, then the fix.",
        path.display()
    )
}

/// Where libFuzzer says that it has kept the input.
fn written(text: &str) -> Option<&Path> {
    let mut lines = text.lines().rev();
    lines.find_map(|line| {
        line.split_once("Test unit written to ")
            .map(|(_, path)| Path::new(path))
    })
}

/// What a search that has found nothing has done.
fn figures(text: &str) -> String {
    let stat = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| {
            line.strip_prefix("stat::")?
                .strip_prefix(name)?
                .strip_prefix(':')
        })
    };
    let runs = stat("number_of_executed_units").map_or("?", str::trim);
    // `#1000 DONE cov: 812 ft: 2345 corp: 345/12Kb …`
    let last = text.lines().rev().find(|line| line.contains(" cov: "));
    let word = |name: &str| {
        let mut words = last.unwrap_or_default().split_whitespace();
        words.find(|word| *word == name)?;
        words.next()
    };
    let (edges, inputs) = (word("cov:").unwrap_or("?"), word("corp:").unwrap_or("?"));
    format!("{runs} runs reach {edges} edges with {inputs} inputs, and break nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_end() {
        let text = "#2\tINITED cov: 1 ft: 1 corp: 1/1b exec/s: 0 rss: 27Mb\n\
                    #9\tDONE   cov: 812 ft: 11 corp: 5/21b lim: 4 exec/s: 20 rss: 27Mb\n\
                    stat::number_of_executed_units: 9\nstat::peak_rss_mb:  27\n";
        let expected = "9 runs reach 812 edges with 5/21b inputs, and break nothing";
        assert_eq!(figures(text), expected);
    }

    #[test]
    fn a_panic_is_shown_with_its_reason_however_long_the_backtrace_is() {
        let frames: String = (0..90).map(|n| format!("{n}: somewhere\n")).collect();
        let text = format!("INFO: seed\nthread panicked at x.rs:1:2:\ntoo much\n{frames}");
        assert!(end(&text).starts_with("thread panicked at x.rs:1:2:\ntoo much\n0: "));
        assert_eq!(end(&frames).lines().count(), SHOWN);
    }

    #[test]
    fn the_input_that_was_found_is_named() {
        let text = "panicked at x\nartifact_prefix='a/'; Test unit written to a/ste-crash-1\nBase64: AA==\n";
        assert_eq!(written(text), Some(Path::new("a/ste-crash-1")));
        assert_eq!(written("panicked"), None);
        let again = again("ste", Path::new("a/ste-crash-1"));
        assert!(again.contains("cargo xtask fuzz ste --input a/ste-crash-1"));
    }
}
