//! Modules of a kernel, in the order in which they can be loaded.

use anyhow::{Context, Result};
use lzma_rust2::XzReader;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A module, ready for `insmod`.
#[derive(Debug)]
pub(super) struct Module {
    /// Without suffix.
    pub(super) name: String,
    /// The object file.
    pub(super) bytes: Vec<u8>,
}

/// `wanted` and what they depend on, dependencies first. A wanted module that is not there is
/// left out: the kernel may have it built in, and if not, the checks in the guest say so.
pub(super) fn load_order(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    if directory.is_dir() {
        index(directory, &mut files)?;
    }
    let mut order = Vec::new();
    for name in wanted {
        visit(name, &files, &mut order)?;
    }
    Ok(order)
}

fn visit(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<Module>) -> Result<()> {
    let name = name.replace('-', "_");
    let Some(path) = files.get(&name) else {
        return Ok(());
    };
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let bytes = unpacked(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The kernel refuses circles, so there are none.
    for dependency in depends(&bytes) {
        visit(&dependency, files, order)?;
    }
    order.push(Module { name, bytes });
    Ok(())
}

/// Where each module lies, by its name with underscores.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
            continue;
        }
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some((name, "" | ".xz")) = file.split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_none_or(|suffix| suffix != "xz") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    XzReader::new(&*bytes, true).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The names behind `depends=` in the module's information.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let list = &module[at + KEY.len()..];
    let end = list.iter().position(|&byte| byte == 0).unwrap_or(0);
    let list = String::from_utf8_lossy(&list[..end]);
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| &*module.name).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("drivers");
        fs::create_dir(&deep).expect("a directory");
        fs::write(directory.path().join("core-part.ko"), b"\0depends=\0").expect("a file");
        fs::write(deep.join("a.ko"), b"x\0depends=b,core_part\0").expect("a file");
        fs::write(deep.join("b.ko"), b"\0depends=core-part\0").expect("a file");
        fs::write(deep.join("a.kolor"), b"no module").expect("a file");
        let order = load_order(directory.path(), &["a", "absent", "b"]).expect("readable");
        assert_eq!(names(&order), ["core_part", "b", "a"]);
    }

    #[test]
    fn a_kernel_without_modules_has_none() {
        let order = load_order(Path::new("/no/such/directory"), &["nvme"]).expect("no error");
        assert!(order.is_empty());
    }
}
