//! Licences, banned crates and sources of every dependency, by cargo-deny (`deny.toml`).

use anyhow::Result;

use crate::command::{cargo, run as run_command, succeeds};
use crate::summary::Outcome;
use crate::workspace::Workspace;

const VERSION: &str = "^0.20";
const CHECKS: [&str; 6] = [
    "--offline",
    "check",
    "--hide-inclusion-graph",
    "licenses",
    "bans",
    "sources",
];

/// `cargo deny check`, without its advisories: those need a database from the network, and
/// change without a change of ours.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let tools = workspace.target.join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path).chain([tools.join("bin")]);
    let path = std::env::join_paths(paths)?;
    if !succeeds(cargo(workspace, ["deny", "--version"]).env("PATH", &path)) {
        // Unoptimised and without debug information, because it is built for a run of a second.
        let install = [
            "install",
            "cargo-deny",
            "--locked",
            "--debug",
            "--version",
            VERSION,
        ];
        let mut install = cargo(workspace, install);
        install.arg("--root").arg(&tools);
        run_command(install.env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    }
    // `--offline` wants the crates of every platform, not only of this one.
    run_command(&mut cargo(workspace, ["fetch"]))?;
    run_command(cargo(workspace, ["deny"]).args(CHECKS).env("PATH", path))?;
    Ok(Outcome::Passed)
}
