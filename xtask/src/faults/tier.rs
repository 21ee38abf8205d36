//! Kinds of tests that may notice a fault, each built in its own way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vcmdq_wording::count;

use anyhow::Result;
use cargo_metadata::Target;

use super::built::{Built, Held};
use super::libtest::is_for_law;
use super::suite;
use super::switch::Switch;
use crate::command::cargo;
use crate::steps::{LOOM_FLAGS, target_of_loom};
use crate::workspace::{Source, Workspace};

/// A kind of tests.
#[derive(Debug)]
pub(super) struct Tier {
    packages: &'static [&'static str],
    kind: Kind,
    /// How long one executable may take with a fault in it, at most. What takes longer hangs.
    pub(super) limit: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Quick ones.
    Tests,
    /// Exhaustive searches.
    Models,
}

/// The kinds, quick ones first.
pub(super) const TIERS: [Tier; 2] = [
    Tier {
        packages: &[
            "smmu-core",
            "vcmdq-dispatch",
            "vcmdq",
            "vcmdq-iommufd",
            "vcmdq-cli",
        ],
        kind: Kind::Tests,
        limit: Duration::from_secs(60),
    },
    Tier {
        packages: &["loom-tests"],
        kind: Kind::Models,
        limit: Duration::from_secs(120),
    },
];

/// Below the target directory: what the tests have printed.
const LOGS: &str = "break";

/// Compiles with the faults. Cargo asks it for the crates of this workspace only, so that all others are those
/// that the tests without faults are linked with.
const COMPILER: &str = "#!/bin/sh\nexec \"$@\" --cfg break_laws\n";

impl Tier {
    /// Builds the tests that are named for a law which one of the `switches` breaks. Quick ones are run
    /// without any fault at once, which also says how long each executable takes.
    ///
    /// # Errors
    ///
    /// They do not compile, or do not pass.
    pub(super) fn build(
        &'static self,
        workspace: &Workspace,
        switches: &[Switch],
    ) -> Result<Built> {
        let laws: BTreeSet<u32> = switches.iter().map(|switch| switch.law).collect();
        let logs = workspace.target.join(LOGS);
        fs::create_dir_all(&logs)?;
        let start = Instant::now();
        let mut command = self.cargo_test(workspace, &logs)?;
        for package in self.packages {
            command.args(["--package", package]);
        }
        command.args(["--lib", "--bins"]);
        for name in self.naming(workspace, &laws)? {
            command.args(["--test", &name]);
        }
        let mut held = Vec::new();
        for suite in suite::build(&mut command, &logs.join("build.log"))? {
            let mut tests = suite.tests()?;
            tests.retain(|test| laws.iter().any(|law| is_for_law(test, *law)));
            if !tests.is_empty() {
                held.push(Held::new(suite, tests));
            }
        }
        let took = start.elapsed().as_secs_f64();
        let executables = count(held.len(), "executable");
        println!("{executables} built in {took:.1} s");
        let mut built = Built::new(held, self.limit, logs);
        if self.kind == Kind::Tests {
            built.prove()?;
        }
        Ok(built)
    }

    /// `cargo test --no-run`, with all faults in it that the environment can turn on. Debug information
    /// would only cost time and disk: nobody debugs a fault made on purpose.
    fn cargo_test(&self, workspace: &Workspace, logs: &Path) -> Result<Command> {
        let mut command = cargo(workspace, ["test", "--no-run"]);
        command
            .env("RUSTC_WORKSPACE_WRAPPER", compiler(logs)?)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0");
        if self.kind == Kind::Models {
            command
                .args(["--profile", "loom"])
                .env("CARGO_TARGET_DIR", target_of_loom(workspace))
                .env("RUSTFLAGS", LOOM_FLAGS);
        }
        Ok(command)
    }

    /// The files of tests in which a test is named for one of these laws.
    fn naming(&self, workspace: &Workspace, laws: &BTreeSet<u32>) -> Result<BTreeSet<String>> {
        let sources = workspace.rust_files()?;
        let packages = workspace.metadata.packages.iter();
        let ours = packages.filter(|package| self.packages.contains(&package.name.as_str()));
        let targets = ours.flat_map(|package| &package.targets);
        let tests = targets.filter(|target| target.is_test());
        let naming = tests.filter(|target| {
            let place = place_of(target, &workspace.root);
            names(&sources, &place, laws)
        });
        Ok(naming.map(|target| target.name.clone()).collect())
    }
}

/// Where the source of a test lies: a file, or the directory of a `main.rs`.
fn place_of(target: &Target, root: &Path) -> String {
    let path = target.src_path.as_std_path();
    let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
    path.strip_suffix("main.rs").unwrap_or(&path).to_owned()
}

fn names(sources: &[Source], place: &str, laws: &BTreeSet<u32>) -> bool {
    let mut there = sources
        .iter()
        .filter(|source| source.path.starts_with(place));
    there.any(|source| laws.iter().any(|law| is_for_law(&source.text, *law)))
}

/// Puts the [`COMPILER`] there.
fn compiler(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("rustc-with-faults");
    if fs::read_to_string(&path).ok().as_deref() != Some(COMPILER) {
        fs::write(&path, COMPILER)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_a_directory_with_a_main_are_looked_through() {
        let source = |path: &str, text: &str| Source {
            path: path.into(),
            text: text.into(),
        };
        let sources = [
            source("crates/x/tests/a.rs", "fn law1_a() {}"),
            source("crates/x/tests/b/main.rs", "mod c;"),
            source("crates/x/tests/b/c.rs", "fn law11_c() {}"),
        ];
        let has = |place, law| names(&sources, place, &[law].into());
        assert!(has("crates/x/tests/a.rs", 1) && !has("crates/x/tests/a.rs", 11));
        assert!(has("crates/x/tests/b/", 11) && !has("crates/x/tests/b/", 1));
    }

    #[test]
    fn the_tests_that_are_named_for_a_law_are_found_in_every_tier() {
        let workspace = Workspace::find().expect("cargo metadata");
        for tier in &TIERS {
            let found = tier.naming(&workspace, &[5].into()).expect("readable");
            assert!(!found.is_empty(), "{tier:?}");
        }
        let models = TIERS[1].naming(&workspace, &[5].into()).expect("readable");
        assert!(
            models.contains("doorbell") && !models.contains("tlb"),
            "{models:?}"
        );
    }

    #[test]
    fn the_compiler_adds_the_faults_to_what_it_is_asked() {
        let directory = std::env::temp_dir().join(format!("xtask-tier-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = compiler(&directory).expect("a script");
        let output = Command::new("sh").arg(path).args(["echo", "x"]).output();
        fs::remove_dir_all(&directory).expect("a directory");
        assert_eq!(output.expect("sh").stdout, b"x --cfg break_laws\n");
    }
}
