//! The programs of `fuzz/targets`, instrumented.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use cargo_metadata::Metadata;

use crate::command::{cargo, run as run_command, succeeds};
use crate::steps::host_triple;
use crate::workspace::Workspace;

const PACKAGE: &str = "vcmdq-fuzz";
/// The feature that a program needs which libFuzzer starts.
const FEATURE: &str = "libfuzzer";

/// Edges are counted, and both sides of comparisons are shown to libFuzzer. No code of ours is built
/// with warnings.
const RUSTFLAGS: &str = "-Dwarnings -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Built programs.
#[derive(Debug)]
pub(super) struct Programs<'w> {
    pub(super) workspace: &'w Workspace,
    directory: PathBuf,
}

/// Every program of the package that libFuzzer starts.
pub(super) fn targets(metadata: &Metadata) -> Vec<String> {
    let packages = metadata.packages.iter();
    let ours = packages.filter(|package| package.name.as_str() == PACKAGE);
    let targets = ours.flat_map(|package| &package.targets);
    let searched = targets.filter(|target| target.required_features.iter().any(|f| f == FEATURE));
    searched.map(|target| target.name.clone()).collect()
}

impl<'w> Programs<'w> {
    /// Builds them; nothing if there is no C++ compiler.
    pub(super) fn build(workspace: &'w Workspace, names: &[String]) -> Result<Option<Self>> {
        let Some(compiler) = compiler() else {
            return Ok(None);
        };
        // A directory of its own, as the flags would rebuild everything; and a named host, so that
        // they are not for build scripts.
        let (host, target) = (host_triple()?, workspace.target.join("fuzz"));
        let arguments = ["build", "--package", PACKAGE, "--features", FEATURE];
        let mut command = cargo(workspace, arguments);
        command.args(["--profile", "fuzz", "--target", &host]);
        names.iter().for_each(|name| {
            command.args(["--bin", name]);
        });
        command
            .env("RUSTFLAGS", RUSTFLAGS)
            .env("CARGO_TARGET_DIR", &target)
            .env("CXX", compiler);
        run_command(&mut command)?;
        Ok(Some(Self {
            workspace,
            directory: target.join(host).join("fuzz"),
        }))
    }

    /// One of them, without arguments.
    pub(super) fn command(&self, name: &str) -> Command {
        Command::new(self.directory.join(name))
    }

    /// Has the package write a target's seeds.
    pub(super) fn write_seeds(&self, name: &str, directory: &Path) -> Result<()> {
        let arguments = ["run", "--quiet", "--package", PACKAGE, "--bin", "seeds"];
        let mut command = cargo(self.workspace, arguments);
        run_command(command.arg("--").arg(name).arg(directory))
    }
}

/// The C++ compiler that the environment names, or the first usual one that there is.
fn compiler() -> Option<String> {
    let named = env::var("CXX").into_iter();
    let usual = ["c++", "g++", "clang++"].map(str::to_owned);
    let mut all = named.chain(usual);
    all.find(|compiler| succeeds(Command::new(compiler).arg("--version")))
}
