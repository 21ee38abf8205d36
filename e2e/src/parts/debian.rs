//! Debian's packages, unpacked and not installed.

use super::Qemu;
use super::apt::Apt;
use super::emulator::Emulator;
use anyhow::{Context, Result};
use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

/// A package's files are whole when this lies beside them.
const WHOLE: &str = ".whole";

/// Where QEMU's firmware lies: its own, and that of a PC.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// What has been unpacked, and can be.
pub(super) struct Packages<'a> {
    directory: PathBuf,
    tell: &'a dyn Fn(&str),
    apt: OnceCell<Apt>,
}

impl<'a> Packages<'a> {
    pub(super) fn new(directory: &Path, tell: &'a dyn Fn(&str)) -> Self {
        Self {
            directory: directory.to_owned(),
            tell,
            apt: OnceCell::new(),
        }
    }

    /// QEMU, started with the libraries and the loader that it was built for.
    pub(super) fn qemu(&self, emulator: &Emulator) -> Result<Qemu> {
        let root = self.unpacked(emulator.part, |apt, root| {
            apt.unpack_with_dependencies(emulator.package, root)
        })?;
        let loader = find(&root.join("usr"), 2, |name| {
            name.starts_with("ld-linux") && name.contains(".so.")
        });
        let libraries = find(&root.join("usr/lib"), 2, |name| name == "libc.so.6");
        let libraries = libraries.context("QEMU came without a C library")?;
        let text = |path: &Path| path.display().to_string();
        let libraries = libraries.parent().unwrap_or(&root);
        let mut before = vec![
            "--library-path".to_owned(),
            text(libraries),
            text(&root.join("usr/bin").join(emulator.program)),
        ];
        for firmware in FIRMWARE {
            before.extend(["-L".to_owned(), text(&root.join(firmware))]);
        }
        let qemu = Qemu {
            program: loader.context("QEMU came without a loader")?,
            before,
            modules: Some(libraries.join("qemu")),
        };
        let version = qemu.version().context("the unpacked QEMU does not run")?;
        anyhow::ensure!(
            version >= emulator.oldest,
            "the newest is {}.{}",
            version.0,
            version.1
        );
        Ok(qemu)
    }

    /// The kernel and the directory of its modules.
    pub(super) fn kernel(&self) -> Result<(PathBuf, PathBuf)> {
        let root = self.unpacked("kernel", |apt, root| {
            let part = |name: &str| {
                let kinds = ["linux-image-", "linux-binary-", "linux-modules-"];
                kinds.iter().any(|kind| name.starts_with(kind))
            };
            let packages = apt.closure("linux-image-arm64:arm64", part)?;
            apt.unpack(&packages, root)
        })?;
        let kernel = find(&root, 5, |name| name.starts_with("vmlinuz"));
        let modules = find(&root, 5, |name| name == "kernel");
        Ok((
            kernel.context("the package holds no kernel")?,
            modules.context("the package holds no modules")?,
        ))
    }

    pub(super) fn busybox(&self) -> Result<PathBuf> {
        let root = self.unpacked("busybox", |apt, root| {
            apt.unpack(&["busybox-static:arm64".into()], root)
        })?;
        find(&root, 3, |name| name == "busybox").context("the package holds no busybox")
    }

    pub(super) fn firmware(&self) -> Result<PathBuf> {
        let root = self.unpacked("firmware", |apt, root| {
            apt.unpack(&["qemu-efi-aarch64".into()], root)
        })?;
        find(&root, 4, |name| name == "QEMU_EFI.fd").context("the package holds no firmware")
    }

    /// The directory with a part; fetched unless an earlier run did.
    fn unpacked(&self, part: &str, fetch: impl Fn(&Apt, &Path) -> Result<()>) -> Result<PathBuf> {
        let root = self.directory.join(part);
        if root.join(WHOLE).exists() {
            return Ok(root);
        }
        (self.tell)(&format!("fetching {part}"));
        if self.apt.get().is_none() {
            let apt = Apt::new(&self.directory.join("apt"))?;
            let _set_once = self.apt.set(apt);
        }
        let apt = self.apt.get().context("apt is set up")?;
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fetch(apt, &root)?;
        fs::write(root.join(WHOLE), "")?;
        Ok(root)
    }
}

/// The first entry, at most `depth` directories down, whose name is wanted. Links to directories
/// are not followed.
fn find(directory: &Path, depth: usize, wanted: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    let here = entries
        .iter()
        .find(|entry| wanted(&entry.file_name().to_string_lossy()));
    if let Some(entry) = here {
        return Some(entry.path());
    }
    let mut directories = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if depth == 0 {
        return None;
    }
    directories.find_map(|entry| find(&entry.path(), depth - 1, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_as_deep_as_asked_and_no_deeper() {
        let root = tempfile::tempdir().expect("a directory");
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).expect("directories");
        fs::write(deep.join("vmlinuz-7"), "").expect("a file");
        let kernel = |name: &str| name.starts_with("vmlinuz");
        assert_eq!(find(root.path(), 2, kernel), Some(deep.join("vmlinuz-7")));
        assert_eq!(find(root.path(), 1, kernel), None);
    }

    #[test]
    fn what_is_whole_is_not_fetched_again() {
        let root = tempfile::tempdir().expect("a directory");
        let part = root.path().join("busybox");
        fs::create_dir_all(part.join("usr/bin")).expect("directories");
        fs::write(part.join("usr/bin/busybox"), "").expect("a file");
        fs::write(part.join(WHOLE), "").expect("a file");
        let packages = Packages::new(root.path(), &|_| panic!("nothing is fetched"));
        let found = packages.busybox().expect("it is there");
        assert_eq!(found, part.join("usr/bin/busybox"));
    }
}
