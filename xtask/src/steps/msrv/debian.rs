//! Debian's rustc, unpacked beside the build and not installed: that needs no rights, and
//! leaves the machine's own rustc alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::toolchain::Rustc;
use crate::command::{capture, run, succeeds};

/// Packages that hold a rustc: a release's own, and the newer one that it builds browsers with.
const PACKAGES: [&str; 2] = ["rustc", "rustc-web"];

/// What of a rustc's dependencies a machine that has a linker still lacks.
const LIBRARIES: [&str; 2] = ["libstd-rust", "libllvm"];

/// A rustc of `version` in `directory`, downloaded unless an earlier run did.
///
/// # Errors
///
/// This is no Debian, none of its sources has that version, or it cannot be downloaded.
pub(super) fn obtain(directory: &Path, version: &str) -> Result<Rustc> {
    let root = directory.join("root");
    if let Ok(rustc) = unpacked(&root, version) {
        return Ok(rustc);
    }
    let package = match candidate(version) {
        Ok(package) => package,
        Err(_) => {
            // A fresh container has no lists. Without the right to update, the lists that
            // are there must do.
            succeeds(Command::new("apt-get").arg("update"));
            candidate(version)?
        }
    };
    let archives = directory.join("archives");
    fs::create_dir_all(&archives)?;
    let packages = with_libraries(&package)?;
    run(Command::new("apt-get")
        .arg("download")
        .args(&packages)
        .current_dir(&archives))?;
    for entry in fs::read_dir(&archives)? {
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(entry?.path())
            .arg(&root))?;
    }
    unpacked(&root, version)
}

fn unpacked(root: &Path, version: &str) -> Result<Rustc> {
    let libraries = directory_of_driver(&root.join("usr/lib"))?;
    let path = root.join("usr/bin/rustc");
    let rustc = Rustc {
        path,
        libraries: Some(libraries),
        origin: "Debian",
    };
    ensure!(
        rustc.is(version),
        "{} is no working rustc {version}",
        rustc.path.display()
    );
    Ok(rustc)
}

/// The directory below `lib`, named after the machine, that holds rustc's shared library.
fn directory_of_driver(lib: &Path) -> Result<PathBuf> {
    let directories = fs::read_dir(lib)?.collect::<Result<Vec<_>, _>>()?;
    let holds_driver = |directory: &PathBuf| {
        fs::read_dir(directory).is_ok_and(|files| {
            files.flatten().any(|f| {
                f.file_name()
                    .to_string_lossy()
                    .starts_with("librustc_driver")
            })
        })
    };
    let mut paths = directories.iter().map(fs::DirEntry::path);
    paths
        .find(holds_driver)
        .with_context(|| format!("no rustc in {}", lib.display()))
}

/// `package=version` of a rustc of `version` that apt could download.
fn candidate(version: &str) -> Result<String> {
    let table = capture(Command::new("apt-cache").arg("madison").args(PACKAGES))?;
    candidate_in(&table, version).with_context(|| format!("apt knows no rustc {version}"))
}

/// [`candidate`] in what `apt-cache madison` prints: `package | version | source` per line.
fn candidate_in(table: &str, version: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let (package, found) = (columns.next()?, columns.next()?);
        let matches = found.strip_prefix(version)?.starts_with('.');
        matches.then(|| format!("{package}={found}"))
    })
}

/// `package` and, of what it depends on, the [`LIBRARIES`].
fn with_libraries(package: &str) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut open = vec![package.to_owned()];
    while let Some(package) = open.pop() {
        if all.insert(package.clone()) {
            let fields = capture(Command::new("apt-cache").args(["show", &package]))?;
            open.extend(libraries_in(&fields));
        }
    }
    Ok(all)
}

/// The [`LIBRARIES`] on the `Depends:` line of `apt-cache show`, with `=version` where an
/// exact one is demanded.
fn libraries_in(fields: &str) -> Vec<String> {
    let depends = fields
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "));
    let wanted = |item: &&str| LIBRARIES.iter().any(|library| item.starts_with(library));
    let items = depends
        .unwrap_or_default()
        .split(", ")
        .map(str::trim)
        .filter(wanted);
    let pin = |item: &str| match item.split_once(" (= ") {
        Some((name, version)) => format!("{name}={}", version.trim_end_matches(')')),
        None => item.split(' ').next().unwrap_or_default().to_owned(),
    };
    items.map(pin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_of_the_version_and_of_any_package() {
        let table = " rustc | 1.63.0+dfsg1-2 | http://x\n\
                     rustc-web | 1.96.0+dfsg1 | http://x\n\
                     rustc-web | 1.85.0+dfsg3-1~deb12u3 | http://x\n";
        let found = candidate_in(table, "1.85");
        assert_eq!(found.as_deref(), Some("rustc-web=1.85.0+dfsg3-1~deb12u3"));
        assert_eq!(candidate_in(table, "1.9"), None);
        assert_eq!(candidate_in("", "1.85"), None);
    }

    #[test]
    fn of_the_dependencies_only_rust_and_llvm_libraries_are_taken() {
        let fields = "Package: rustc\n\
                      Depends: libc6 (>= 2.34), libstd-rust-web-dev (= 1.85.0+x), libllvm19, gcc\n\
                      Recommends: libllvm99\n";
        assert_eq!(
            libraries_in(fields),
            ["libstd-rust-web-dev=1.85.0+x", "libllvm19"]
        );
        assert!(libraries_in("Package: x\n").is_empty());
    }
}
