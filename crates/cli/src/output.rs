//! Standard output and standard error.

use crate::error::ToolError;
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output, buffered; to be flushed by [`finish`].
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Writes what is buffered. Without it an error at the end of the output would be lost.
pub(crate) fn finish(mut out: impl Write) -> Result<(), ToolError> {
    Ok(out.flush()?)
}

/// One document, readable, with a line feed behind it.
pub(crate) fn json(document: &impl Serialize) -> Result<(), ToolError> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)?;
    finish(out)
}

/// Says something beside the output, on standard error.
#[cfg(feature = "bench")]
pub(crate) fn remark(text: &str) {
    let _nobody_reads = writeln!(io::stderr(), "{text}");
}

/// Says on standard error why the tool gives up. Nobody may be reading; then nobody is told.
pub(crate) fn complain(error: &ToolError) {
    let _nobody_reads = writeln!(io::stderr(), "vcmdq: {error}");
}
