//! The system's package manager with a state of its own: it reads another release than the
//! system's, needs no rights, and leaves the system alone.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release that has what is needed, and its newer part.
const RELEASE: &str = "trixie";
const NEWER: &str = "trixie-backports";

/// The keyrings that a Debian may have; the first that is there signs.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// apt, with lists and archives below a directory of ours.
#[derive(Debug)]
pub(super) struct Apt {
    directory: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Prepares the directory and fetches the lists.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let machine = capture(Command::new("dpkg").arg("--print-architecture"))
            .context("no dpkg: not a system with Debian's packages")?;
        fs::write(directory.join("sources.list"), sources(&mirror()?))?;
        // Nothing is installed as far as it knows, so what is asked for comes with all it needs.
        fs::write(directory.join("status"), "")?;
        let at = |part: &str| directory.join(part).display().to_string();
        let options = [
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".into(),
            format!("APT::Architecture={}", machine.trim()),
            format!("APT::Architectures::={}", machine.trim()),
            "APT::Architectures::=arm64".into(),
            format!("APT::Default-Release={NEWER}"),
            "APT::Install-Recommends=false".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=2".into(),
            "Debug::NoLocking=1".into(),
        ];
        let apt = Self {
            directory: directory.to_owned(),
            options: options.into(),
        };
        capture(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// Unpacks a package and all that it depends on below `root`.
    pub(super) fn unpack_with_dependencies(&self, package: &str, root: &Path) -> Result<()> {
        let archives = self.directory.join("cache/archives");
        remove_archives(&archives)?;
        let arguments = ["install", "--download-only", "--yes", package];
        capture(self.command("apt-get").args(arguments))?;
        unpack_all(&archives, root)
    }

    /// Unpacks these packages alone below `root`.
    pub(super) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let archives = self.directory.join("cache/single");
        fs::create_dir_all(&archives)?;
        remove_archives(&archives)?;
        let mut download = self.command("apt-get");
        download.arg("download").args(packages);
        capture(download.current_dir(&archives))?;
        unpack_all(&archives, root)
    }

    /// A package and those of its dependencies, however far, that `wanted` takes.
    pub(super) fn closure(
        &self,
        package: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let mut all = Vec::new();
        let mut open = vec![package.to_owned()];
        while let Some(package) = open.pop() {
            if all.contains(&package) {
                continue;
            }
            let table = capture(self.command("apt-cache").args(["depends", &package]))?;
            open.extend(dependencies_in(&table).filter(|name| wanted(name)));
            all.push(package);
        }
        Ok(all)
    }
}

/// What stands behind `Depends:` in the table of `apt-cache depends`.
fn dependencies_in(table: &str) -> impl Iterator<Item = String> + '_ {
    let line = |line: &str| Some(line.trim().strip_prefix("Depends: ")?.to_owned());
    table.lines().filter_map(line)
}

/// The mirror of Debian that the system is set up with.
fn mirror() -> Result<String> {
    let targets = ["indextargets", "--format", "$(REPO_URI)"];
    let addresses = capture(Command::new("apt-get").args(targets))?;
    mirror_in(&addresses).context("the system's apt has no mirror of Debian")
}

fn mirror_in(addresses: &str) -> Option<String> {
    let mut lines = addresses.lines().map(|line| line.trim_end_matches('/'));
    lines
        .find(|line| line.ends_with("/debian"))
        .map(str::to_owned)
}

fn sources(mirror: &str) -> String {
    let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists());
    let signed = keyring.map_or(String::new(), |path| format!("[signed-by={path}] "));
    let line = |suite: &str| format!("deb {signed}{mirror} {suite} main\n");
    line(RELEASE) + &line(NEWER)
}

fn archives_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "deb"));
    Ok(paths)
}

fn remove_archives(directory: &Path) -> Result<()> {
    for path in archives_in(directory)? {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Unpacks every archive, and removes it: what is unpacked is what is kept.
fn unpack_all(archives: &Path, root: &Path) -> Result<()> {
    let archives = archives_in(archives)?;
    ensure!(!archives.is_empty(), "nothing was downloaded");
    fs::create_dir_all(root)?;
    for archive in archives {
        capture(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(root))?;
        fs::remove_file(archive)?;
    }
    Ok(())
}

/// Runs a command quietly and returns what it prints.
fn capture(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = errors.lines().last().unwrap_or_default().to_owned();
        bail!("{program} failed ({}): {last}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_systems_own_and_no_other_archive() {
        let addresses = "http://a/debian-security/\nhttp://a.b/debian/\nhttp://c/debian/\n";
        assert_eq!(mirror_in(addresses).as_deref(), Some("http://a.b/debian"));
        assert_eq!(mirror_in("http://a/ubuntu/\n"), None);
    }

    #[test]
    fn both_suites_are_read_from_the_mirror() {
        let text = sources("http://a.b/debian");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("http://a.b/debian trixie main"));
        assert!(text.contains("http://a.b/debian trixie-backports main"));
    }

    #[test]
    fn of_a_table_only_what_is_needed_counts() {
        let table = "x:arm64\n  PreDepends: <y:arm64>\n  Depends: a:arm64\n |Depends: b\n  \
                     Suggests: c\n  Depends: d:arm64\n";
        let found: Vec<_> = dependencies_in(table).collect();
        assert_eq!(found, ["a:arm64", "d:arm64"]);
    }
}
