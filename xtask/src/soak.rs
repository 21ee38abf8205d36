//! The property test of the cached core for long: what CI runs for seconds, for minutes.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::workspace::Workspace;

/// How many steps are taken when nobody says: twenty million, of which seven in ten are
/// accesses and one in five sends commands.
pub(crate) const CASES: u64 = 20_000_000;

const TEST: &str = "law7::law7_cached_core_agrees_with_a_naive_smmu";

/// Runs the test, which shows how far it has come. `false` when both SMMUs disagree.
///
/// # Errors
///
/// None but those of the terminal; a test that cannot be built has not passed.
pub(crate) fn run(workspace: &Workspace, cases: u64) -> Result<bool> {
    let arguments = [
        "test",
        "--release",
        "--package",
        "vcmdq-dispatch",
        "--test",
        "cached",
        "--",
        "--exact",
        "--nocapture",
        TEST,
    ];
    let mut command = cargo(workspace, arguments);
    let result = run_command(command.env("VCMDQ_SOAK_CASES", cases.to_string()));
    match &result {
        Ok(()) => println!("soak: passed, {cases} random steps"),
        Err(error) => println!("soak: FAILED: {error:#}"),
    }
    Ok(result.is_ok())
}
