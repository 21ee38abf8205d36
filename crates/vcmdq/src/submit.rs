//! STAGE dispatch, a ring's side of it: what the windows of one or several rings hold goes to the
//! instances of their frame, and what came of it is counted.

use crate::consumer::Consumer;
use crate::fan_out::call;
use crate::instance::{InstanceId, waiter};
use crate::ring::Ring;
use crate::window::Desk;
use dispatch::batch::Rings;
use std::panic::resume_unwind;
use vcmdq_sync::weak::{Site, taken};

/// Whom a request is charged to: the first of the rings that need it.
fn first(rings: Rings) -> usize {
    rings.trailing_zeros() as usize
}

impl Consumer {
    /// Coalesce, batch, dispatch: when it returns, every invalidation of the window has taken
    /// effect in every instance that it concerns, or the streams concerned abort. `rings` have their
    /// parts in the window, in that order; `payer` is the one that the calls are counted at.
    #[inline]
    pub(crate) fn dispatch_window(&self, rings: &[&Ring], payer: &Ring, desk: &mut Desk) {
        desk.report.clear();
        let named = if taken(Site::SharedWaiters) {
            rings.len()
        } else {
            1
        };
        desk.batch
            .set_waiters(rings[..named].iter().map(|ring| waiter(ring.index)));
        let coalescer = &mut desk.window.coalescer;
        if coalescer.is_empty() {
            return;
        }
        coalescer.finish();
        // Held until the last call has returned: `unbind` waits for it.
        let streams = coalescer.names_streams().then(|| self.frame.streams.read());
        let mut died = None;
        // A doorbell that consumes wakes no thread.
        if self.fans_out && !desk.is_inline() {
            died = self.fan_out(streams.as_deref(), desk);
        } else {
            for instance in &self.instances {
                call(instance, streams.as_deref(), desk);
            }
        }
        if let Some(streams) = &streams {
            let named = desk.window.coalescer.named_streams();
            for (_, whose) in named.filter(|(stream, _)| !streams.is_bound(*stream)) {
                rings[first(whose)].counters.unbound.add(1);
            }
        }
        self.account(rings, payer, desk);
        if let Some(payload) = died {
            // As if the call had been made here.
            resume_unwind(payload);
        }
    }

    #[inline]
    fn account(&self, rings: &[&Ring], payer: &Ring, desk: &Desk) {
        let report = &desk.report;
        payer.counters.calls.add(report.calls);
        payer.counters.requests.add(report.requests);
        payer.counters.retries.add(report.retries);
        payer.counters.widened.add(report.widened);
        for failed in &report.failed_closed {
            let (ring, stream, cause) = (rings[first(failed.rings)], failed.stream, failed.cause);
            let instance = InstanceId(failed.member);
            ring.counters.failed_closed.add(1);
            // A guest can have this again and again: it must not fill the host's log (law 8).
            let times = ring.counters.failed_closed.get();
            if times.is_power_of_two() {
                tracing::warn!(ring = ring.index, ?instance, ?stream, %cause, times, "invalidation failed closed");
            }
            self.frame.host.failed_closed(instance, stream, cause);
        }
    }
}
