//! `cargo xtask guest`: the program that runs in the guest of `vcmdq boot --nesting`, for arm64 and static.
//!
//! Rust has a C library and a linker for that target of its own, so that no compiler for C is needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{capture, cargo, run as run_command};
use crate::workspace::Workspace;

const TARGET: &str = "aarch64-unknown-linux-musl";
const PROGRAM: &str = "nesting";

/// Builds it to where `vcmdq boot` looks for it below target/e2e.
///
/// # Errors
///
/// It does not build.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let build = ["build", "--quiet", "--release", "--package", "vcmdq-guest"];
    let mut command = cargo(workspace, build);
    command
        .args(["--target", TARGET])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
    run_command(&mut command)?;
    let place = workspace.target.join("e2e/guest");
    fs::create_dir_all(&place)?;
    let program = place.join(PROGRAM);
    let built = workspace.target.join(TARGET).join("release").join(PROGRAM);
    fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(program)
}

/// Has the target's standard library be there, fetched if rustup can.
///
/// # Errors
///
/// There is none and rustup has none.
pub(crate) fn install_target() -> Result<()> {
    let there = || -> Result<bool> {
        let print = ["--print", "target-libdir", "--target", TARGET];
        let libraries = capture(Command::new("rustc").args(print))?;
        Ok(PathBuf::from(libraries.trim()).is_dir())
    };
    if there()? {
        return Ok(());
    }
    let added = run_command(Command::new("rustup").args(["target", "add", TARGET]));
    let advice = || format!("this Rust has no {TARGET}: install that target's standard library");
    added.with_context(advice)?;
    ensure!(there()?, "{}", advice());
    Ok(())
}
