//! A report for a program: one document.

use super::Report;
use crate::error::ToolError;
use crate::output;

pub(crate) fn print(report: &Report) -> Result<(), ToolError> {
    output::json(report)
}
