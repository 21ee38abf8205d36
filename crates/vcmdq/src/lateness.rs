//! How late SYNCs are, and why: measured if [`Settings::late_after`](crate::Settings::late_after)
//! says so, and nothing of it runs otherwise.
//!
//! A SYNC's clock begins when its PROD was published and ends when it is complete. The engine is
//! careful to measure no less than that:
//!
//! * A trapped doorbell notes the time before it publishes. Of several doorbells between two looks of
//!   the worker, the first one's time counts for all.
//! * A store into a shared page is seen by the look that finds it; it was made after the look before,
//!   whose time counts. So a worker that dozes makes late what may have come at its last moment.
//! * While a ring is disabled, paused or stopped by an error, its clock stands still.
//!
//! The cause of a late SYNC is what took most of its time:
//!
//! | cause | which time |
//! |---|---|
//! | guard | from the barrier that was pending to the completion |
//! | asleep | the worker slept or dozed |
//! | preempted | between two readings of the clock, one soon after the other in the code, lay much more: the thread did not run. Idle looks and the first pass are watched so |
//! | backend | dispatch. A thread that loses its processor inside a backend is not told from a slow backend |
//! | other | the rest: other rings' windows, callbacks into the VMM |
//!
//! Stretches below a quarter of the limit are forgotten, and so are all but the last few: the sum of
//! what is remembered is then smaller, and more of the SYNC's time is "other".

use crate::consumer::Consumer;
use crate::looks::{Cause, Looks, Nanos, Span, nanos};
use crate::ring::Ring;
use crate::seams::Clock;
use crate::window::SyncPoint;
use arrayvec::ArrayVec;
use smmu_core::queue_index::{Geometry, QueueIndex};
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Looks whose commands wait at the same time; those of more share a time, the earliest.
const LOOKS: usize = 16;

/// What a ring's SYNCs are measured with.
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    limit: Nanos,
    /// When the first doorbell rang that no look has taken yet, plus one; zero is "none did".
    rung: AtomicU64,
}

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self {
            clock,
            limit: nanos(limit),
            rung: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Nanos {
        nanos(self.clock.now())
    }

    /// A doorbell is about to publish PROD. Relaxed: PROD's own release and acquire show the time
    /// to whoever sees PROD. If a look that did not see PROD takes it away, that look's own time
    /// counts, which is not later than PROD.
    #[cold]
    pub(crate) fn rung(&self) {
        if self.rung.load(Ordering::Relaxed) == 0 {
            let now = self.now().saturating_add(1);
            let _earlier = self
                .rung
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<Nanos> {
        if self.rung.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.rung.swap(0, Ordering::Relaxed).checked_sub(1)
    }
}

/// Commands up to `end` were published not before `since`.
#[derive(Clone, Copy, Debug)]
struct Published {
    end: QueueIndex,
    since: Nanos,
}

/// What the owner of a ring knows of the times of its commands.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Read before the look at PROD that comes next, or is under way.
    before: Nanos,
    /// The same of the last look that is over, if the ring has run since.
    looked: Option<Nanos>,
    published: ArrayVec<Published, LOOKS>,
    waiting_since: Option<Nanos>,
    guard: Span,
}

impl Timing {
    /// A slice begins.
    pub(crate) fn begin(&mut self, ring: &Ring, looks: &mut Looks) {
        if let Some(meter) = &ring.meter {
            self.before = meter.now();
            looks.note(self.before, meter.limit, Cause::Preempted);
        }
    }

    /// A look has found nothing to consume.
    pub(crate) fn nothing(&mut self, ring: &Ring) {
        self.looked = Some(self.before);
        self.published.clear();
        forget_doorbells(ring);
    }

    /// The ring does not run: what was published until now has its time when it runs again.
    pub(crate) fn stop(&mut self, ring: &Ring) {
        *self = Self {
            before: self.before,
            ..Self::default()
        };
        forget_doorbells(ring);
    }

    /// A look has found `count` entries behind `cons`.
    pub(crate) fn found(&mut self, ring: &Ring, geometry: Geometry, cons: QueueIndex, count: u32) {
        let Some(meter) = &ring.meter else { return };
        let end = geometry.advance(cons, count);
        let looked = self.looked.replace(self.before).unwrap_or(self.before);
        if self.published.last().is_some_and(|last| last.end == end) {
            return;
        }
        let rung = meter.take().filter(|_| !ring.is_polled());
        let since = rung.unwrap_or(looked);
        if let Err(full) = self.published.try_push(Published { end, since }) {
            if let Some(last) = self.published.last_mut() {
                last.end = full.element().end;
            }
        }
    }

    /// The time of the entry `at` places behind `first`.
    fn since(&self, geometry: Geometry, first: QueueIndex, at: u32) -> Option<Nanos> {
        let covers = |p: &&Published| geometry.published(first, p.end).is_ok_and(|n| n > at);
        self.published.iter().find(covers).map(|p| p.since)
    }
}

fn forget_doorbells(ring: &Ring) {
    if let Some(meter) = &ring.meter {
        meter.take();
    }
}

impl Ring {
    /// Looks at the shared page a few times; whether there is news. By the owner of the claim.
    pub(crate) fn look_for_news(
        &self,
        consumer: &mut Consumer,
        looks: &mut Looks,
        count: u32,
    ) -> bool {
        let before = self.meter.as_ref().map(|meter| {
            let now = meter.now();
            looks.note(now, meter.limit, Cause::Preempted);
            now
        });
        let found = (0..count).position(|look| {
            if look != 0 {
                vcmdq_sync::hint::spin_loop();
            }
            self.page_has_news() || consumer.guest_prod_has_news(self)
        });
        if let (Some(timing), Some(before)) = (&mut consumer.timing, before) {
            // News at the first look came after the look before, whose time is noted.
            if found != Some(0) {
                timing.looked = Some(before);
            }
        }
        found.is_some()
    }
}

impl Timing {
    /// The time since the last reading went into `cause`.
    pub(crate) fn spent_in(ring: &Ring, looks: &mut Looks, cause: Cause) {
        if let Some(meter) = &ring.meter {
            looks.note(meter.now(), meter.limit, cause);
        }
    }

    /// CONS has moved from `first` to `cons`, over those of `syncs` that are done.
    pub(crate) fn completed(
        &mut self,
        ring: &Ring,
        looks: &mut Looks,
        geometry: Geometry,
        (first, cons): (QueueIndex, QueueIndex),
        syncs: &[SyncPoint],
    ) {
        let Some(meter) = &ring.meter else { return };
        let now = meter.now();
        looks.pass(now);
        self.before = now;
        let consumed = geometry.published(first, cons).unwrap_or(0);
        let done = syncs.iter().take_while(|sync| sync.at < consumed);
        let mut measured = 0;
        for sync in done {
            measured += 1;
            if let Some(from) = self.waiting_since.take() {
                self.guard = Span { from, to: now };
            }
            if let Some(from) = self.since(geometry, first, sync.at) {
                self.count(ring, meter, looks, Span { from, to: now });
            }
        }
        ring.counters.syncs_measured.add(measured);
        let ahead = |end| geometry.published(first, end).is_ok_and(|n| n > consumed);
        self.published.retain(|p| ahead(p.end));
    }

    fn count(&self, ring: &Ring, meter: &Meter, looks: &Looks, span: Span) {
        if span.len() <= meter.limit {
            return;
        }
        let counters = &ring.counters;
        counters.syncs_late.add(1);
        let cause = looks.blame(span, self.guard);
        match cause {
            Cause::Asleep => counters.late_asleep.add(1),
            Cause::Preempted => counters.late_preempted.add(1),
            Cause::Backend => counters.late_backend.add(1),
            Cause::Guard => counters.late_guard.add(1),
            Cause::Other => counters.late_other.add(1),
        }
        tracing::trace!(ring = ring.index, nanos = span.len(), ?cause, "late");
    }

    /// The window has ended; callbacks for its effect may have taken their time.
    pub(crate) fn ended(&mut self, ring: &Ring, looks: &mut Looks, effect: bool, waiting: bool) {
        let Some(meter) = &ring.meter else { return };
        if effect {
            self.before = meter.now();
            looks.pass(self.before);
        }
        if waiting {
            let since = self.before;
            self.waiting_since.get_or_insert(since);
        }
    }
}
