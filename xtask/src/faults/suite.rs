//! Test executables: building them without running, and running tests of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, Message, TargetKind};

use super::libtest::{self, Results};
use super::limit::{self, End};
use crate::command::{capture, line};

/// Names the switch that is on to `vcmdq_sync::broken!`.
const VARIABLE: &str = "BREAK_LAW";

/// A built test executable.
#[derive(Debug, Clone)]
pub(super) struct Suite {
    /// What of the package: `--lib`, `--bin x`, `--test x`.
    pub(super) target: Vec<String>,
    /// The directory of the package, in which cargo runs its tests.
    pub(super) directory: PathBuf,
    /// The executable.
    pub(super) path: PathBuf,
}

/// Builds what `command` (a `cargo test --no-run`) selects. Its output goes to `log`, and is
/// shown when it fails.
///
/// # Errors
///
/// It does not compile.
pub(super) fn build(command: &mut Command, log: &Path) -> Result<Vec<Suite>> {
    let stderr =
        fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stdin(Stdio::null()).stderr(stderr).output()?;
    if !output.status.success() {
        eprintln!("{}", fs::read_to_string(log)?);
        bail!("`{}` does not compile", line(command));
    }
    let mut suites = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message? {
            suites.extend(suite_of(&artifact));
        }
    }
    Ok(suites)
}

/// The suite that cargo reports with `artifact`, if it is one.
fn suite_of(artifact: &Artifact) -> Option<Suite> {
    let path = artifact
        .executable
        .as_ref()
        .filter(|_| artifact.profile.test)?;
    let name = artifact.target.name.clone();
    let target = match artifact.target.kind.first()? {
        TargetKind::Lib => vec!["--lib".to_owned()],
        TargetKind::Bin => vec!["--bin".to_owned(), name],
        TargetKind::Test => vec!["--test".to_owned(), name],
        _ => return None,
    };
    let directory = artifact.manifest_path.parent()?.into();
    Some(Suite {
        target,
        directory,
        path: path.into(),
    })
}

impl Suite {
    /// Where a person finds it: the name of a test file or program, or the crate's directory.
    pub(super) fn label(&self) -> String {
        match self.target.as_slice() {
            [_, name] => name.clone(),
            _ => self
                .directory
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// The names of its tests.
    ///
    /// # Errors
    ///
    /// The executable does not list them.
    pub(super) fn tests(&self) -> Result<Vec<String>> {
        Ok(libtest::listed(&capture(self.command().arg("--list"))?))
    }

    /// Runs these `tests`. With a `switch` turned on the first that fails is enough.
    ///
    /// # Errors
    ///
    /// The executable cannot be started.
    pub(super) fn run(
        &self,
        switch: Option<&str>,
        tests: &[String],
        log: &Path,
        limit: Duration,
    ) -> Result<(End, Results)> {
        let mut command = self.command();
        command.arg("--exact").args(tests);
        let end = match switch {
            None => limit::run(&mut command, log, limit)?,
            Some(switch) => {
                let one_failed = |text: &str| !libtest::results(text, tests).failed.is_empty();
                command.env(VARIABLE, switch);
                limit::run_until(&mut command, log, limit, one_failed)?
            }
        };
        let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        Ok((end, libtest::results(&output, tests)))
    }

    /// The executable as cargo would start it. Property tests draw the same cases every time,
    /// do not search long for a small failure, and leave no file behind.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.directory)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "16")
            .env("PROPTEST_RNG_SEED", "1")
            .env("RUST_BACKTRACE", "0");
        command
    }
}
