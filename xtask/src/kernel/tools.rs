//! A compiler and what else a kernel is built with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::apt::Apt;
use super::machine::Machine;
use crate::command::succeeds;

/// Where headers lie.
const INCLUDE: &str = "usr/include";

/// Where programs are found.
#[derive(Debug)]
pub(super) struct Tools {
    /// Unpacked packages, if the system has not all of them.
    root: Option<PathBuf>,
    /// Tools of the kernel are linked with libraries from there. Not with a cross compiler's program, which
    /// has a C library of its own.
    linked: bool,
}

/// The system's own tools, or those of its release, unpacked below `scratch`.
pub(super) fn obtain(scratch: &Path, machine: &Machine) -> Result<Tools> {
    let linked = !machine.headers.is_empty();
    let own = Tools { root: None, linked };
    if own.missing(machine).is_empty() {
        return Ok(own);
    }
    let root = scratch.join(machine.tools);
    let unpacked = Tools {
        root: Some(root.clone()),
        linked,
    };
    if unpacked.missing(machine).is_empty() {
        return Ok(unpacked);
    }
    let (packages, lacks) = (
        machine.packages().join(" "),
        own.missing(machine).join(", "),
    );
    println!("this system has no {lacks}: fetching {packages}");
    fetch(scratch, &machine.packages(), &root)
        .with_context(|| format!("no {lacks}: install {packages}"))?;
    let missing = unpacked.missing(machine);
    ensure!(missing.is_empty(), "{} do not serve", missing.join(", "));
    Ok(unpacked)
}

/// The system's release, whose libraries run what is unpacked.
fn fetch(scratch: &Path, packages: &[&str], root: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = suite_in(&release).context("this system is of no release of Debian")?;
    let apt = Apt::new(&scratch.join("apt-tools"), &suite)?;
    // Renamed when they are whole: a compiler's driver answers without the compiler.
    let unpacking = scratch.join("unpacking-tools");
    apt.unpack_with_dependencies(packages, &unpacking)?;
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    Ok(fs::rename(unpacking, root)?)
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
        let triple = format!("{}-linux-gnu", env::consts::ARCH);
        let libraries = root.join("usr/lib").join(&triple);
        let directories = [root.join("usr/bin")].into_iter();
        let path = env::join_paths(directories.chain(env::split_paths(&path)));
        command
            .env("PATH", path.unwrap_or_default())
            .env("LD_LIBRARY_PATH", &libraries)
            .env("BISON_PKGDATADIR", root.join("usr/share/bison"))
            .env("M4", root.join("usr/bin/m4"));
        if self.linked {
            let headers = [INCLUDE, &format!("{INCLUDE}/{triple}")].map(|place| root.join(place));
            // For the kernel's own tools; the kernel is compiled without either.
            command
                .env(
                    "C_INCLUDE_PATH",
                    env::join_paths(headers).unwrap_or_default(),
                )
                .env("LIBRARY_PATH", libraries);
        }
        command
    }

    fn missing(&self, machine: &Machine) -> Vec<String> {
        let runs = |program: &String| {
            // `env` looks along the path that is set.
            let mut command = self.command("env");
            succeeds(command.args([program, "--version"]))
        };
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        let lies = |header: &&&str| root.join(INCLUDE).join(header).exists();
        let programs = machine.programs().into_iter();
        let headers = machine.headers.iter().filter(|header| !lies(header));
        programs
            .filter(|program| !runs(program))
            .chain(headers.map(|header| (*header).to_owned()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{GUEST, MOCK};
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
            Tools {
                root: None,
                linked: false,
            },
            Tools {
                root: Some("/no/such".into()),
                linked: false,
            },
        );
        assert_eq!(system.missing(&GUEST), empty.missing(&GUEST));
        let without = empty.missing(&MOCK);
        assert!(without.contains(&"libelf.h".to_owned()));
    }
}
