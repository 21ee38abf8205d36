//! The calls that a window comes to at one instance.

use dispatch::coalesce::Coalescer;
use dispatch::dispatch::{Report, dispatch};
use dispatch::{Backend, Batch};
use smmu_core::StreamId;

/// Makes them: translations first, a call for each VMID; then those of the streams that are `mine`.
/// When it returns, every request has taken effect, or what it concerns aborts.
#[inline]
pub(crate) fn make_calls(
    backend: &dyn Backend,
    window: &mut Coalescer,
    batch: &mut Batch,
    report: &mut Report,
    mine: impl Fn(StreamId) -> bool,
) {
    window.rewind();
    while window.next_batch(batch) {
        dispatch(backend, batch, report);
    }
    if window.names_streams() && window.device_batch(batch, mine) {
        dispatch(backend, batch, report);
    }
}
