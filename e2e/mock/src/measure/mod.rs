//! What calls cost, and how many there are.

mod engine;
mod producers;
mod recordings;

use crate::report::verdict;
use anyhow::Result;

/// Measures, and prints what came out; `false` if something cannot be measured. No figure is judged: the
/// machine is emulated, and others use the processor.
pub(crate) fn run() -> bool {
    verdict("measured", &all())
}

fn all() -> Result<String> {
    engine::run()?;
    producers::run()?;
    recordings::run()?;
    Ok("see above".into())
}
