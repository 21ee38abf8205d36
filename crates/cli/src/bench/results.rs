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
    parse(&text).map_err(|source| ToolError::Results {
        path: path.to_owned(),
        source,
    })
}

/// Every figure comes back to the last bit: the page that is shown again is the same page.
/// (serde_json rounds otherwise, unless it is built with `float_roundtrip`.)
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vcmdq::testing::Numbers;

    #[test]
    fn every_figure_is_read_back_to_the_last_bit() {
        let mut numbers = Numbers::new(1);
        for _ in 0..10_000 {
            let count = 1.0 + numbers.below(1 << 24) as f64;
            let written = Load {
                before: 1.0 / count,
                after: (count - 1.0) / count,
                stolen: count * 49.304_080_606,
            };
            let text = serde_json::to_string(&written).expect("plain figures");
            assert_eq!(parse::<Load>(&text).ok(), Some(written), "{text}");
        }
    }
}
