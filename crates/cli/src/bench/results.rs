//! What a run has measured, as it is written to a file and read back.

use super::load::Load;
use super::machine::Machine;
use crate::error::ToolError;
use kvm_roundtrip::Report;
use serde::{Deserialize, Serialize};
use std::path::Path;
use vcmdq_measure::InProcess;
use vcmdq_measure::data::Section;

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// What was called.
    pub(crate) command: String,
    /// A smoke run: figures mean nothing.
    pub(crate) quick: bool,
    /// Whether the machine was quiet; `None` where that cannot be told.
    pub(crate) load: Option<Load>,
    /// What went wrong while measuring; the figures concerned are missing.
    pub(crate) failures: Vec<String>,
    /// Inside one process.
    pub(crate) rows: Section<InProcess>,
    /// As a guest under KVM sees it.
    pub(crate) kvm: Section<Report>,
}

/// Reads what `--json` wrote.
pub(crate) fn read(path: &Path) -> Result<Results, ToolError> {
    let text = std::fs::read_to_string(path).map_err(|source| ToolError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ToolError::Results {
        path: path.to_owned(),
        source,
    })
}
