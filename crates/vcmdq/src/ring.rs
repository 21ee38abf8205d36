//! One command queue: what guests, vCPUs and the VMM see of it.

use crate::cmdqv::group::Member;
use crate::consumer::Consumer;
use crate::doorbell::Bell;
use crate::doorbell::gate::{Gate, Way};
use crate::error::ConfigureError;
use crate::fetch::Entries;
use crate::gerror::{CommandError, ErrorLatch};
use crate::instance::{Instance, waiter};
use crate::lateness::Meter;
use crate::metrics::{Counters, RingMetrics};
use crate::polled::Seen;
use crate::ring_control::{Control, GATED};
use crate::ring_page::RingPage;
use crate::rings::Place;
use crate::seams::{CoalescedZone, Interrupts, Line, Passage};
use crate::settings::RingSettings;
use crate::staged::Staged;
use crate::tap::TapSlot;
use crate::worker::Lane;
use smmu_core::queue_index::{Geometry, QueueIndex};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use vcmdq_sync::claim::{Claim, ClaimCell};
use vcmdq_sync::weak::{Site, order};

/// After this time a ring is looked at again whose owner could not be waited for.
const RETRY: Duration = Duration::from_millis(1);

/// How a guest's PROD reaches the engine.
#[derive(Clone)]
pub enum DoorbellMode {
    /// The VMM traps the write and calls [`Ring::doorbell`].
    Trap,
    /// The guest stores into a page that a worker polls: one and the same for all rings of a frame.
    SharedPage(Arc<dyn RingPage>),
    /// The same, but the VMM maps the page only while the guest is busy: then a doorbell costs no
    /// exit; otherwise it traps, and the worker sleeps. Rings can share a passage. The page's words
    /// are the only home of what the guest writes there.
    Adaptive {
        /// As of [`SharedPage`](Self::SharedPage); begins at a multiple of 4096.
        page: Arc<dyn RingPage>,
        /// Maps it and takes it away.
        passage: Arc<dyn Passage>,
    },
    /// The hypervisor queues writes of PROD while the guest is busy, and a worker polls
    /// the queue; otherwise they trap.
    Coalesced(Arc<dyn CoalescedZone>),
    /// The guest stores PROD into its own memory and signals an eventfd (KVM's ioeventfd), which
    /// wakes a worker directly. [`Ring::doorbell`] does the same by a trap; its value does
    /// not count.
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    EventFd(crate::doorbell::guest_prod::GuestProd),
}

impl fmt::Debug for DoorbellMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "Trap",
            Self::SharedPage(_) => "SharedPage",
            Self::Adaptive { .. } => "Adaptive",
            Self::Coalesced(_) => "Coalesced",
            #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
            Self::EventFd(_) => "EventFd",
        })
    }
}

impl DoorbellMode {
    /// Whether a worker looks for PROD itself: in a shared page, in guest memory or in a zone's
    /// queue.
    pub(crate) fn is_polled(&self) -> bool {
        !matches!(self, Self::Trap)
    }

    /// The way around the exit that the VMM opens and closes, if there is one.
    pub(crate) fn way(&self) -> Option<Way> {
        match self {
            Self::Adaptive { passage, .. } => Some(Way::Page(passage.clone())),
            Self::Coalesced(zone) => Some(Way::Zone(zone.clone())),
            _ => None,
        }
    }
}

/// One command queue. See the methods for who may call what; none takes a lock.
pub struct Ring {
    /// Its number: what it is rung for by, and what its waiters have.
    pub(crate) index: u32,
    pub(crate) place: Place,
    pub(crate) mode: DoorbellMode,
    /// Of the way around the exit, if the mode has one.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Of the ring as it is enabled now: for who compares PRODs without owning it.
    pub(crate) log2size: AtomicU8,
    /// Its place in a VINTF, if it is a VCMDQ.
    pub(crate) member: Option<Member>,
    /// PROD as last published by a trap.
    pub(crate) prod: CachePadded<AtomicU32>,
    /// CONS with ERR, as a trapped read sees it.
    pub(crate) cons: CachePadded<AtomicU32>,
    pub(crate) control: CachePadded<Control>,
    /// CONS stands at a SYNC that waits for an access under way. Written by the owner.
    waiting: AtomicBool,
    pub(crate) seen: Seen,
    /// Where the ring is to lie from its next enable on. For control paths, and for the owner when
    /// it settles.
    pub(crate) staged: Mutex<Staged>,
    pub(crate) cmdq_cap: u8,
    pub(crate) latch: ErrorLatch,
    pub(crate) counters: Counters,
    pub(crate) consumer: ClaimCell<Consumer>,
    pub(crate) bell: Arc<Bell>,
    /// Of its frame.
    pub(crate) lane: Arc<Lane>,
    pub(crate) tap: TapSlot,
    /// Present if the ring's SYNCs are measured.
    pub(crate) meter: Option<Box<Meter>>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("index", &self.index)
            .field("mode", &self.mode)
            .field("prod", &self.prod())
            .field("cons", &self.cons())
            .field("gerror", &self.gerror())
            .field("gerrorn", &self.gerrorn())
            .field("control", &*self.control)
            .field("seen", &self.seen)
            .field("lane", &self.member.as_ref().map(|member| member.lane()))
            .finish_non_exhaustive()
    }
}

impl Ring {
    pub(crate) fn new(
        place: Place,
        mode: DoorbellMode,
        bell: Arc<Bell>,
        mut consumer: Consumer,
        member: Option<Member>,
        meter: Option<Meter>,
    ) -> Self {
        consumer.timing = meter.as_ref().map(|_| Box::default());
        let cmdq_cap = consumer.frame.settings.caps.cmdq_log2size();
        let control = Control::default();
        if let Some(member) = &member {
            member.set_ring(place.number);
            control.wanted.store(GATED, Ordering::Relaxed);
        }
        Self {
            index: place.number,
            place,
            mode,
            gate: None,
            log2size: AtomicU8::new(0),
            member,
            prod: CachePadded::new(AtomicU32::new(0)),
            cons: CachePadded::new(AtomicU32::new(0)),
            control: CachePadded::new(control),
            waiting: AtomicBool::new(false),
            seen: Seen::default(),
            staged: Mutex::default(),
            cmdq_cap,
            latch: ErrorLatch::new(),
            counters: Counters::default(),
            lane: consumer.frame.lane.clone(),
            consumer: ClaimCell::new(consumer),
            bell,
            tap: TapSlot::default(),
            meter: meter.map(Box::new),
        }
    }

    /// The guest has written PROD: publishes it, sees to it that a worker consumes it, and returns.
    ///
    /// From any thread, at any time, also inside [`Interrupts`] callbacks. Never blocks; one
    /// system call at most, and only if every worker sleeps. A PROD that lies beyond the ring is
    /// not followed. With [`Settings::inline`](crate::Settings::inline) it may consume what has
    /// been published and call the VMM's interrupts itself.
    #[inline]
    pub fn doorbell(&self, prod: u32) {
        if self.guest_prod().is_some() {
            return self.rouse();
        }
        if self.gate.is_some() && self.doorbell_beside_a_way(prod) {
            return;
        }
        // A page's PROD is told when its owner sees it.
        if self.page().is_none() {
            self.tap.published(prod);
            if let Some(meter) = &self.meter {
                meter.rung();
            }
        }
        // Release pairs with the acquire in `prod()`: the entries were there before.
        self.prod
            .store(prod, order(Site::ProdPublish, Ordering::Release));
        self.show_prod(prod);
        if self.page().is_none() && self.consume_inline() {
            return;
        }
        self.rouse();
    }

    /// Sees to it that the ring is served. From any thread, never blocks.
    #[inline]
    pub(crate) fn rouse(&self) {
        if !self.lane.takes(self.index, &self.bell) {
            self.bell.ring(self.index);
        }
    }

    /// Copies PROD to where others look for it.
    #[inline]
    pub(crate) fn show_prod(&self, prod: u32) {
        if let Some(page) = self.page() {
            page.publish_prod(prod);
        } else if let Some(member) = &self.member {
            member.lane().show_prod(prod);
        }
    }

    /// PROD as the guest last published it; what a trapped read returns.
    #[must_use]
    #[inline]
    pub fn prod(&self) -> u32 {
        match self.page() {
            Some(page) => page.guest().prod,
            // Acquire pairs with `doorbell`.
            None => self.prod.load(Ordering::Acquire),
        }
    }

    /// CONS: RD in bits 19:0, ERR in bits 30:24; what a trapped read returns. From any thread,
    /// never blocks. Acquire: the commands before RD have taken effect.
    #[must_use]
    #[inline]
    pub fn cons(&self) -> u32 {
        self.cons.load(Ordering::Acquire)
    }

    /// GERROR, as far as this ring raises it.
    #[must_use]
    pub fn gerror(&self) -> u32 {
        self.latch.gerror()
    }

    /// GERRORN.
    #[must_use]
    pub fn gerrorn(&self) -> u32 {
        self.latch.gerrorn()
    }

    /// The guest has written GERRORN. If that acknowledges the error that stopped the ring,
    /// consumption resumes at CONS, whose entry is read again (IHI 0070, 7.1). From any thread,
    /// never blocks.
    pub fn acknowledge(&self, gerrorn: u32) {
        // law4e: an acknowledgement resumes nothing; the next PROD does.
        self.latch.acknowledge(gerrorn);
        if !vcmdq_sync::broken!(break_law4e) {
            self.rouse();
        }
    }

    /// Says where the ring lies, and sets PROD and CONS to zero. Refused while it is enabled.
    /// May wait for a worker that is just leaving the ring.
    pub fn configure(&self, settings: RingSettings) -> Result<(), ConfigureError> {
        if !self.is_disabled() {
            return Err(ConfigureError::Enabled);
        }
        let geometry = Geometry::capped(settings.log2size, self.cmdq_cap);
        self.with_consumer(|consumer| {
            consumer.entries = Entries::new(settings.base, geometry);
            self.place(consumer, 0, 0);
        });
        Ok(())
    }

    /// Sets PROD and CONS, as a guest may while the ring is disabled. Same conditions as
    /// [`configure`](Self::configure).
    pub fn set_pointers(&self, prod: u32, cons: u32) -> Result<(), ConfigureError> {
        if !self.is_disabled() {
            return Err(ConfigureError::Enabled);
        }
        self.with_consumer(|consumer| self.place(consumer, prod, cons));
        Ok(())
    }

    pub(crate) fn place(&self, consumer: &mut Consumer, prod: u32, cons: u32) {
        self.prod.store(prod, Ordering::Release);
        self.show_prod(prod);
        let cons = consumer.entries.geometry().pointer(cons);
        consumer.waiting = false;
        consumer.events_due = None;
        consumer.configuring = None;
        consumer.forget_answers(self);
        consumer.stop_clock(self);
        self.set_waiting(false);
        consumer.publish(self, cons);
    }

    /// Counters since the ring was added.
    #[must_use]
    pub fn metrics(&self) -> RingMetrics {
        self.counters.read()
    }

    /// Whether a SYNC of the ring waits for accesses that use what was removed before it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Tells the ring's backends how long its SYNC has waited; the shortest wait after which that
    /// is to be done again. Not now, if somebody is at work in the ring, perhaps in a call that
    /// blocks.
    pub(crate) fn overdue(&self, waited: Duration) -> Option<Duration> {
        // Dropped behind the claim.
        let _again = Again(self);
        let Some(mut claim) = self.consumer.try_enter() else {
            return Some(waited + RETRY);
        };
        let next = claim.with(|consumer| {
            let others = consumer.cover.iter().flat_map(|c| c.unsynced_others());
            let rings: Vec<u32> = others.chain([self.index]).collect();
            let tell = |instance: &Arc<Instance>| {
                let tell = |ring: &u32| instance.backend.overdue(waiter(*ring), waited);
                rings.iter().filter_map(tell).min()
            };
            consumer.instances.iter().filter_map(tell).min()
        });
        self.release(claim);
        next
    }

    /// The ring goes: from now on it consumes nothing, and holds nothing of what its frame was
    /// given. Waits for the slice under way. Control path.
    pub(crate) fn retire(&self) {
        self.pause();
        self.with_consumer(Consumer::retire);
    }

    /// Works on the consumer from a control path; waits for a worker's present slice.
    pub(crate) fn with_consumer<R>(&self, work: impl FnOnce(&mut Consumer) -> R) -> R {
        // Dropped behind the claim.
        let _again = Again(self);
        let mut claim = self.consumer.enter_blocking();
        let result = claim.with(work);
        self.release(claim);
        result
    }

    /// Gives the claim back; a reason that came meanwhile becomes a worker's.
    pub(crate) fn release(&self, claim: Claim<'_, Consumer>) {
        if let Err(again) = claim.leave() {
            drop(again);
            self.rouse();
        }
    }

    /// Shows CONS: in the register, and in the shared page.
    #[inline]
    pub(crate) fn publish_cons(&self, cons: QueueIndex, error: Option<CommandError>) {
        let shown = cons.raw() | error.map_or(0, |error| (error as u32) << 24);
        self.cons
            .store(shown, order(Site::ConsPublish, Ordering::Release));
        if let Some(page) = self.page() {
            page.publish_cons(shown);
        }
        if let Some(member) = &self.member {
            member.lane().show_cons(cons.raw());
        }
    }

    fn pulse(&self, interrupts: &dyn Interrupts) {
        match &self.member {
            None => interrupts.pulse(Line::Gerror),
            Some(member) => member.group.pulse(interrupts),
        }
    }

    /// Raises errors; pulses the interrupt if any became active.
    pub(crate) fn raise(&self, interrupts: &dyn Interrupts, bits: u32) {
        let news = self.latch.raise(bits);
        if let Some(page) = self.page() {
            page.publish_gerror(self.latch.gerror());
        }
        if news {
            self.pulse(interrupts);
        }
    }
}

/// A thread that unwinds gives its claim up without another round: then somebody else has to look.
pub(crate) struct Again<'r>(pub(crate) &'r Ring);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if vcmdq_sync::thread::panicking() {
            self.0.rouse();
        }
    }
}
