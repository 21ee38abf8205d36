//! What calls cost.

mod bare;

use crate::report::note;

/// Measures, and prints what came out; `false` if something cannot be measured.
pub(crate) fn run() -> bool {
    match bare::run() {
        Ok(()) => true,
        Err(error) => {
            note(&format!("not measured: {error:#}"));
            false
        }
    }
}
