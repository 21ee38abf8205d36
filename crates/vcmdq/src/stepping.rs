//! An engine without threads, for models and tests: rings are served when the test says so, by
//! the very code that a worker runs.

use crate::commit::serve_together;
use crate::doorbell::Bell;
use crate::engine::Engine;
use crate::error::StartError;
use crate::fan_out::Caller;
use crate::frame::Frame;
use crate::ready::ReadySet;
use crate::ring::Ring;
use crate::ring_page::RingPage;
use crate::seams::Clock;
use crate::settings::Settings;
use crate::testing::QueueRegisters;
use crate::window::Desk;
use crate::worker::{Look, News, Served, Worker, look, serve};
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::Ordering;
use vcmdq_sync::claim::ClaimCell;

/// A worker whose loop goes round when the test says so.
pub struct SteppedWorker(Worker);

impl std::fmt::Debug for SteppedWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SteppedWorker")
    }
}

impl SteppedWorker {
    /// Once round the loop: serves what is ready or, if nothing is, looks for work and sleeps as
    /// the settings say.
    pub fn turn(&mut self) {
        self.0.turn();
    }
}

/// A worker that runs on the caller's thread.
pub struct ModelWorker(Worker);

impl std::fmt::Debug for ModelWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelWorker")
    }
}

impl ModelWorker {
    /// Does what a thread of the engine does until it is stopped.
    pub fn work_until_stopped(self) {
        self.0.run();
    }
}

/// Serves rings on the caller's thread.
#[derive(Debug)]
pub struct Stepper {
    desk: Desk,
    slice: Duration,
}

impl Default for Stepper {
    fn default() -> Self {
        Self {
            desk: Desk::new(),
            slice: Settings::default().slice,
        }
    }
}

impl Stepper {
    /// A stepper whose slices are that long, by what the commands are said to cost.
    #[must_use]
    pub fn with_slice(slice: Duration) -> Self {
        Self {
            slice,
            ..Self::default()
        }
    }

    /// Serves a ring as a worker that took it would. Whether anything was consumed.
    pub fn serve(&mut self, ring: &Ring) -> bool {
        serve(ring, &mut self.desk, self.slice) == Served::Done(true)
    }

    /// Serves rings of one frame together, as a worker does where a call to the backend costs much.
    /// Whether anything was consumed.
    pub fn serve_together<'r>(&mut self, rings: impl IntoIterator<Item = &'r Arc<Ring>>) -> bool {
        let rings = rings.into_iter().map(|ring| &**ring);
        serve_together(rings, &mut self.desk, self.slice)
    }

    /// Looks for what a guest has published where nobody rings, as a worker does; consumes
    /// it. Whether anything was consumed.
    pub fn look(&mut self, ring: &Ring) -> bool {
        let came_to = look(ring, &mut self.desk, self.slice, 1, News::Serve);
        came_to == Look::Served(Served::Done(true))
    }
}

/// The thread that makes one instance's calls while another one's are made.
#[derive(Debug)]
pub struct ModelCaller(Arc<Caller>);

impl ModelCaller {
    /// Does what that thread does, until its frame is dropped or [`leave`](Self::leave) is called.
    pub fn work_until_left(&self) {
        self.0.run();
    }

    /// The thread is to leave.
    pub fn leave(&self) {
        self.0.close();
    }
}

impl Frame {
    /// The threads that make instances' calls, which nobody has started if the engine has no workers.
    #[must_use]
    pub fn model_callers(&self) -> Vec<ModelCaller> {
        let instances = self.instances();
        let callers = instances
            .iter()
            .filter_map(|instance| instance.caller.clone());
        callers.map(ModelCaller).collect()
    }
}

impl Engine {
    /// An engine whose rings are served by [`Stepper`]s only.
    pub fn without_workers(settings: Settings) -> Result<Self, StartError> {
        Self::prepare(settings, Arc::new(crate::seams::StdClock::default()), None)
    }

    /// The same with a clock of the test's.
    pub fn without_workers_on(
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        Self::prepare(settings, clock, None)
    }

    /// The worker that a thread of its own would run.
    #[must_use]
    pub fn stepped_worker(&self, index: usize) -> SteppedWorker {
        SteppedWorker(Worker::new(index, self.shared().clone()))
    }

    /// A worker that begins with a round, or a spare.
    #[must_use]
    pub fn model_worker(&self, round: Option<usize>) -> ModelWorker {
        let shared = self.shared().clone();
        ModelWorker(match round {
            Some(round) => Worker::new(round, shared),
            None => Worker::spare(shared),
        })
    }

    /// Takes the ring that the doorbell announces, if any, and returns its number: what a worker that
    /// is awake does. Numbers are given in the order in which rings are added.
    #[must_use]
    pub fn take_ready(&self) -> Option<u32> {
        let slot = self.bell().take(0)?;
        let table = self.shared().rings.table();
        table.get(slot).map(|ring| ring.index)
    }

    /// Opens and closes ways as the thread for it would, once.
    pub fn flip_gates(&self) {
        let _next = self.shared().flipper.turn();
    }

    /// Whether a worker sleeps, or is about to.
    #[must_use]
    pub fn has_sleeper(&self) -> bool {
        self.bell().sleeper().is_some()
    }

    /// Sleeps as worker `worker` would, until a doorbell rings. Whether it slept.
    #[must_use]
    pub fn sleep_as(&self, worker: usize) -> bool {
        self.bell().has_entered(worker);
        self.bell().sleep(worker, None, || false)
    }
}

impl Ring {
    /// Whether a worker has to look by itself for what comes on the ring's way around the exit.
    #[must_use]
    pub fn has_open_way(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_open())
    }

    /// Has the VMM open or close that way now, as the thread for it does. Whether it could.
    pub fn flip_way(&self, open: bool) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| gate.flip(open, &self.bell).is_ok())
    }

    /// Says whether that way should be open, as a worker does that is busy, or idle.
    pub fn want_way(&self, open: bool) {
        if let Some(gate) = &self.gate {
            gate.want(open);
        }
    }

    /// Makes the entry at slot zero the only published one, whatever was consumed before: CONS to
    /// the `lap`th time round, PROD one further.
    pub fn set_pointers_for_test(&self, lap: u32) {
        let cons = self.with_consumer(|consumer| {
            let geometry = consumer.entries.geometry();
            let cons = geometry.pointer(lap % 2 * geometry.entries()).raw();
            self.place(consumer, cons, cons);
            cons
        });
        self.doorbell(cons + 1);
    }
}

impl QueueRegisters for Ring {
    fn write_prod(&self, raw: u32) {
        self.doorbell(raw);
    }

    fn read_cons(&self) -> u32 {
        self.cons()
    }

    fn read_gerror(&self) -> u32 {
        self.gerror()
    }

    fn read_gerrorn(&self) -> u32 {
        self.gerrorn()
    }

    fn write_gerrorn(&self, raw: u32) {
        self.acknowledge(raw);
    }
}

/// A guest's side of a shared page: no call into the engine at all.
pub struct PageRegisters(pub Arc<dyn RingPage>);

impl std::fmt::Debug for PageRegisters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageRegisters")
    }
}

impl PageRegisters {
    fn load(&self, word: usize) -> u32 {
        u32::from_le(self.0.words()[word].load(Ordering::Acquire))
    }

    /// CONFIG.EN, and waits until STATUS.EN_OK follows.
    pub fn enable(&self) {
        self.0.words()[2].store(1u32.to_le(), Ordering::Release);
        while self.load(3) & 1 == 0 {
            vcmdq_sync::hint::spin_loop();
        }
    }
}

impl QueueRegisters for PageRegisters {
    fn write_prod(&self, raw: u32) {
        self.0.words()[1].store(raw.to_le(), Ordering::Release);
    }

    fn read_cons(&self) -> u32 {
        self.load(0)
    }

    fn read_gerror(&self) -> u32 {
        self.load(4)
    }

    fn read_gerrorn(&self) -> u32 {
        self.load(5)
    }

    fn write_gerrorn(&self, raw: u32) {
        self.0.words()[5].store(raw.to_le(), Ordering::Release);
    }
}

/// What is ready, by itself: shares of 64 rings each, for models.
#[derive(Debug)]
pub struct Ready(ReadySet);

impl Ready {
    /// Nothing is marked.
    #[must_use]
    pub fn new(shares: usize) -> Self {
        Self(ReadySet::new(shares))
    }

    /// A ring has work; `slot` is its share × 64 + its place there.
    pub fn mark(&self, slot: u32) {
        self.0.mark(slot);
    }

    /// The next one behind `after`.
    #[must_use]
    pub fn take(&self, after: u32) -> Option<u32> {
        self.0.take(after)
    }
}

/// One round, one ring, and who goes through the round: for models of a worker that gives it up.
#[derive(Debug)]
pub struct OneRound(Bell, ClaimCell<()>);

impl Default for OneRound {
    fn default() -> Self {
        let bell = Bell::new(1, 1);
        bell.set_slot(0, 0);
        Self(bell, ClaimCell::new(()))
    }
}

impl OneRound {
    /// Rings for the ring.
    pub fn ring(&self) {
        self.0.ring(0);
    }

    /// The worker gives the round up, as it does before a call that can block.
    pub fn give_up(&self) {
        let claim = self.1.enter_blocking();
        self.0.vacate(0);
        drop(claim);
        self.0.has_vacated(0, || false);
    }

    /// A spare sleeps until somebody has to go through the round, and does so until it has taken the
    /// ring. It may enter a moment before it is needed: then it sleeps in the round's bed.
    pub fn serve_as_spare(&self) {
        let claim = loop {
            if self.0.needs_threads() == 0 {
                self.0.spares().sleep(|| false);
            } else if let Some(claim) = self.1.try_enter() {
                break claim;
            }
            vcmdq_sync::thread::yield_now();
        };
        self.0.has_entered(0);
        while self.0.take(0).is_none() {
            self.0.sleep(0, None, || false);
        }
        drop(claim);
    }
}
