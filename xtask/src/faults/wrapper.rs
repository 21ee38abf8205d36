//! A stand-in for rustc that adds one cfg.
//!
//! Cargo calls `RUSTC_WORKSPACE_WRAPPER` for members of the workspace only, and its path is
//! part of what cargo takes a member's build for. So one copy of this executable per switch,
//! named after the switch, builds members anew for each switch and dependencies once; and
//! the copy knows from its own name what to add.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::switch::{Switch, names_in};
use crate::workspace::Workspace;

/// The switch that this process is to add, when it was started as a wrapper.
pub(crate) fn switch_of_this_process() -> Option<String> {
    switch_of(&std::env::args_os().next()?)
}

fn switch_of(program: &OsString) -> Option<String> {
    let file = Path::new(program)
        .file_name()?
        .to_string_lossy()
        .into_owned();
    let names = names_in(&file);
    (names.first()?.text == file).then_some(file)
}

/// Becomes `rustc arguments… --cfg switch`. Warnings are of no interest in code that is
/// meant to be wrong.
pub(crate) fn compile_with(switch: &str) -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(rustc) = arguments.next() else {
        eprintln!("{switch} is a wrapper of rustc: rustc and its arguments are missing");
        return ExitCode::FAILURE;
    };
    let extra = ["--cfg", switch, "--cap-lints", "allow"];
    let error = Command::new(&rustc).args(arguments).args(extra).exec();
    eprintln!("cannot start {}: {error}", rustc.to_string_lossy());
    ExitCode::FAILURE
}

/// Where the wrapper of the switch `name` lies.
pub(super) fn path(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target.join("break/wrap").join(name)
}

/// Copies this executable to the [`path`] of each switch.
///
/// # Errors
///
/// It cannot be read or the copies cannot be written.
pub(super) fn install(workspace: &Workspace, switches: &[Switch]) -> Result<()> {
    // A build of this package in the meantime may have replaced the file that this process
    // was started from; the kernel still has it.
    let this = fs::read("/proc/self/exe").context("cannot read this executable")?;
    let mode = fs::metadata("/proc/self/exe")?.permissions();
    for switch in switches {
        let path = path(workspace, &switch.name);
        if fs::read(&path).is_ok_and(|old| old == this) {
            continue;
        }
        fs::create_dir_all(path.parent().context("a wrapper lies in a directory")?)?;
        // Written beside and renamed: a wrapper that runs cannot be written over.
        let beside = path.with_extension("new");
        fs::write(&beside, &this)?;
        fs::set_permissions(&beside, mode.clone())?;
        fs::rename(&beside, &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_named_like_a_switch_is_a_wrapper() {
        let of = |program: &str| switch_of(&OsString::from(program));
        assert_eq!(
            of("/target/break/wrap/break_law4a").as_deref(),
            Some("break_law4a")
        );
        assert_eq!(of("/target/break_law4a/xtask"), None);
        assert_eq!(of("break_law4a.new"), None);
        assert_eq!(of("target/debug/xtask"), None);
    }
}
