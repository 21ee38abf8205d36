//! The product crates build with the oldest rustc that `rust-version` promises.

mod debian;
mod toolchain;

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;
use toolchain::Rustc;

/// What a user of the project builds. Tests, benches and this program may ask for more.
const PRODUCT: [&str; 6] = [
    "vcmdq-sync",
    "smmu-core",
    "vcmdq-dispatch",
    "vcmdq",
    "vcmdq-remote",
    "vcmdq-cli",
];

/// What promises a newer one than the others, because of a library. No distribution has every rustc, so
/// this is checked where rustup has it.
const NEWER: [&str; 1] = ["vcmdq-iommufd"];

/// `cargo check` of the product with the rustc that it promises. The cargo is the present one: it reads
/// the lock file, and an older one proves nothing about the code.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    for package in NEWER {
        let version = promised_version(workspace, package)?;
        match toolchain::at_hand(&version) {
            Some(rustc) => check(workspace, &version, &rustc, &NEWER)?,
            None => println!("{}", not_checked(&NEWER, &version, "It is not installed")),
        }
    }
    let version = promised_version(workspace, "vcmdq")?;
    let rustc = match toolchain::find(workspace, &version) {
        Ok(rustc) => rustc,
        Err(reason) => {
            let reason = not_checked(&PRODUCT, &version, &format!("{reason:#}"));
            return Ok(Outcome::Skipped(reason));
        }
    };
    check(workspace, &version, &rustc, &PRODUCT)?;
    Ok(Outcome::Passed)
}

fn check(workspace: &Workspace, version: &str, rustc: &Rustc, packages: &[&str]) -> Result<()> {
    println!("rustc {version} of {}", rustc.origin);
    let mut check = cargo(workspace, ["check", "--all-features"]);
    for package in packages {
        check.args(["--package", package]);
    }
    check.env("CARGO_TARGET_DIR", workspace.target.join("msrv-build"));
    run_command(rustc.select(&mut check))
}

fn promised_version(workspace: &Workspace, name: &str) -> Result<String> {
    let mut packages = workspace.metadata.packages.iter();
    let package = packages.find(|package| package.name.as_str() == name);
    let version = package.and_then(|package| package.rust_version.clone());
    let version = version.with_context(|| format!("package {name} promises no rust-version"))?;
    Ok(format!("{}.{}", version.major, version.minor))
}

fn not_checked(packages: &[&str], version: &str, reason: &str) -> String {
    format!(
        "not checked: that {} build with rustc {version}. {reason}. \
         `rustup toolchain install {version}` mends it",
        packages.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_is_major_and_minor() {
        let workspace = Workspace::find().expect("cargo metadata");
        for package in PRODUCT.into_iter().chain(NEWER) {
            let version = promised_version(&workspace, package).expect("a rust-version");
            assert_eq!(version.split('.').count(), 2, "{version}");
        }
    }

    #[test]
    fn a_skip_says_what_was_not_checked_and_why() {
        let line = not_checked(&PRODUCT, "1.85", "no apt");
        assert!(line.contains("smmu-core") && line.contains("1.85") && line.contains("no apt"));
    }
}
