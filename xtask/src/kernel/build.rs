//! The kernel's source, and what is built of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::apt::{self, Apt};
use super::config;
use super::machine::Machine;
use super::tools::Tools;
use crate::command::{capture, run};

/// The suite whose kernel is new enough for a CMDQV in a devicetree (7.2).
const SUITE: &str = "trixie-backports";

/// Linux's program that maps and unmaps, static.
pub(super) const BENCHMARK: &str = "dma_map_benchmark";

/// The unpacked source; fetched unless an earlier run did.
pub(super) fn source(scratch: &Path) -> Result<PathBuf> {
    let place = scratch.join("source");
    match unpacked(&place) {
        Some(source) => Ok(source),
        None => fetch(scratch, &place).context("the kernel's source is not to be had"),
    }
}

fn fetch(scratch: &Path, place: &Path) -> Result<PathBuf> {
    println!("looking for the newest kernel's source in {SUITE}");
    let apt = Apt::new(&scratch.join("apt-source"), SUITE)?;
    let table = capture(apt.command("apt-cache").args(["depends", "linux-source"]))?;
    let package = package_in(&table).context("the mirror has no kernel's source")?;
    let root = scratch.join("package");
    println!("fetching {package}");
    apt.unpack(&package, &root)?;
    let archive = root.join(format!("usr/src/{package}.tar.xz"));
    let unpacking = apt::fresh(&scratch.join("unpacking"))?;
    let mut tar = Command::new("tar");
    run(tar.arg("-xf").arg(archive).arg("-C").arg(&unpacking))?;
    // Renamed when it is whole.
    fs::rename(unpacking, place)?;
    fs::remove_dir_all(root)?;
    unpacked(place).context("the package holds no kernel's source")
}

fn unpacked(place: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(place).ok()?.flatten();
    entries
        .find(|entry| entry.path().join("Kconfig").exists())
        .map(|entry| entry.path())
}

/// What the package without a version stands for.
fn package_in(table: &str) -> Option<String> {
    let mut lines = table.lines().map(str::trim);
    lines
        .find_map(|line| line.strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-source-"))
        .map(str::to_owned)
}

/// A source, where its objects go, and with what they are built.
pub(super) struct Build<'a> {
    pub(super) source: &'a Path,
    pub(super) objects: &'a Path,
    pub(super) tools: &'a Tools,
    pub(super) machine: &'a Machine,
}

impl Build<'_> {
    fn make(&self) -> Command {
        let mut make = self.tools.command("make");
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        make.arg("--silent")
            .arg(format!("--jobs={jobs}"))
            .arg("-C")
            .arg(self.source)
            .arg(format!("O={}", self.objects.display()))
            .arg(format!("ARCH={}", self.machine.architecture))
            .arg(format!("CROSS_COMPILE={}", self.machine.cross));
        make
    }

    pub(super) fn configure(&self) -> Result<()> {
        fs::create_dir_all(self.objects)?;
        run(self.make().arg("tinyconfig"))?;
        let file = self.objects.join(".config");
        let smallest = fs::read_to_string(&file)?;
        let fragment = self.machine.fragment;
        fs::write(&file, config::with(&smallest, fragment))?;
        run(self.make().arg("olddefconfig"))?;
        let lost = config::lost(fragment, &fs::read_to_string(&file)?);
        ensure!(lost.is_empty(), "this kernel has no {}", lost.join(", "));
        Ok(())
    }

    pub(super) fn image(&self) -> Result<PathBuf> {
        let (name, place) = self.machine.image;
        run(self.make().arg(name))?;
        Ok(self.objects.join(place))
    }

    /// Linux's benchmark, with the one header of the kernel's that it includes: the others are those
    /// of the compiler's C library.
    pub(super) fn benchmark(&self) -> Result<PathBuf> {
        let program = self.objects.join(BENCHMARK);
        let headers = self.objects.join("benchmark-headers");
        let header = "linux/map_benchmark.h";
        fs::create_dir_all(headers.join("linux"))?;
        let own = self.source.join("include/uapi").join(header);
        fs::copy(own, headers.join(header)).context("this kernel has no benchmark of mapping")?;
        let mut compiler = self.tools.command(&format!("{}gcc", self.machine.cross));
        compiler
            .args(["-O2", "-static", "-I"])
            .arg(headers)
            .arg(self.source.join("tools/dma/dma_map_benchmark.c"))
            .arg("-o")
            .arg(&program);
        run(&mut compiler)?;
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_source_is_what_the_plain_name_depends_on() {
        let table = "linux-source\n  Depends: linux-source-7.2\n  Suggests: x\n";
        assert_eq!(package_in(table).as_deref(), Some("linux-source-7.2"));
        assert_eq!(package_in("linux-source\n  Depends: other\n"), None);
    }
}
