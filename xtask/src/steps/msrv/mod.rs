//! The product crates build with the oldest rustc that `rust-version` promises.

mod debian;
mod toolchain;

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// What a user of the project builds. Tests, benches and this program may ask for more.
const PRODUCT: [&str; 7] = [
    "vcmdq-sync",
    "smmu-core",
    "vcmdq-dispatch",
    "vcmdq",
    "vcmdq-remote",
    "vcmdq-iommufd",
    "vcmdq-cli",
];

/// `cargo check` of the [`PRODUCT`] with that rustc. The cargo is the present one: it reads
/// the lock file, and an older one proves nothing about the code.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let version = promised_version(workspace)?;
    let rustc = match toolchain::find(workspace, &version) {
        Ok(rustc) => rustc,
        Err(reason) => return Ok(Outcome::Skipped(skipped(&version, &format!("{reason:#}")))),
    };
    println!("rustc {version} of {}", rustc.origin);
    let mut check = cargo(workspace, ["check", "--all-features"]);
    for package in PRODUCT {
        check.args(["--package", package]);
    }
    check.env("CARGO_TARGET_DIR", workspace.target.join("msrv-build"));
    run_command(rustc.select(&mut check))?;
    Ok(Outcome::Passed)
}

fn promised_version(workspace: &Workspace) -> Result<String> {
    let packages = &workspace.metadata.packages;
    let vcmdq = packages
        .iter()
        .find(|package| package.name.as_str() == "vcmdq");
    let version = vcmdq.and_then(|package| package.rust_version.clone());
    let version = version.context("package vcmdq promises no rust-version")?;
    Ok(format!("{}.{}", version.major, version.minor))
}

fn skipped(version: &str, reason: &str) -> String {
    format!(
        "not checked: that {} build with rustc {version}. {reason}. \
         `rustup toolchain install {version}` mends it",
        PRODUCT.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_is_major_and_minor() {
        let workspace = Workspace::find().expect("cargo metadata");
        let version = promised_version(&workspace).expect("a rust-version");
        assert_eq!(version.split('.').count(), 2, "{version}");
    }

    #[test]
    fn a_skip_says_what_was_not_checked_and_why() {
        let line = skipped("1.85", "no apt");
        assert!(line.contains("smmu-core") && line.contains("1.85") && line.contains("no apt"));
    }
}
