//! The engine: workers, and the rings that they serve.

use crate::cmdqv::group::Member;
use crate::consumer::Consumer;
use crate::doorbell::Bell;
use crate::doorbell::NOWHERE;
use crate::doorbell::flipper::Flipper;
use crate::error::{RingError, StartError};
use crate::fan_out::Patience;
use crate::frame::Frame;
use crate::lateness::Meter;
use crate::metrics::EngineMetrics;
use crate::ring::{DoorbellMode, Ring};
use crate::rings::{Home, Place, Rings};
use crate::seams::{Clock, Seams, StdClock, Threads};
use crate::settings::{FrameSettings, Settings};
use crate::worker::{Round, Staff, Worker};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::claim::ClaimCell;

/// What workers share.
pub(crate) struct EngineShared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) patience: Patience,
    pub(crate) bell: Arc<Bell>,
    pub(crate) flipper: Arc<Flipper>,
    pub(crate) staff: Staff,
    pub(crate) rings: Rings,
    /// One for each worker.
    pub(crate) rounds: Box<[ClaimCell<Round>]>,
    pub(crate) stop: AtomicBool,
    sleeps: AtomicU64,
    idle_looks: AtomicU64,
    hand_overs: AtomicU64,
    /// Rings whose SYNC waits, and which no round knows of yet.
    waiting: Mutex<Vec<Arc<Ring>>>,
    any_waits: AtomicBool,
}

impl EngineShared {
    pub(crate) fn count_idle(&self, looks: u32, slept: bool) {
        self.idle_looks
            .fetch_add(u64::from(looks), Ordering::Relaxed);
        self.sleeps.fetch_add(u64::from(slept), Ordering::Relaxed);
    }

    /// A round has been given up before a call that can block.
    pub(crate) fn count_hand_over(&self) {
        self.hand_overs.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread without a round leaves a ring waiting, which somebody is to keep an eye on.
    #[cold]
    pub(crate) fn leave_waiting(&self, ring: &Arc<Ring>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| Arc::ptr_eq(other, ring)) {
            waiting.push(ring.clone());
        }
        self.any_waits.store(true, Ordering::Release);
        drop(waiting);
        self.bell.wake_all();
    }

    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.any_waits.load(Ordering::Acquire)
    }

    pub(crate) fn take_waiting(&self) -> Vec<Arc<Ring>> {
        if !self.has_waiting() {
            return Vec::new();
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.any_waits.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }

    /// Adds a ring to those of a frame. Control path.
    pub(crate) fn add_ring(
        &self,
        home: &mut Home,
        mode: DoorbellMode,
        consumer: Consumer,
        member: Option<Member>,
    ) -> Result<Arc<Ring>, RingError> {
        let ring = self.rings.add(home, mode.is_polled(), |place| {
            self.make_ring(place, mode, consumer, member)
        })?;
        self.bell.wake_all();
        Ok(ring)
    }

    fn make_ring(
        &self,
        place: Place,
        mode: DoorbellMode,
        consumer: Consumer,
        member: Option<Member>,
    ) -> Result<Arc<Ring>, RingError> {
        let limit = self.settings.late_after;
        let meter = limit.map(|limit| Meter::new(self.clock.clone(), limit));
        let mut ring = Ring::new(place, mode, self.bell.clone(), consumer, member, meter);
        if let Some(way) = ring.mode.way() {
            let threads = self.staff.threads();
            ring.gate = Some(self.flipper.gate(way, ring.index, threads)?);
        }
        self.watch(&ring)?;
        self.bell.set_slot(place.number, place.slot);
        Ok(Arc::new(ring))
    }

    /// Takes a ring of a frame away. When this returns, no thread of the engine touches its guest's
    /// memory or calls what its frame was given, and nobody serves it: who still holds it can do
    /// with it what can be done with a disabled ring. Waits for the slice under way. Control path.
    pub(crate) fn remove_ring(&self, home: &mut Home, ring: &Arc<Ring>) {
        ring.retire();
        if let Some(gate) = &ring.gate {
            self.flipper.leave(gate, ring.index);
        }
        #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
        if let (DoorbellMode::EventFd(prod), Some(round)) = (&ring.mode, ring.place.round) {
            self.bell.unwatch(round, &prod.event);
        }
        self.bell.set_slot(ring.index, NOWHERE);
        self.rings.remove(home, ring);
        self.bell.wake_all();
    }

    /// Has a round's worker wake for a ring's eventfd, if it has one.
    fn watch(&self, ring: &Ring) -> Result<(), RingError> {
        #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
        if let (DoorbellMode::EventFd(prod), Some(round)) = (&ring.mode, ring.place.round) {
            use std::io::ErrorKind;
            let watched = self.bell.watch(round, ring.index, &prod.event);
            return watched.map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => RingError::DoorbellTaken,
                kind => RingError::EventFd(kind),
            });
        }
        let _ = ring;
        Ok(())
    }
}

/// The workers of a process and what they serve.
///
/// All methods are control calls: from any thread, not from inside a callback of the engine.
///
/// A backend or a callback that panics takes nothing along: the panic is caught in the worker, or in the
/// doorbell that [consumes inline](Settings::inline), counted
/// ([`EngineMetrics::panics`]), and the ring is served again from CONS on. The third time at the same
/// CONS the frame's instances fail closed, [`StreamHost::failed_closed`](crate::StreamHost::failed_closed)
/// is called and that ring is not served any more. This needs unwinding. With `panic = "abort"` such a
/// panic ends the process; what holds in either build is that no guest can make the engine itself panic.
///
/// Beside the workers there is a spare thread for each frame with calls that can block or are long: a
/// backend with `may_block` or [long calls](dispatch::Costs::is_long_call), or a `StreamHost` that may.
pub struct Engine {
    shared: Arc<EngineShared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the workers, on threads of the VMM.
    pub fn start(settings: Settings, threads: Arc<dyn Threads>) -> Result<Self, StartError> {
        Self::start_with_clock(settings, threads, Arc::new(StdClock::default()))
    }

    /// The same with the VMM's clock.
    #[expect(clippy::needless_pass_by_value, reason = "the signature is to stay")]
    pub fn start_with_clock(
        settings: Settings,
        threads: Arc<dyn Threads>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let engine = Self::prepare(settings, clock, Some(threads.clone()))?;
        let shared = &engine.shared;
        for index in 0..shared.settings.workers {
            let worker = Worker::new(index, shared.clone());
            let handle = threads
                .spawn(format!("vcmdq-{index}"), Box::new(move || worker.run()))
                .map_err(|cause| StartError::Spawn {
                    worker: index,
                    cause,
                })?;
            engine
                .workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(handle);
        }
        Ok(engine)
    }

    /// Everything but the threads.
    pub(crate) fn prepare(
        settings: Settings,
        clock: Arc<dyn Clock>,
        threads: Option<Arc<dyn Threads>>,
    ) -> Result<Self, StartError> {
        settings.validate()?;
        let bell = Bell::new(settings.max_rings, settings.workers);
        let bell = bell.consuming(settings.inline, settings.slice);
        let bell = Arc::new(bell);
        let shared = EngineShared {
            flipper: Arc::new(Flipper::new(bell.clone(), clock.clone())),
            bell,
            patience: Patience::new(clock.clone(), &settings),
            clock,
            staff: Staff::new(threads),
            rings: Rings::new(settings.max_rings, settings.workers),
            rounds: (0..settings.workers)
                .map(|index| ClaimCell::new(Round::new(index)))
                .collect(),
            stop: AtomicBool::new(false),
            sleeps: AtomicU64::new(0),
            idle_looks: AtomicU64::new(0),
            hand_overs: AtomicU64::new(0),
            waiting: Mutex::default(),
            any_waits: AtomicBool::new(false),
            settings,
        };
        (0..shared.rounds.len()).for_each(|round| shared.bell.leave_open(round));
        Ok(Self {
            shared: Arc::new(shared),
            workers: Mutex::default(),
        })
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn bell(&self) -> &Bell {
        &self.shared.bell
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn shared(&self) -> &Arc<EngineShared> {
        &self.shared
    }

    /// Adds a guest-visible SMMU.
    #[must_use]
    pub fn add_frame(&self, settings: FrameSettings, seams: Seams) -> Frame {
        Frame::new(settings, seams, self.shared.clone())
    }

    /// What the workers have done so far. Goes through all rings.
    #[must_use]
    pub fn metrics(&self) -> EngineMetrics {
        let flips = &self.shared.flipper.counters;
        EngineMetrics {
            lateness: self.shared.rings.lateness(),
            wake_ups: self.shared.bell.wake_ups(),
            sleeps: self.shared.sleeps.load(Ordering::Relaxed),
            idle_looks: self.shared.idle_looks.load(Ordering::Relaxed),
            hand_overs: self.shared.hand_overs.load(Ordering::Relaxed),
            spares: self.shared.staff.spares(),
            callers: self.shared.staff.callers(),
            panics: self.shared.bell.panics(),
            broken_rings: self.shared.bell.broken(),
            flips: flips.flips.load(Ordering::Relaxed),
            failed_flips: flips.failed.load(Ordering::Relaxed),
            flip_time: Duration::from_nanos(flips.nanos.load(Ordering::Relaxed)),
            longest_flip: Duration::from_nanos(flips.longest.load(Ordering::Relaxed)),
        }
    }

    /// Stops the workers and waits for them. Commands that are not consumed stay in their rings.
    /// Dropping the engine does the same; a thread of the engine's that drops its last owner, inside a callback, is
    /// waited for by nobody.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.wake_all();
        self.shared.bell.spares().wake_all();
        self.shared.flipper.stop();
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let spares = self.shared.staff.close();
        // Whose callback has dropped the last owner of the engine ends when it comes back from here.
        let own = std::thread::current().id();
        let others = workers.into_iter().chain(spares);
        for worker in others.filter(|thread| thread.thread().id() != own) {
            if worker.join().is_err() {
                tracing::error!("a worker had died by a panic");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
