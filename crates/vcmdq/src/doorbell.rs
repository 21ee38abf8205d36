//! The doorbell: who publishes work, who sleeps, and how neither misses the other (law 5).
//!
//! Rules:
//!
//! 1. A producer publishes (PROD, then the ring's ready bit), issues a full fence, and only then
//!    looks whether a worker sleeps. It wakes one if so.
//! 2. A worker that finds nothing says that it sleeps, issues a full fence, looks once more, and
//!    only then sleeps.
//! 3. So either the producer sees the sleeper or the worker sees the work: the two fences are
//!    totally ordered, and whoever is second sees what the first one wrote.
//! 4. Waking takes the sleeper's bit, so two doorbells wake two workers and a worker that is
//!    being woken is not woken again. All writers of the word are read-modify-writes.
//!
//! Who sleeps are *rounds*: a round is what one awake worker goes through (`worker/round.rs`).
//!
//! While a worker is awake a doorbell is four writes to words and no system call.

mod bed;
pub(crate) mod check;
#[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
mod events;
pub(crate) mod flipper;
mod forward;
pub(crate) mod gate;
pub(crate) mod guest_prod;
mod inline;
pub(crate) mod pace;
pub(crate) mod zones;

use crate::ready::ReadySet;
use crate::worker::Spares;
use bed::Bed;
use inline::Inline;
use std::time::Duration;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use vcmdq_sync::weak::{Site, full_fence};

/// The slot of a ring that is not there.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The doorbell of an engine.
#[derive(Debug)]
pub(crate) struct Bell {
    ready: ReadySet,
    /// The slot of each ring in there, by its number; [`NOWHERE`] if there is no such ring.
    slots: Box<[AtomicU32]>,
    /// One bit for each round whose worker sleeps, or is about to.
    sleepers: CachePadded<AtomicU64>,
    /// One bit for each round that no thread goes through.
    vacant: AtomicU64,
    beds: Box<[Bed]>,
    spares: Spares,
    wake_ups: AtomicU64,
    panics: AtomicU64,
    broken: AtomicU64,
    inline: Option<Inline>,
}

impl Bell {
    /// For rings numbered below `rings`, each perhaps in a share of its own.
    pub(crate) fn new(rings: usize, workers: usize) -> Self {
        Self {
            ready: ReadySet::new(rings),
            slots: (0..rings).map(|_| AtomicU32::new(NOWHERE)).collect(),
            sleepers: CachePadded::new(AtomicU64::new(0)),
            vacant: AtomicU64::new(0),
            beds: (0..workers).map(|_| Bed::default()).collect(),
            spares: Spares::default(),
            wake_ups: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            inline: None,
        }
    }

    /// The same, with doorbells that consume up to `limit` commands themselves.
    pub(crate) fn consuming(mut self, limit: Option<u32>, slice: Duration) -> Self {
        self.inline = limit.map(|limit| Inline::new(limit, slice, self.beds.len()));
        self
    }

    /// How doorbells consume, if they do.
    #[inline]
    fn inline(&self) -> Option<&Inline> {
        self.inline.as_ref()
    }

    /// A worker that sleeps, if any does; a hint that may be late.
    #[inline]
    pub(crate) fn sleeper(&self) -> Option<usize> {
        let sleepers = self.sleepers.load(Ordering::Relaxed);
        (sleepers != 0).then(|| sleepers.trailing_zeros() as usize)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn sleepers(&self) -> u64 {
        self.sleepers.load(Ordering::Relaxed)
    }

    /// The ring of this number is found in `slot` from now on. Control path.
    pub(crate) fn set_slot(&self, ring: u32, slot: u32) {
        self.slots[ring as usize].store(slot, Ordering::Release);
    }

    /// The slot of a ring, if it is there.
    pub(crate) fn slot(&self, ring: u32) -> Option<u32> {
        let slot = self.slots.get(ring as usize)?.load(Ordering::Acquire);
        Some(slot).filter(|slot| *slot != NOWHERE)
    }

    /// The ring has work, for who looks next. Relaxed: a number is told to nobody before it has its
    /// slot, and who rings for a ring that has gone means nobody: the ring that has its number or
    /// its slot by now is looked at once too often.
    #[inline]
    fn mark(&self, ring: u32) {
        if let Some(slot) = self.slots.get(ring as usize) {
            self.ready.mark(slot.load(Ordering::Relaxed));
        }
    }

    /// The ring has work: somebody will serve it. Never blocks; a system call only if a worker
    /// has to be woken.
    #[inline]
    pub(crate) fn ring(&self, ring: u32) {
        self.mark(ring);
        // Pairs with the fence in `sleep` (rule 3). Without it this thread may look at `sleepers`
        // before its mark is visible, and the worker may have looked before: both go on, and the
        // command lies in the ring for ever. Model: `doorbell_wakes_the_worker`.
        // law5a: no fence.
        if !vcmdq_sync::broken!(break_law5a) {
            full_fence(Site::BellFence);
        }
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            self.wake_one();
        }
    }

    /// Wakes somebody for one round that sleeps, rather one with a thread in its bed.
    #[cold]
    fn wake_one(&self) {
        loop {
            let sleepers = self.sleepers.load(Ordering::Relaxed);
            if sleepers == 0 {
                return;
            }
            let beds = sleepers & !self.vacant.load(Ordering::Relaxed);
            let whom = if beds != 0 { beds } else { sleepers };
            if self.wake(whom.trailing_zeros() as usize) {
                return;
            }
        }
    }

    /// Wakes somebody for a round, if it sleeps. Whoever takes its bit does so.
    fn wake(&self, round: usize) -> bool {
        let bit = 1 << round;
        let slept = self.sleepers.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if slept {
            self.wake_ups.fetch_add(1, Ordering::Relaxed);
            // The acquire above pairs with `vacate`.
            if self.vacant.load(Ordering::Acquire) & bit != 0 {
                self.spares.wake();
            } else {
                self.beds[round].unpark();
            }
        }
        slept
    }

    /// Wakes every worker: something other than a ring has changed.
    pub(crate) fn wake_all(&self) {
        // Pairs with the fence in `has_vacated`: either that thread sees what has changed, or this
        // one sees that its round is vacant.
        fence(Ordering::SeqCst);
        let vacant = self.vacant.load(Ordering::Acquire);
        for (round, bed) in self.beds.iter().enumerate() {
            if vacant >> round & 1 != 0 {
                self.wake(round);
            }
            bed.unpark();
        }
    }

    /// Threads without a round.
    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// The calling thread is about to give up the claim of a round, which sleeps then.
    pub(crate) fn vacate(&self, round: usize) {
        // In this order: whoever takes the sleeper's bit sees whom to wake.
        self.vacant.fetch_or(1 << round, Ordering::AcqRel);
        self.sleepers.fetch_or(1 << round, Ordering::AcqRel);
    }

    /// The calling thread has given up the claim of a round. Somebody else has to go through it if
    /// that is `awaited`, or if something is ready.
    pub(crate) fn has_vacated(&self, round: usize, awaited: impl Fn() -> bool) {
        // Pairs with the fence in `ring`: either this thread sees the mark, or who rings sees that the
        // round sleeps. Model: `law11_a_doorbell_finds_somebody_beside_a_call_that_blocks`.
        full_fence(Site::VacantFence);
        if awaited() || !self.ready.is_empty() {
            self.wake(round);
        }
    }

    /// A round that nobody goes through from now on, and that does not sleep.
    pub(crate) fn leave_open(&self, round: usize) {
        self.vacant.fetch_or(1 << round, Ordering::AcqRel);
    }

    /// The calling thread has the claim of a round.
    pub(crate) fn has_entered(&self, round: usize) {
        self.vacant.fetch_and(!(1 << round), Ordering::AcqRel);
        self.sleepers.fetch_and(!(1 << round), Ordering::AcqRel);
    }

    pub(crate) fn is_vacant(&self, round: usize) -> bool {
        self.vacant.load(Ordering::Acquire) >> round & 1 != 0
    }

    /// The rounds that somebody has to go through and nobody does; a hint that may be late.
    pub(crate) fn needs_threads(&self) -> u64 {
        let vacant = self.vacant.load(Ordering::Acquire);
        if vacant == 0 {
            return 0;
        }
        vacant & !self.sleepers.load(Ordering::Acquire)
    }

    /// From now on a round's worker wakes for this eventfd, and the ring is served.
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    pub(crate) fn watch(
        &self,
        round: usize,
        ring: u32,
        event: &vmm_sys_util::eventfd::EventFd,
    ) -> std::io::Result<()> {
        self.beds[round].watch(ring, event)
    }

    /// The opposite. An event that is under way may still come.
    #[cfg(all(feature = "eventfd", target_os = "linux", not(loom)))]
    pub(crate) fn unwatch(&self, round: usize, event: &vmm_sys_util::eventfd::EventFd) {
        self.beds[round].unwatch(event);
    }

    /// Takes the slot of a ring that has work; see [`ReadySet::take`].
    #[inline]
    pub(crate) fn take(&self, after: u32) -> Option<u32> {
        self.ready.take(after)
    }

    /// Whether some ring has work; a hint that may be late.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sleeps until a doorbell rings, unless there is work or `stay_awake` says so at the last
    /// look. With a limit it may wake by itself. Returns whether it slept.
    pub(crate) fn sleep(
        &self,
        round: usize,
        limit: Option<Duration>,
        stay_awake: impl Fn() -> bool,
    ) -> bool {
        let bit = 1 << round;
        self.sleepers.fetch_or(bit, Ordering::AcqRel);
        // Pairs with the fence in `ring` (rule 3).
        fence(Ordering::SeqCst);
        // law5b: no second look.
        let work = !vcmdq_sync::broken!(break_law5b) && !self.ready.is_empty();
        let slept = !(work || stay_awake());
        if slept {
            self.beds[round].park(limit, |ring| self.mark(ring));
        }
        self.sleepers.fetch_and(!bit, Ordering::AcqRel);
        slept
    }

    /// All rings of a share that are ready, as bits.
    pub(crate) fn take_share(&self, share: u32) -> u64 {
        self.ready.take_share(share)
    }

    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn wake_ups(&self) -> u64 {
        self.wake_ups.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Ring 7 lies in slot 70.
    fn bell() -> Bell {
        let bell = Bell::new(64, 1);
        bell.set_slot(7, 70);
        bell
    }

    #[test]
    fn law5_a_doorbell_of_a_ring_that_is_not_there_rings_for_nobody() {
        let bell = bell();
        bell.ring(8);
        bell.ring(64);
        assert!(!bell.has_work());
    }

    #[test]
    fn law5_a_doorbell_before_the_worker_says_so_keeps_it_awake() {
        let bell = bell();
        bell.ring(7);
        assert!(!bell.sleep(0, Some(Duration::from_millis(1)), || false));
        assert_eq!(bell.take(0), Some(70));
    }

    #[test]
    fn law5_a_doorbell_after_the_last_look_wakes_it() {
        let bell = std::sync::Arc::new(bell());
        let (woken, wakes) = std::sync::mpsc::channel();
        let sleeper = bell.clone();
        vcmdq_sync::thread::spawn(move || {
            let slept = sleeper.sleep(0, None, || {
                sleeper.ring(7);
                false
            });
            woken.send(slept)
        });
        let slept = wakes.recv_timeout(Duration::from_secs(60));
        assert!(slept.expect("the token was there"));
        assert_eq!((bell.take(0), bell.wake_ups()), (Some(70), 1));
    }
}
