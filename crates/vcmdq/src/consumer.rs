//! One ring's consumption: the way of a command, stage by stage.
//!
//! A [`Consumer`] is worked on by whoever has claimed the ring, one thread at a time. It is
//! the private truth about CONS and errors; registers and shared pages show copies.

use crate::cmdqv::cover::Cover;
use crate::complete::{Completed, complete, hold};
use crate::events::Mark;
use crate::fetch::Entries;
use crate::first_pass::first_pass;
use crate::frame::FrameShared;
use crate::gerror::{CommandError, gerror_bits};
use crate::instance::{Instance, waiter};
use crate::lateness::Timing;
use crate::ring::Ring;
use crate::tap::{Unwatched, Watch, Watched};
use crate::window::{Desk, Effect, Stop};
use dispatch::dispatch::dispatch;
use dispatch::{BackendCapabilities, Invalidation};
use smmu_core::GuestMemory;
use smmu_core::command::Cfgi;
use smmu_core::queue_index::QueueIndex;
use std::sync::Arc;

/// What a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is left to do, for now.
    Idle,
    /// The budget is used up; there may be more.
    More,
}

/// See the [module](self).
pub(crate) struct Consumer {
    pub(crate) entries: Entries,
    pub(crate) cons: QueueIndex,
    /// Why the ring has stopped, until the guest acknowledges.
    pub(crate) halted: Option<CommandError>,
    /// CONS stands at a SYNC that waits for a barrier.
    pub(crate) waiting: bool,
    /// What the event queue must show before that SYNC completes; taken when no access was left.
    pub(crate) events_due: Option<Mark>,
    /// An ATC_INV before CONS was not answered, and no SYNC has said so yet.
    pub(crate) lost_atc_inv: bool,
    pub(crate) running: bool,
    /// This ring's worker tells the VMM when the streams' traffic goes another way.
    pub(crate) tells_traffic: bool,
    /// What the guest's registers said has been taken over, and not been ended since.
    pub(crate) armed: bool,
    /// The BASE that was unusable; nothing happens until the guest ends it or writes another one.
    pub(crate) refused: Option<u64>,
    /// The other rings of the VINTF, if the ring is one of a VINTF.
    pub(crate) cover: Option<Box<Cover>>,
    pub(crate) memory: Arc<dyn GuestMemory>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) capabilities: BackendCapabilities,
    pub(crate) frame: Arc<FrameShared>,
    /// Who watches the ring, if anybody does.
    pub(crate) watched: Option<Box<Watched>>,
    /// When its commands were published, if that is measured.
    pub(crate) timing: Option<Box<Timing>>,
}

impl Consumer {
    /// Consumes windows until `budget` commands are used up. Returns what is left, and whether
    /// anything was consumed.
    #[inline]
    pub(crate) fn slice(&mut self, ring: &Ring, desk: &mut Desk, budget: u32) -> (Progress, bool) {
        if self.tells_traffic && !desk.is_inline() && !ring.is_paused() {
            let frame = &self.frame;
            frame.traffic.tell(&frame.streams, &*frame.host);
        }
        self.start_clock(ring, desk);
        let mut used = 0;
        while self.may_run(ring) {
            let published = self.published(ring);
            if published == 0 {
                self.nothing_published(ring);
                break;
            }
            // law8b: a ring keeps its worker as long as it has commands.
            if used >= budget && !cfg!(break_law8b) {
                return (Progress::More, true);
            }
            let (goes_on, commands) = match (&self.watched, &self.timing) {
                (None, None) => self.window(ring, desk, published, &mut Unwatched),
                _ => self.observed_window(ring, desk, published),
            };
            used += commands;
            if !goes_on {
                break;
            }
        }
        (Progress::Idle, used != 0)
    }

    /// Brings what the VMM and the guest have asked for into effect, and says whether to consume.
    #[inline]
    fn may_run(&mut self, ring: &Ring) -> bool {
        self.look_at_doorbell(ring);
        if !ring.settle(self) || ring.latch.is_active(gerror_bits::CMDQ_ERR) {
            // The SYNC that it belongs to may be another one when the ring goes on.
            self.events_due = None;
            self.stop_clock(ring);
            return false;
        }
        if self.halted.take().is_some() {
            self.stop_clock(ring);
            // law6b: the command that stopped the ring is skipped instead of read again.
            if cfg!(break_law6b) {
                self.cons = self.entries.geometry().advance(self.cons, 1);
            }
            self.publish(ring, self.cons);
        }
        true
    }

    /// Entries between CONS and PROD. A PROD that no legal producer writes is counted and not
    /// followed.
    #[inline]
    fn published(&self, ring: &Ring) -> u32 {
        let geometry = self.entries.geometry();
        match geometry.published(self.cons, geometry.pointer(ring.prod())) {
            Ok(published) => published,
            // law8a: whatever PROD says is followed.
            Err(_) if cfg!(break_law8a) => geometry.entries(),
            Err(_) => {
                ring.counters.bad_prods.add(1);
                0
            }
        }
    }

    /// One window: fetch, decode and first pass; then dispatch; then complete; then the command
    /// that ended it. Whether the ring can go on for now, and how many commands it took.
    #[inline]
    pub(crate) fn window(
        &mut self,
        ring: &Ring,
        desk: &mut Desk,
        published: u32,
        watch: &mut impl Watch,
    ) -> (bool, u32) {
        // A SYNC that waited is asked for alone: with new invalidations beside it, new accesses
        // could keep it waiting for ever.
        let covering = self.cover.as_ref().is_some_and(|cover| cover.is_begun());
        let alone = self.waiting || covering;
        let limit = if alone { 1 } else { published.min(desk.left) };
        let stop = self.take_window(desk, limit, watch);
        let fetched = desk.window.len + u32::from(stop.is_some());
        watch.fetched(&self.entries, self.cons, fetched);
        let others = self.cover_others(ring, desk);
        self.dispatch_window(ring, desk);
        watch.dispatched();
        let invalidations = u64::from(desk.window.invalidations);
        ring.counters.invalidations.add(invalidations);
        let looked_at = desk.looked_at(fetched + others);
        let start = self.cons;
        let lost = desk.report.device_timed_out;
        // What another ring's ATC_INV came to is that ring's SYNC's to say.
        let lost = lost.filter(|at| *at < desk.window.len);
        let completed = if self.cover.as_ref().is_none_or(|cover| cover.is_done()) {
            complete(self, ring, &desk.window, lost)
        } else {
            hold(self, ring, &desk.window, lost)
        };
        watch.completed(&self.entries, start, self.cons, &desk.window.syncs);
        if self.waiting != (completed == Completed::Waiting) {
            self.waiting = !self.waiting;
            ring.set_waiting(self.waiting);
        }
        let goes_on = match (completed, stop) {
            (Completed::All, None) => true,
            (Completed::All, Some(stop)) if desk.defers(&stop) => false,
            (Completed::All, Some(stop)) => self.end_window(ring, desk, stop),
            (Completed::Covering, _) => true,
            _ => false,
        };
        let consumed = self.entries.geometry().published(start, self.cons);
        ring.counters.window(consumed.unwrap_or(0));
        (goes_on, looked_at)
    }

    /// Fetch, decode, first pass.
    #[inline]
    fn take_window(&self, desk: &mut Desk, limit: u32, watch: &mut impl Watch) -> Option<Stop> {
        let window = &mut desk.window;
        window.restart(&self.capabilities);
        while window.len < limit {
            let at = self.entries.geometry().advance(self.cons, window.len);
            let words = match self.entries.words(&*self.memory, at, limit - window.len) {
                Ok(words) => watch.copy(window.len, words),
                Err(_) => return Some(Stop::Unreadable),
            };
            let caps = &self.frame.settings.caps;
            if let Some(stop) = first_pass(window, words, caps, self.cover.is_some()) {
                return Some(stop);
            }
        }
        None
    }

    /// Adds what other rings of the VINTF have published to a window with a SYNC, as far as there is
    /// room. How many entries that were.
    #[inline]
    fn cover_others(&mut self, ring: &Ring, desk: &mut Desk) -> u32 {
        let Some(cover) = &mut self.cover else {
            return 0;
        };
        let window = &mut desk.window;
        if window.invalidations != 0 {
            cover.lane().set_unsynced(true);
        }
        if window.syncs.is_empty() {
            cover.forget();
            return 0;
        }
        // A SYNC that waits for accesses has all of it behind it.
        if self.waiting {
            return 0;
        }
        if !cover.is_begun() {
            cover.begin();
        }
        let room = desk.left.saturating_sub(window.len);
        let (caps, memory) = (&self.frame.settings.caps, &*self.memory);
        let others = cover.gather(&mut window.coalescer, memory, caps, window.len, room);
        ring.counters.covered.add(u64::from(others));
        others
    }

    /// The ring comes on at `cons`: nothing is left of what was before.
    pub(crate) fn begin_anew(
        &mut self,
        ring: &Ring,
        cons: QueueIndex,
        error: Option<CommandError>,
    ) {
        self.halted = error;
        self.lost_atc_inv = false;
        self.waiting = false;
        self.events_due = None;
        self.stop_clock(ring);
        ring.set_waiting(false);
        if let Some(cover) = &mut self.cover {
            cover.forget();
        }
        self.publish(ring, cons);
    }

    /// Coalesce, batch, dispatch: when it returns, every invalidation of the window has taken
    /// effect in every instance that it concerns, or the streams concerned abort.
    #[inline]
    fn dispatch_window(&self, ring: &Ring, desk: &mut Desk) {
        let Desk {
            window,
            batch,
            report,
            ..
        } = desk;
        report.clear();
        batch.set_waiter(waiter(ring.index));
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
                .filter(|s| !streams.is_bound(*s))
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
        for (stream, cause) in &report.failed_closed {
            tracing::warn!(ring = ring.index, ?stream, %cause, "invalidation failed closed");
            self.frame.host.failed_closed(*stream, *cause);
        }
    }

    /// What the window ended at: an error, which stops the ring there, or an effect, which takes
    /// place now.
    fn end_window(&mut self, ring: &Ring, desk: &mut Desk, stop: Stop) -> bool {
        match stop {
            Stop::Illegal(reason) => {
                tracing::debug!(ring = ring.index, cons = self.cons.raw(), %reason, "CERROR_ILL");
                ring.counters.illegal.add(1);
                self.stop(ring, CommandError::Illegal);
                false
            }
            Stop::Unreadable => {
                tracing::debug!(ring = ring.index, cons = self.cons.raw(), "CERROR_ABT");
                ring.counters.unreadable.add(1);
                self.stop(ring, CommandError::Abort);
                false
            }
            Stop::Effect(effect) => {
                ring.counters.effects.add(1);
                self.effect(ring, desk, effect);
                let behind = self.entries.geometry().advance(self.cons, 1);
                self.publish(ring, behind);
                true
            }
        }
    }

    fn effect(&self, ring: &Ring, desk: &mut Desk, effect: Effect) {
        let streams = self.frame.streams.read();
        let host = &self.frame.host;
        match effect {
            Effect::Configuration(change) => {
                for instance in &self.instances {
                    instance
                        .backend
                        .configuration_changed(&change, waiter(ring.index));
                }
                for stream in streams.iter().filter(|stream| change.concerns(*stream)) {
                    host.configuration_changed(stream, &change);
                }
                drop(streams);
                self.forward_configuration(ring, desk, &change);
            }
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
            self.dispatch_window(ring, desk);
        }
    }

    /// Publishes CONS: everything before `cons` is done.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &Ring, cons: QueueIndex) {
        self.cons = cons;
        ring.publish_cons(cons, self.halted);
    }

    /// Stops the ring at CONS: first CONS with the reason, then GERROR, then the interrupt.
    pub(crate) fn stop(&mut self, ring: &Ring, error: CommandError) {
        self.halted = Some(error);
        // law4c: CONS moves on over the command that failed.
        let at = if cfg!(break_law4c) {
            self.entries.geometry().advance(self.cons, 1)
        } else {
            self.cons
        };
        self.publish(ring, at);
        ring.raise(&*self.frame.interrupts, gerror_bits::CMDQ_ERR);
    }
}
