//! Packages of Debian, unpacked below a directory and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vcmdq_wording::count;

use anyhow::{Context, Result, ensure};

use crate::command::capture;

/// The keyrings that a Debian may have; the first that is there signs.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// The system's package manager, reading one suite with a state of its own: it needs no rights, and
/// takes nothing for installed.
pub(super) struct Apt {
    directory: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Prepares `directory` and fetches the suite's lists.
    pub(super) fn new(directory: &Path, suite: &str) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let addresses =
            capture(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
        let mirror = mirror_in(&addresses).context("the system's apt has no mirror of Debian")?;
        let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists());
        let signed = keyring.map_or(String::new(), |path| format!("[signed-by={path}] "));
        let line = format!("deb {signed}{mirror} {suite} main\n");
        fs::write(directory.join("sources.list"), line)?;
        fs::write(directory.join("status"), "")?;
        let at = |part: &str| directory.join(part).display().to_string();
        let options = vec![
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".into(),
            "APT::Install-Recommends=false".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=2".into(),
            "Debug::NoLocking=1".into(),
        ];
        let directory = directory.to_owned();
        let apt = Self { directory, options };
        perform(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// Unpacks packages and all that they depend on into `root`, which then holds nothing else.
    pub(super) fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<()> {
        let archives = self.directory.join("cache/archives");
        let arguments = ["install", "--download-only", "--yes"];
        perform(self.command("apt-get").args(arguments).args(packages))?;
        unpack_all(&archives, root)
    }

    /// Unpacks one package alone into `root`, which then holds nothing else.
    pub(super) fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let archives = self.directory.join("cache/single");
        fs::create_dir_all(&archives)?;
        let mut download = self.command("apt-get");
        download.args(["download", package]).current_dir(&archives);
        perform(&mut download)?;
        unpack_all(&archives, root)
    }
}

/// Has apt do something. It names each of dozens of packages when the mirror cannot be reached: the first
/// complaint is enough.
fn perform(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.context("cannot start apt-get")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get: {}", complaint(&said));
    Ok(())
}

/// What is wrong, in a line.
fn complaint(said: &str) -> String {
    let mut errors = said.lines().filter_map(|line| line.strip_prefix("E: "));
    match (errors.next(), errors.count()) {
        (None, _) => said.trim().to_owned(),
        (Some(first), 0) => first.to_owned(),
        (Some(first), more) => format!("{first}; {}", count(more, "more line")),
    }
}

/// The first mirror of Debian in what `apt-get indextargets` prints.
fn mirror_in(addresses: &str) -> Option<&str> {
    let mut lines = addresses.lines().map(|line| line.trim_end_matches('/'));
    lines.find(|line| line.ends_with("/debian"))
}

/// An empty directory in the place of what an earlier run, which was stopped, may have left.
pub(super) fn fresh(place: &Path) -> Result<PathBuf> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::create_dir_all(place)?;
    Ok(place.to_owned())
}

/// Unpacks every archive, and removes it.
fn unpack_all(archives: &Path, root: &Path) -> Result<()> {
    let root = fresh(root)?;
    for entry in fs::read_dir(archives)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|suffix| suffix == "deb") {
            capture(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
            fs::remove_file(archive)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_of_debian_and_of_no_other_archive() {
        let addresses = "http://a/debian-security/\nhttp://a.b/debian/\n";
        assert_eq!(mirror_in(addresses), Some("http://a.b/debian"));
        assert_eq!(mirror_in("http://a/ubuntu/\n"), None);
    }

    #[test]
    fn of_many_complaints_the_first_is_told() {
        assert_eq!(complaint("W: old\nE: no mirror\n"), "no mirror");
        let many = "E: a of 3\nW: x\nE: b\nE: c\n";
        assert_eq!(complaint(many), "a of 3; 2 more lines");
        assert_eq!(complaint(" killed\n"), "killed");
    }

    #[test]
    fn what_a_stopped_run_has_left_is_not_mixed_with_what_comes() {
        let place = std::env::temp_dir().join(format!("vcmdq-xtask-{}", std::process::id()));
        for _ in 0..2 {
            let empty = fresh(&place).expect("room");
            assert_eq!(fs::read_dir(&empty).expect("there").count(), 0);
            fs::write(empty.join("half"), "").expect("room");
        }
        fs::remove_dir_all(place).expect("ours");
    }
}
