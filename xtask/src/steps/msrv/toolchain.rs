//! Finds a rustc of a given version: the present one, rustup's, or Debian's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::debian;
use crate::command::capture;
use crate::workspace::Workspace;

/// A rustc and what it needs.
#[derive(Debug)]
pub(super) struct Rustc {
    /// The executable.
    pub(super) path: PathBuf,
    /// Where its shared libraries lie, when the loader does not know.
    pub(super) libraries: Option<PathBuf>,
    /// Who made it, for people.
    pub(super) origin: &'static str,
}

impl Rustc {
    /// Has `command`, a cargo or the rustc itself, use this compiler.
    pub(super) fn select<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("RUSTC", &self.path);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Whether this rustc starts and is of `version` (`1.85`, any patch level).
    pub(super) fn is(&self, version: &str) -> bool {
        let output = capture(self.select(Command::new(&self.path).arg("-vV")));
        output.is_ok_and(|output| release_is(&output, version))
    }
}

/// A rustc of `version`.
///
/// # Errors
///
/// None is installed and none can be had; says why.
pub(super) fn find(workspace: &Workspace, version: &str) -> Result<Rustc> {
    if let Some(rustc) = at_hand(version) {
        return Ok(rustc);
    }
    debian::obtain(&workspace.target.join("msrv"), version)
        .with_context(|| format!("rustup has no {version}, nor has Debian"))
}

/// One that is installed.
pub(super) fn at_hand(version: &str) -> Option<Rustc> {
    let present = Rustc {
        path: "rustc".into(),
        libraries: None,
        origin: "this machine",
    };
    match present.is(version) {
        true => Some(present),
        false => of_rustup(version),
    }
}

fn of_rustup(version: &str) -> Option<Rustc> {
    let list = capture(Command::new("rustup").args(["toolchain", "list"])).ok()?;
    let name = toolchain_of(&list, version)?;
    let which = ["which", "--toolchain", name, "rustc"];
    let path = capture(Command::new("rustup").args(which)).ok()?;
    let rustc = Rustc {
        path: path.trim().into(),
        libraries: None,
        origin: "rustup",
    };
    rustc.is(version).then_some(rustc)
}

/// The toolchain of `version` in what `rustup toolchain list` prints.
fn toolchain_of<'a>(list: &'a str, version: &str) -> Option<&'a str> {
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let after_version = |name: &str| name.strip_prefix(version).map(|rest| rest.chars().next());
    names
        .into_iter()
        .find(|name| matches!(after_version(name), Some(None | Some('.' | '-'))))
}

/// Whether the `release:` line of `rustc -vV` says `version`.
fn release_is(output: &str, version: &str) -> bool {
    let release = output
        .lines()
        .find_map(|line| line.strip_prefix("release: "));
    release
        .and_then(|release| release.strip_prefix(version))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_must_be_the_version_and_not_only_begin_like_it() {
        assert!(release_is("rustc 1.85.1\nrelease: 1.85.1\n", "1.85"));
        assert!(!release_is("release: 1.850.0\n", "1.85"));
        assert!(!release_is("release: 1.95.0\n", "1.85"));
        assert!(!release_is("", "1.85"));
    }

    #[test]
    fn a_toolchain_is_found_whatever_its_patch_level() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\n1.85.1-x86_64\n";
        assert_eq!(toolchain_of(list, "1.85"), Some("1.85.1-x86_64"));
        assert_eq!(toolchain_of("1.85-x86_64\n", "1.85"), Some("1.85-x86_64"));
        assert_eq!(toolchain_of("1.850-x86_64\n", "1.85"), None);
    }
}
