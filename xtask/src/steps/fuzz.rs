//! Searches for inputs that break something, a minute for each target.

use anyhow::Result;

use crate::fuzz;
use crate::summary::Outcome;
use crate::workspace::Workspace;

/// Every target.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    fuzz::run(workspace, &[], fuzz::SECONDS)
}
