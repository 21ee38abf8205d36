//! What the baseline has done, in the words of a report.

use super::Figures;
use vcmdq_benches::baseline::Baseline;

/// The baseline has drains where the engine has windows.
pub(crate) fn figures(baseline: &Baseline) -> Figures {
    let counts = baseline.counts();
    Figures {
        commands: counts.commands,
        requests: counts.requests,
        calls: counts.calls,
        syncs: counts.syncs,
        windows: counts.drains,
        errors: counts.errors,
        ..Figures::default()
    }
}
