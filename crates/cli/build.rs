//! Notes for the measurements which compiler and which revision of the source the tool is made of.

use std::path::Path;
use std::process::Command;

/// What the tool is made of, from the root of the repository.
const SOURCE: [&str; 6] = [
    "crates",
    "benches",
    "measure",
    "examples",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiler = first_line(Command::new(rustc).arg("--version"));
    println!(
        "cargo::rustc-env=VCMDQ_COMPILER={}",
        compiler.unwrap_or_else(|| "unknown".to_owned())
    );
    println!("cargo::rustc-env=VCMDQ_REVISION={}", revision(&root));
    for path in SOURCE {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    // It changes with every commit and checkout.
    if let Some(log) = git(&root, &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={}", root.join(log).display());
    }
}

/// The commit, and whether the source has changed since; `unknown` outside of a repository.
fn revision(root: &Path) -> String {
    let Some(commit) = git(root, &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(SOURCE);
    match git(root, &status) {
        Some(_) => format!("{commit}, with changes"),
        None => commit,
    }
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    first_line(Command::new("git").arg("-C").arg(root).args(args))
}

/// What a program says, if it succeeds and says something.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|out| out.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
