//! `cargo xtask guest`: the programs that run inside a machine, static: that of `vcmdq boot --nesting` for
//! arm64, that of `vcmdq mock` for x86-64.
//!
//! Rust has a C library and a linker for those targets of its own, so that no compiler for C is needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{capture, cargo, run as run_command};
use crate::workspace::Workspace;

/// A program, for what it is built, and the directory below target/e2e where the tool looks for it.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
    target: &'static str,
    place: &'static str,
}

/// That of `vcmdq boot --nesting`.
pub(crate) const NESTING: Program = Program {
    name: "nesting",
    package: "vcmdq-guest",
    target: "aarch64-unknown-linux-musl",
    place: "guest",
};

/// That of `vcmdq mock`.
pub(crate) const MOCK: Program = Program {
    name: "mock",
    package: "vcmdq-mock",
    target: "x86_64-unknown-linux-musl",
    place: "mock",
};

/// Builds it to where the tool looks for it below target/e2e.
///
/// # Errors
///
/// It does not build.
pub(crate) fn build(workspace: &Workspace, program: &Program) -> Result<PathBuf> {
    let Program { name, target, .. } = program;
    let build = ["build", "--quiet", "--release", "--package"];
    let mut command = cargo(workspace, build);
    let linker = target.to_uppercase().replace('-', "_");
    command
        .args([program.package, "--target", target])
        .env(format!("CARGO_TARGET_{linker}_LINKER"), "rust-lld");
    run_command(&mut command)?;
    let place = workspace.target.join("e2e").join(program.place);
    fs::create_dir_all(&place)?;
    let copy = place.join(name);
    let built = workspace.target.join(target).join("release").join(name);
    fs::copy(&built, &copy).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(copy)
}

/// Has the target's standard library be there, fetched if rustup can.
///
/// # Errors
///
/// There is none and rustup has none.
pub(crate) fn install_target(program: &Program) -> Result<()> {
    let target = program.target;
    let there = || -> Result<bool> {
        let print = ["--print", "target-libdir", "--target", target];
        let libraries = capture(Command::new("rustc").args(print))?;
        Ok(PathBuf::from(libraries.trim()).is_dir())
    };
    if there()? {
        return Ok(());
    }
    let added = run_command(Command::new("rustup").args(["target", "add", target]));
    let advice = || format!("this Rust has no {target}: install that target's standard library");
    added.with_context(advice)?;
    ensure!(there()?, "{}", advice());
    Ok(())
}
