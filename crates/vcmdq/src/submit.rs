//! STAGE dispatch, a ring's side of it: what the windows of one or several rings hold goes to the
//! instances of their frame, and what came of it is counted.

use crate::consumer::Consumer;
use crate::ring::Ring;
use crate::window::Desk;
use dispatch::dispatch::{FailedClosed, dispatch};

impl Consumer {
    /// Coalesce, batch, dispatch: when it returns, every invalidation of the window has taken
    /// effect in every instance that it concerns, or the streams concerned abort.
    #[inline]
    pub(crate) fn dispatch_window(&self, ring: &Ring, desk: &mut Desk) {
        let Desk {
            window,
            batch,
            report,
            ..
        } = desk;
        report.clear();
        if window.coalescer.is_empty() {
            return;
        }
        let coalescer = &mut window.coalescer;
        coalescer.finish();
        // Held until the last call has returned: `unbind` waits for it.
        let streams = coalescer.names_streams().then(|| self.frame.streams.read());
        for instance in &self.instances {
            coalescer.rewind();
            while coalescer.next_batch(batch) {
                dispatch(&*instance.backend, batch, report);
            }
            if let Some(streams) = &streams {
                if coalescer.device_batch(batch, |stream| streams.belongs(stream, instance.id)) {
                    dispatch(&*instance.backend, batch, report);
                }
            }
        }
        if let Some(streams) = &streams {
            let unbound = coalescer
                .named_streams()
                .filter(|(stream, _)| !streams.is_bound(*stream))
                .count();
            ring.counters.unbound.add(unbound as u64);
        }
        self.account(ring, desk);
    }

    #[inline]
    fn account(&self, ring: &Ring, desk: &Desk) {
        let report = &desk.report;
        ring.counters.calls.add(report.calls);
        ring.counters.requests.add(report.requests);
        ring.counters.retries.add(report.retries);
        ring.counters.widened.add(report.widened);
        ring.counters
            .failed_closed
            .add(report.failed_closed.len() as u64);
        for FailedClosed { stream, cause, .. } in &report.failed_closed {
            tracing::warn!(ring = ring.index, ?stream, %cause, "invalidation failed closed");
            self.frame.host.failed_closed(*stream, *cause);
        }
    }
}
