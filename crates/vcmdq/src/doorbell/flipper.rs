//! The thread that opens and closes gates, so that no worker waits for the VMM.
//!
//! A flip costs the VMM system calls that wait for every vCPU, so a gate is flipped at most once in
//! [`LEAST`], whatever the guest does.

use super::Bell;
use super::gate::{Gate, Way};
use crate::error::RingError;
use crate::seams::{Clock, Threads};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::thread::Parker;

/// Between two flips of one gate: at most 20 a second.
pub(crate) const LEAST: Duration = Duration::from_millis(50);

/// What flips have come to.
#[derive(Debug, Default)]
pub(crate) struct FlipCounters {
    pub(crate) flips: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) nanos: AtomicU64,
    pub(crate) longest: AtomicU64,
}

/// The gates of an engine, and who flips them.
pub(crate) struct Flipper {
    gates: Mutex<Vec<Arc<Gate>>>,
    control: Arc<Parker>,
    stop: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    bell: Arc<Bell>,
    clock: Arc<dyn Clock>,
    pub(crate) counters: FlipCounters,
}

impl Flipper {
    pub(crate) fn new(bell: Arc<Bell>, clock: Arc<dyn Clock>) -> Self {
        Self {
            gates: Mutex::default(),
            control: Arc::default(),
            stop: AtomicBool::new(false),
            thread: Mutex::default(),
            bell,
            clock,
            counters: FlipCounters::default(),
        }
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate of a way, which rings can share. Starts the thread with the first one, unless
    /// there are none to be had: then somebody else calls [`turn`](Self::turn).
    pub(crate) fn gate(
        self: &Arc<Self>,
        way: Way,
        ring: u32,
        threads: Option<&dyn Threads>,
    ) -> Result<Arc<Gate>, RingError> {
        if let Some(threads) = threads {
            self.start(threads)
                .map_err(|error| RingError::ControlThread(error.kind()))?;
        }
        let mut gates = self.gates();
        let gate = match gates.iter().find(|gate| gate.is_of(&way)) {
            Some(gate) => gate.clone(),
            None => {
                let gate = Arc::new(Gate::new(way, self.control.clone()));
                gates.push(gate.clone());
                gate
            }
        };
        gate.add_ring(ring);
        Ok(gate)
    }

    /// A ring has no gate any more. Waits for a flip under way if it was the last one behind it.
    pub(crate) fn leave(&self, gate: &Arc<Gate>, ring: u32) {
        // Under the lock, so that nobody puts a ring behind a gate that is going.
        let mut gates = self.gates();
        let last = gate.remove_ring(ring);
        if last {
            gates.retain(|other| !Arc::ptr_eq(other, gate));
        }
        drop(gates);
        if last {
            gate.close_for_good();
        }
    }

    fn start(self: &Arc<Self>, threads: &dyn Threads) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let this = self.clone();
            let body = Box::new(move || this.run());
            *thread = Some(threads.spawn("vcmdq-gates".into(), body)?);
        }
        Ok(())
    }

    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let next = self.turn();
            self.control.park(next);
        }
    }

    /// Flips what is to be flipped and may be. How long until the next one may be, if one waits.
    pub(crate) fn turn(&self) -> Option<Duration> {
        // A copy: adding a ring must not wait for the VMM.
        let gates = self.gates().clone();
        let mut next = None;
        for gate in gates {
            let Some(open) = gate.wish() else { continue };
            let rest = gate.rests(self.clock.now(), LEAST);
            if rest.is_zero() {
                self.flip(&gate, open);
                // What is wanted may have changed meanwhile, or the VMM refused.
                next = next.into_iter().chain(gate.wish().map(|_| LEAST)).min();
            } else {
                next = next.into_iter().chain([rest]).min();
            }
        }
        next
    }

    fn flip(&self, gate: &Gate, open: bool) {
        let start = self.clock.now();
        let flipped = gate.flip(open, &self.bell);
        let end = self.clock.now();
        gate.has_flipped(start);
        let took = u64::try_from(end.saturating_sub(start).as_nanos()).unwrap_or(u64::MAX);
        let counters = &self.counters;
        counters.flips.fetch_add(1, Ordering::Relaxed);
        counters.nanos.fetch_add(took, Ordering::Relaxed);
        counters.longest.fetch_max(took, Ordering::Relaxed);
        if let Err(error) = flipped {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(open, %error, "the VMM could not flip a doorbell's way");
        }
    }

    /// Ends the thread. Gates stay as they are.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.control.unpark();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // It may be this one, inside a call of the VMM's.
        let own = std::thread::current().id();
        let other = thread.filter(|thread| thread.thread().id() != own);
        if other.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the gates had died by a panic");
        }
    }
}
