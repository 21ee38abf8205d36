//! A way on which a guest's PROD reaches the engine without an exit to the VMM, opened and closed.
//!
//! | | open | closed |
//! |---|---|---|
//! | adaptive page | the guest stores into the page | each store traps: `Ring::doorbell` |
//! | coalesced zone | the hypervisor queues the write | each write leaves to the VMM: `Ring::doorbell` |
//! | a worker | looks by itself, sleeps `doze` at most | may sleep until a doorbell rings |
//!
//! Rules, for law 5:
//!
//! 1. `open` is set before the VMM opens the way, and cleared after it has closed it. So a worker
//!    that finds it cleared misses nothing that comes later: that comes as a doorbell.
//! 2. After either, every ring behind the gate is rung for. So what came before the way was closed
//!    is looked for once more, and a worker that sleeps learns that it has to look by itself.
//! 3. A zone is drained between closing and ringing.
//!
//! Models: `loom-tests/tests/adaptive.rs`, `coalesced.rs`.

use super::Bell;
use crate::seams::{CoalescedZone, Passage};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::thread::Parker;
use vcmdq_sync::weak::{Site, taken};

/// What the VMM opens and closes.
#[derive(Clone)]
pub(crate) enum Way {
    Page(Arc<dyn Passage>),
    Zone(Arc<dyn CoalescedZone>),
}

impl Way {
    fn address(&self) -> *const () {
        match self {
            Self::Page(passage) => Arc::as_ptr(passage).cast(),
            Self::Zone(zone) => Arc::as_ptr(zone).cast(),
        }
    }

    fn flip(&self, open: bool) -> io::Result<()> {
        match (self, open) {
            (Self::Page(passage), true) => passage.open(),
            (Self::Page(passage), false) => passage.close(),
            (Self::Zone(zone), true) => zone.open(),
            (Self::Zone(zone), false) => zone.close(),
        }
    }
}

/// One way. See the [module](self).
pub(crate) struct Gate {
    way: Way,
    /// The worker has to look by itself.
    open: AtomicBool,
    /// What the worker wants it to be.
    wanted: AtomicBool,
    rings: Mutex<Vec<u32>>,
    /// Held while the VMM is called; false when no ring is left.
    alive: Mutex<bool>,
    /// When it was flipped last.
    flipped: Mutex<Option<Duration>>,
    /// Where the thread sleeps that flips gates.
    control: Arc<Parker>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("open", &self.open)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Closed.
    pub(crate) fn new(way: Way, control: Arc<Parker>) -> Self {
        Self {
            way,
            open: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            rings: Mutex::default(),
            alive: Mutex::new(true),
            flipped: Mutex::default(),
            control,
        }
    }

    /// Whether it is the gate of this way.
    pub(crate) fn is_of(&self, way: &Way) -> bool {
        std::ptr::eq(self.way.address(), way.address())
    }

    pub(crate) fn add_ring(&self, ring: u32) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.push(ring);
    }

    /// A ring has gone. Whether it was the last one.
    pub(crate) fn remove_ring(&self, ring: u32) -> bool {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.retain(|other| *other != ring);
        rings.is_empty()
    }

    /// No ring is left: when this returns, the VMM is not called any more. The way stays as it is.
    pub(crate) fn close_for_good(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Whether the worker has to look by itself. Acquire pairs with `flip`: what the guest did while
    /// the way was open has happened.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Says what the gate should be, and wakes the thread that brings it about.
    pub(crate) fn want(&self, open: bool) {
        if self.wanted.swap(open, Ordering::AcqRel) != open && open != self.is_open() {
            self.control.unpark();
        }
    }

    /// What it should be, if that is not what it is.
    pub(crate) fn wish(&self) -> Option<bool> {
        let wanted = self.wanted.load(Ordering::Acquire);
        (wanted != self.is_open()).then_some(wanted)
    }

    /// How long it is to be left as it is, at `now`.
    pub(crate) fn rests(&self, now: Duration, least: Duration) -> Duration {
        let flipped = self.flipped.lock().unwrap_or_else(PoisonError::into_inner);
        flipped.map_or(Duration::ZERO, |at| {
            least.saturating_sub(now.saturating_sub(at))
        })
    }

    /// The VMM has been asked, at `now`.
    pub(crate) fn has_flipped(&self, now: Duration) {
        *self.flipped.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Has the VMM open or close the way, and the rings looked at. By one thread at a time, never a
    /// worker: the VMM may take long. If it fails, the gate is as before.
    pub(crate) fn flip(&self, open: bool, bell: &Bell) -> io::Result<()> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if !*alive {
            return Ok(());
        }
        if open {
            self.open.store(true, Ordering::Release);
        }
        let flipped = self.way.flip(open);
        if open != flipped.is_ok() {
            self.open.store(false, Ordering::Release);
        }
        if let (Way::Zone(zone), true) = (&self.way, taken(Site::ZoneDrain)) {
            zone.drain();
        }
        if taken(Site::GateRings) {
            let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.iter().for_each(|ring| bell.ring(*ring));
            drop(rings);
            if open {
                // The bell may have woken another worker than the one that has to look by itself.
                bell.wake_all();
            }
        }
        flipped
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    struct Nothing;

    impl Passage for Nothing {
        fn open(&self) -> io::Result<()> {
            Ok(())
        }

        fn close(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The ring's pages belong to one round, and a bell for the ring may wake another one.
    #[test]
    fn law5_a_way_that_is_opened_wakes_every_worker_that_sleeps() {
        let bell = Arc::new(Bell::new(1, 3));
        bell.set_slot(0, 0);
        let gate = Gate::new(Way::Page(Arc::new(Nothing)), Arc::default());
        gate.add_ring(0);
        let (awake, wakes) = channel();
        for round in 0..3 {
            let (bell, awake) = (bell.clone(), awake.clone());
            vcmdq_sync::thread::spawn(move || {
                bell.sleep(round, None, || false);
                awake.send(round)
            });
        }
        while bell.sleepers() != 0b111 {
            vcmdq_sync::thread::yield_now();
        }
        gate.flip(true, &bell).expect("can be opened");
        let soon = || wakes.recv_timeout(Duration::from_secs(60)).ok();
        let mut woken = [soon(), soon(), soon()];
        woken.sort_unstable();
        assert_eq!(woken, [Some(0), Some(1), Some(2)]);
    }
}
