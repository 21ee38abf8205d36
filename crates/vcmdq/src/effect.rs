//! The command that ended a window takes effect, after everything before it (law 4).
//!
//! A CFGI may concern thousands of streams, and the VMM is told about each. So it takes effect in
//! portions (law 8): CONS stays at the command, which has been read once (law 6), and the ring's next
//! slice goes on behind the stream that was told last. Who binds a stream meanwhile tells the VMM
//! himself. If the ring is disabled, paused, or stopped before it is done, the command is read again
//! and begins anew.

use crate::budget;
use crate::consumer::Consumer;
use crate::instance::waiter;
use crate::ring::Ring;
use crate::window::{Desk, Effect};
use dispatch::{Invalidation, Traffic};
use smmu_core::StreamId;
use smmu_core::command::Cfgi;

/// A CFGI at CONS that is under way: backends have been told, and some of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Configuring {
    change: Cfgi,
    /// The next stream that is to be told, if it is bound.
    from: StreamId,
}

impl Consumer {
    /// The command at CONS begins to take effect. [`goes_on`](Self::goes_on) goes on with what is still
    /// under way then.
    pub(crate) fn begin_effect(&mut self, ring: &Ring, desk: &mut Desk, effect: Effect) {
        ring.counters.effects.add(1);
        match effect {
            Effect::Configuration(change) => {
                for instance in &self.instances {
                    let backend = &instance.backend;
                    backend.configuration_changed(&change, waiter(ring.index));
                }
                let told = self.instances.len() as u64 * budget::CALLBACK;
                desk.budget.spend(told);
                let from = *change.streams().start();
                self.configuring = Some(Configuring { change, from });
                self.configure(ring, desk);
            }
            other => {
                self.take_effect(ring, other);
                desk.budget.spend(budget::CALLBACK);
                self.step_over(ring);
            }
        }
    }

    /// Goes on with the CFGI that is under way, as long as the slice lasts. Whether it is done.
    #[cold]
    pub(crate) fn goes_on(&mut self, ring: &Ring, desk: &mut Desk) -> bool {
        self.configure(ring, desk);
        let done = self.configuring.is_none();
        // The window that it ended was counted without it.
        ring.counters.commands.add(u64::from(done));
        if let Some(watched) = self.watched.as_ref().filter(|_| done) {
            watched.consumed(ring.cons());
        }
        done
    }

    fn configure(&mut self, ring: &Ring, desk: &mut Desk) {
        let Some(Configuring { change, from }) = self.configuring else {
            return;
        };
        let streams = self.frame.streams.read();
        for stream in streams.within(from..=*change.streams().end()) {
            if desk.budget.is_spent() {
                let from = stream;
                self.configuring = Some(Configuring { change, from });
                return;
            }
            self.frame.host.configuration_changed(stream, &change);
            desk.budget.spend(budget::STREAM + budget::CALLBACK);
        }
        drop(streams);
        self.configuring = None;
        self.forward_configuration(ring, desk, &change);
        self.step_over(ring);
    }

    fn step_over(&mut self, ring: &Ring) {
        let behind = self.entries.geometry().advance(self.cons, 1);
        self.publish(ring, behind);
    }

    fn take_effect(&self, ring: &Ring, effect: Effect) {
        let streams = self.frame.streams.read();
        let host = &self.frame.host;
        match effect {
            Effect::Resume(stream, stag, action) if streams.is_bound(stream) => {
                self.frame.events.resume_access(stream, stag, action);
                host.resume(stream, stag, action);
            }
            Effect::TerminateStalls(stream) if streams.is_bound(stream) => {
                self.frame.events.terminate_stalls(stream);
                host.terminate_stalls(stream);
            }
            Effect::PageResponse(stream, substream, group, response)
                if streams.is_bound(stream) =>
            {
                // With SMMUEN=0 the command is ignored (4.5.2).
                if matches!(self.frame.traffic.now(), Some(Traffic::Disabled(..))) {
                    ring.counters.ignored_responses.add(1);
                    return;
                }
                if let Some(pages) = &self.frame.pages {
                    pages.respond(stream, substream, group, response);
                }
                host.page_response(stream, substream, group, response);
            }
            _ => ring.counters.unbound.add(1),
        }
    }

    /// A host that keeps context descriptors of its own hears of their change, too.
    fn forward_configuration(&self, ring: &Ring, desk: &mut Desk, change: &Cfgi) {
        if !self.capabilities.caches_contexts {
            return;
        }
        if let Some(request) = Invalidation::from_cfgi(change) {
            desk.window.restart(&self.capabilities);
            desk.window.coalescer.push(request, 0);
            self.dispatch_window(&[ring], ring, desk);
        }
    }
}
