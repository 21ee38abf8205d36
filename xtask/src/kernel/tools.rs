//! A compiler for arm64 and what else a kernel is built with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::apt::Apt;
use crate::command::succeeds;

/// The prefix of the cross compiler's programs.
pub(super) const CROSS: &str = "aarch64-linux-gnu-";

/// Packages with what a machine that builds Rust programs still lacks.
const PACKAGES: [&str; 5] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "flex",
    "bison",
    "bc",
];

/// Programs that show that they are there.
const NEEDED: [&str; 4] = ["aarch64-linux-gnu-gcc", "flex", "bison", "bc"];

/// Where programs are found.
#[derive(Debug)]
pub(super) struct Tools {
    /// Unpacked packages, if the system has not all of them.
    root: Option<PathBuf>,
}

/// The system's own tools, or those of its release, unpacked below `scratch`.
pub(super) fn obtain(scratch: &Path) -> Result<Tools> {
    let own = Tools { root: None };
    if own.missing().is_empty() {
        return Ok(own);
    }
    let root = scratch.join("tools");
    let unpacked = Tools {
        root: Some(root.clone()),
    };
    if unpacked.missing().is_empty() {
        return Ok(unpacked);
    }
    fetch(scratch, &root).with_context(|| {
        let (missing, packages) = (own.missing().join(", "), PACKAGES.join(" "));
        format!("no {missing}: install {packages}")
    })?;
    let missing = unpacked.missing();
    ensure!(missing.is_empty(), "{} do not run", missing.join(", "));
    Ok(unpacked)
}

/// The system's release, whose libraries run what is unpacked.
fn fetch(scratch: &Path, root: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = suite_in(&release).context("this system is of no release of Debian")?;
    let apt = Apt::new(&scratch.join("apt-tools"), &suite)?;
    apt.unpack_with_dependencies(&PACKAGES, root)
}

fn suite_in(release: &str) -> Option<String> {
    let line = |line: &str| Some(line.strip_prefix("VERSION_CODENAME=")?.trim().to_owned());
    release.lines().find_map(line)
}

impl Tools {
    /// A command that finds the tools.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let Some(root) = &self.root else {
            return command;
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let machine = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
        let directories = [root.join("usr/bin")].into_iter();
        let path = env::join_paths(directories.chain(env::split_paths(&path)));
        command
            .env("PATH", path.unwrap_or_default())
            .env("LD_LIBRARY_PATH", root.join(machine))
            .env("BISON_PKGDATADIR", root.join("usr/share/bison"))
            .env("M4", root.join("usr/bin/m4"));
        command
    }

    fn missing(&self) -> Vec<&'static str> {
        let runs = |program: &&str| {
            // `env` looks along the path that is set.
            let mut command = self.command("env");
            succeeds(command.args([program, "--version"]))
        };
        NEEDED
            .into_iter()
            .filter(|program| !runs(program))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_by_its_name() {
        let release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(suite_in(release).as_deref(), Some("bookworm"));
        assert_eq!(suite_in("ID=other\n"), None);
    }

    #[test]
    fn an_empty_root_has_no_compiler_that_the_system_lacks() {
        let (system, empty) = (
            Tools { root: None },
            Tools {
                root: Some("/no/such".into()),
            },
        );
        assert_eq!(system.missing(), empty.missing());
    }
}
