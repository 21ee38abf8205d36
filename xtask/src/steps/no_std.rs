//! `smmu-core` without its feature `std` needs nothing but `core` and `alloc`.
//!
//! A check on a host proves little, because `std` is there and a dependency may link it. So
//! the crate and its tree are checked against a sysroot that holds `core`, `alloc` and
//! `compiler_builtins` and nothing else: a crate that wants `std` does not compile. Procedural
//! macros run on the host and keep the real one.
//!
//! What this does not prove: that the crate builds for a machine without 64-bit atomics or
//! with another pointer width.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{capture, cargo, run as run_command};
use crate::summary::Outcome;
use crate::workspace::Workspace;

const CRATES: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// `cargo check -p smmu-core` against a sysroot without `std`.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let check = ["check", "--package", "smmu-core", "--no-default-features"];
    let host = host()?;
    let directory = workspace.target.join("no_std");
    let sysroot = directory.join("sysroot");
    build_sysroot(&sysroot, &host)?;
    run_command(
        cargo(workspace, check)
            .args(["--target", &host])
            .env("CARGO_TARGET_DIR", directory)
            .env("RUSTFLAGS", format!("--sysroot={}", sysroot.display())),
    )?;
    println!("proven: smmu-core and all that it links build with core and alloc alone");
    println!("not proven: targets without 64-bit atomics, other pointer widths");
    Ok(Outcome::Passed)
}

/// The triple of this machine.
pub(crate) fn host() -> Result<String> {
    let version = capture(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Fills `sysroot` anew with links to the [`CRATES`] of the real one.
fn build_sysroot(sysroot: &Path, host: &str) -> Result<()> {
    let real = PathBuf::from(capture(rustc().args(["--print", "sysroot"]))?.trim());
    let libraries = Path::new("lib/rustlib").join(host).join("lib");
    let (from, to) = (real.join(&libraries), sysroot.join(&libraries));
    if sysroot.exists() {
        fs::remove_dir_all(sysroot)?;
    }
    fs::create_dir_all(&to)?;
    let mut found = [false; CRATES.len()];
    for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
        let name = entry?.file_name();
        if let Some(index) = position(&name.to_string_lossy()) {
            symlink(from.join(&name), to.join(&name))?;
            found[index] = true;
        }
    }
    ensure!(
        found == [true; CRATES.len()],
        "{} lacks one of {CRATES:?}",
        from.display()
    );
    Ok(())
}

/// Which of [`CRATES`] the library file `name` (`libcore-….rlib`) belongs to.
fn position(name: &str) -> Option<usize> {
    CRATES.iter().position(|krate| {
        name.strip_prefix("lib")
            .and_then(|rest| rest.strip_prefix(krate))
            .is_some_and(|rest| rest.starts_with('-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn std_and_what_only_std_needs_stay_out_of_the_sysroot() {
        assert_eq!(position("libcore-0a.rlib"), Some(0));
        assert_eq!(position("liballoc-0a.rmeta"), Some(1));
        for name in [
            "libstd-0a.rlib",
            "librustc_std_workspace_core-0a.rlib",
            "libcorelib-0.rlib",
        ] {
            assert_eq!(position(name), None, "{name}");
        }
    }
}
