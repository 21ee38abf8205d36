//! The archive that the kernel unpacks into its first file system.

use super::modules::{Module, load_order};
use crate::parts::Parts;
use anyhow::{Context, Result};
use cpio::newc::Builder;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What the guest starts.
const INIT: &str = include_str!("init.sh");

/// Modules that the checks need.
const MODULES: [&str; 1] = ["nvme"];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// A program beside busybox: its name, and where it lies.
pub type Program<'a> = (&'a str, &'a Path);

/// Writes the archive: busybox, other programs, `/init`, the modules as `/modules/NN-NAME.ko`.
///
/// # Errors
///
/// A part cannot be read, or the file not be written.
pub fn initramfs(parts: &Parts, programs: &[Program<'_>], to: &Path) -> Result<()> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut all = vec![("busybox", read(&parts.busybox)?)];
    for (name, path) in programs {
        all.push((name, read(path)?));
    }
    let modules = load_order(&parts.modules, &MODULES)?;
    let file = fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    // The guest unpacks under emulation: small matters less than fast.
    let mut out = GzEncoder::new(file, Compression::fast());
    write(&mut out, &all, &modules)?;
    out.finish()?;
    Ok(())
}

/// Writes an archive whose one program is `/init`.
///
/// # Errors
///
/// The program cannot be read, or the file not be written.
pub fn sole_program(program: &Path, to: &Path) -> Result<()> {
    let init = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let file = fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut out = GzEncoder::new(file, Compression::fast());
    for directory in ["dev", "proc", "sys"] {
        entry(&mut out, directory, DIRECTORY, &[])?;
    }
    entry(&mut out, "init", PROGRAM, &init)?;
    cpio::newc::trailer(&mut out)?;
    out.finish()?;
    Ok(())
}

/// Writes an archive with a table of ACPI before what is in `archive`: the kernel takes it instead of an
/// older one. Not packed, because it is read before anything is unpacked.
///
/// # Errors
///
/// The one cannot be read, or the other not be written.
pub fn with_table(archive: &Path, name: &str, table: &[u8], to: &Path) -> Result<()> {
    let mut out = Vec::new();
    let mut path = String::new();
    for part in ["kernel", "firmware", "acpi"] {
        path.push_str(part);
        entry(&mut out, &path, DIRECTORY, &[])?;
        path.push('/');
    }
    entry(&mut out, &format!("{path}{name}.aml"), FILE, table)?;
    cpio::newc::trailer(&mut out)?;
    out.resize(out.len().next_multiple_of(4), 0);
    let rest = fs::read(archive);
    out.extend(rest.with_context(|| format!("cannot read {}", archive.display()))?);
    fs::write(to, out).with_context(|| format!("cannot write {}", to.display()))
}

fn write(out: &mut impl Write, programs: &[(&str, Vec<u8>)], modules: &[Module]) -> Result<()> {
    for directory in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
        entry(out, directory, DIRECTORY, &[])?;
    }
    for (name, bytes) in programs {
        entry(out, &format!("bin/{name}"), PROGRAM, bytes)?;
    }
    entry(out, "init", PROGRAM, INIT.as_bytes())?;
    for (index, module) in modules.iter().enumerate() {
        let name = format!("modules/{index:02}-{}.ko", module.name);
        entry(out, &name, PROGRAM, &module.bytes)?;
    }
    cpio::newc::trailer(out)?;
    Ok(())
}

fn entry(out: &mut impl Write, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).context("a file beyond 4 GiB")?;
    let mut writer = Builder::new(name).mode(mode).nlink(1).write(out, length);
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::NewcReader;
    use std::io::Read;

    #[test]
    fn the_archive_holds_what_the_kernel_looks_for() {
        let modules = [Module {
            name: "nvme".into(),
            bytes: b"object".to_vec(),
        }];
        let mut archive = Vec::new();
        write(&mut archive, &[("busybox", b"busybox".to_vec())], &modules)
            .expect("a vector takes all");
        let mut found = Vec::new();
        let mut rest = &*archive;
        loop {
            let mut reader = NewcReader::new(rest).expect("well formed");
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).expect("well formed");
            found.push((name, mode, bytes));
            rest = reader.finish().expect("well formed");
        }
        let file = |name: &str| found.iter().find(|entry| entry.0 == name);
        assert_eq!(file("init").map(|f| f.1), Some(PROGRAM));
        assert_eq!(file("bin/busybox").map(|f| &*f.2), Some(&b"busybox"[..]));
        assert_eq!(
            file("modules/00-nvme.ko").map(|f| &*f.2),
            Some(&b"object"[..])
        );
        assert_eq!(file("proc").map(|f| f.1), Some(DIRECTORY));
    }

    #[test]
    fn a_table_stands_before_the_archive_and_is_not_packed() {
        let directory = tempfile::tempdir().expect("a directory");
        let [archive, to] = ["archive", "both"].map(|name| directory.path().join(name));
        fs::write(&archive, b"packed").expect("a file");
        with_table(&archive, "iort", b"IORT", &to).expect("a file");
        let both = fs::read(&to).expect("a file");
        assert!(both.ends_with(b"packed"));
        assert_eq!((both.len() - b"packed".len()) % 4, 0);
        let mut rest = &*both;
        let mut names = Vec::new();
        loop {
            let mut reader = NewcReader::new(rest).expect("well formed");
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).expect("well formed");
            assert_eq!(bytes == b"IORT", names.len() == 4);
            rest = reader.finish().expect("well formed");
        }
        let last = names.last().map(String::as_str);
        assert_eq!(last, Some("kernel/firmware/acpi/iort.aml"));
    }

    #[test]
    fn the_script_is_for_the_shell_that_is_there() {
        assert!(INIT.starts_with("#!/bin/busybox sh\n"));
    }
}
