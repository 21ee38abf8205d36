//! The controller: its state, and the threads that execute commands.

use super::command::{Command, ENTRY, Outcome, Status, completion};
use super::dma::{Dma, Fault};
use super::interrupt::Interrupt;
use super::io::Disk;
use super::queue::{Completion, Submission};
use super::registers::{Effect, Registers};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What the controller has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvmeMetrics {
    /// Admin commands.
    pub admin: u64,
    /// Commands of I/O queues.
    pub io: u64,
    /// The most commands that were under way at the same time.
    pub most_open: u32,
    /// Commands that failed because memory could not be reached.
    pub faulted: u64,
    /// Entries and completions that could not be read or written.
    pub lost: u64,
    /// Messages written.
    pub messages: u64,
}

/// What the lock protects.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) registers: Registers,
    pub(super) submissions: BTreeMap<u16, Submission>,
    pub(super) completions: BTreeMap<u16, Completion>,
    /// Queues that Set Features has granted: submission, completion.
    pub(super) granted: u32,
    /// Identifiers of asynchronous event requests; none is ever answered.
    pub(super) events: u8,
    pub(super) metrics: NvmeMetrics,
    enabled: bool,
    open: u32,
    stop: bool,
    /// Where the search for work begins, so that all queues have their turn.
    turn: u16,
}

/// A controller, shared by the threads that serve it.
#[derive(Debug)]
pub struct Controller {
    state: Mutex<State>,
    /// There may be work, or nothing open any more.
    changed: Condvar,
    pub(super) disk: Disk,
    pub(super) interrupt: Interrupt,
}

/// An entry that a worker has taken.
struct Taken {
    queue: u16,
    at: u64,
}

impl Controller {
    /// A controller that is not enabled.
    #[must_use]
    pub fn new(disk: Disk) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            disk,
            interrupt: Interrupt::default(),
        })
    }

    /// The namespace.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What has been done so far.
    #[must_use]
    pub fn metrics(&self) -> NvmeMetrics {
        self.state().metrics
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads that execute commands, each with a way to memory of its own.
    ///
    /// # Errors
    ///
    /// The system has no threads left.
    pub fn start(self: &Arc<Self>, ways: Vec<Box<dyn Dma>>) -> std::io::Result<Workers> {
        let mut workers = Workers {
            controller: self.clone(),
            threads: Vec::new(),
        };
        for (index, mut dma) in ways.into_iter().enumerate() {
            let controller = self.clone();
            let thread = std::thread::Builder::new().name(format!("nvme-{index}"));
            let body = move || while controller.step(&mut *dma) {};
            workers.threads.push(thread.spawn(body)?);
        }
        Ok(workers)
    }

    /// Waits for a command and executes it; `false` when that is not wanted any more.
    fn step(&self, dma: &mut dyn Dma) -> bool {
        let mut state = self.state();
        let taken = loop {
            if state.stop {
                return false;
            }
            match state.take() {
                Some(taken) => break taken,
                None => state = self.wait(state),
            }
        };
        drop(state);
        let mut entry = [0; ENTRY];
        let fetched = dma.read(taken.at, &mut entry);
        let command = Command::new(entry);
        let outcome = match &fetched {
            Ok(()) if taken.queue == 0 => self.admin(&command, dma),
            Ok(()) => self.disk.execute(&command, dma),
            Err(_) => Status::DataTransferError.into(),
        };
        self.complete(&taken, &command, outcome, &fetched, dma);
        true
    }

    fn complete(
        &self,
        taken: &Taken,
        command: &Command,
        outcome: Outcome,
        fetched: &Result<(), Fault>,
        dma: &mut dyn Dma,
    ) {
        let mut state = self.state();
        match taken.queue {
            0 => state.metrics.admin += 1,
            _ => state.metrics.io += 1,
        }
        let faulted = outcome == Outcome::from(Status::DataTransferError);
        state.metrics.faulted += u64::from(faulted);
        let result = match outcome {
            // An entry that could not be read has no identifier to answer to.
            _ if fetched.is_err() => None,
            Outcome::Complete(status, result) => Some((status, result)),
            Outcome::Open => None,
        };
        state.metrics.lost += u64::from(fetched.is_err());
        let written = state.post(taken.queue, command.id(), result, dma);
        if written.is_err() || fetched.is_err() {
            state.metrics.lost += u64::from(written.is_err());
            state.registers.set_fatal();
        }
        let vector = written.ok().flatten();
        state.open -= 1;
        self.update_line(&state);
        let message = vector.and_then(|vector| Some(self.interrupt.messages()?.of(vector)));
        if let Some((address, data)) = message {
            state.metrics.messages += 1;
            // A message is a write like any other, behind the completion.
            if dma.write(address, &data.to_le_bytes()).is_err() {
                state.metrics.lost += 1;
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Gives the line the level that the completion queues ask for.
    fn update_line(&self, state: &State) {
        let pending = |queue: &Completion| queue.vector.is_some() && queue.is_pending();
        let level = !state.registers.is_masked() && state.completions.values().any(pending);
        self.interrupt.set_level(level);
    }

    /// Reads registers.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        self.state().registers.read(offset, into);
    }

    /// Writes registers, and does what that asks for. Waits for commands under way only when it
    /// disables the controller.
    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        let effects = self.state().registers.write(offset, data);
        for effect in effects {
            self.bring_about(effect);
        }
    }

    fn bring_about(&self, effect: Effect) {
        let mut state = self.state();
        match effect {
            Effect::Nothing => return,
            Effect::Enable => state.enable(),
            Effect::Disable => {
                drop(state);
                self.reset();
                return;
            }
            // Nothing is cached that a shutdown would have to write back.
            Effect::ShutDown => state.registers.set_shut_down(),
            Effect::Mask => self.update_line(&state),
            Effect::Tail(queue, tail) => {
                if let Some(queue) = state.submissions.get_mut(&queue) {
                    queue.set_tail(tail);
                }
            }
            Effect::Head(queue, head) => {
                if let Some(queue) = state.completions.get_mut(&queue) {
                    queue.set_head(head);
                }
                self.update_line(&state);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Forgets all queues. When it returns, no command is under way.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        state.enabled = false;
        while state.open > 0 {
            state = self.wait(state);
        }
        state.submissions.clear();
        state.completions.clear();
        state.events = 0;
        state.granted = 0;
        state.registers.set_ready(false);
        self.update_line(&state);
    }

    /// A reset of the function: as if it had just been made.
    pub(super) fn full_reset(&self) {
        self.reset();
        self.state().registers = Registers::default();
    }

    /// Waits until no command of a submission queue is under way; none is begun meanwhile.
    pub(super) fn drain(&self, queue: u16) {
        let mut state = self.state();
        loop {
            match state.submissions.get_mut(&queue) {
                Some(submission) if submission.open > 0 => submission.closing = true,
                _ => return,
            }
            state = self.wait(state);
        }
    }
}

impl State {
    fn enable(&mut self) {
        let admin = Submission::new(self.registers.admin_submission(), 0);
        self.submissions.insert(0, admin);
        let admin = Completion::new(self.registers.admin_completion(), Some(0));
        self.completions.insert(0, admin);
        self.enabled = true;
        self.registers.set_ready(true);
    }

    /// Takes an entry of a queue that has one, and whose completion will have room.
    fn take(&mut self) -> Option<Taken> {
        if !self.enabled {
            return None;
        }
        let ids = self.submissions.range(self.turn..).map(|(&id, _)| id);
        let ids = ids.chain(self.submissions.range(..self.turn).map(|(&id, _)| id));
        for id in ids.collect::<Vec<_>>() {
            let Some(submission) = self.submissions.get_mut(&id) else {
                continue;
            };
            let Some(completion) = self.completions.get_mut(&submission.completion) else {
                continue;
            };
            if !completion.has_room() {
                continue;
            }
            if let Some(at) = submission.take() {
                completion.promised += 1;
                self.turn = id.wrapping_add(1);
                self.open += 1;
                self.metrics.most_open = self.metrics.most_open.max(self.open);
                return Some(Taken { queue: id, at });
            }
        }
        None
    }

    /// Gives back what [`take`](Self::take) promised, and writes the completion if there is one.
    /// Returns the vector that it interrupts with.
    fn post(
        &mut self,
        queue: u16,
        id: u16,
        result: Option<(Status, u32)>,
        dma: &mut dyn Dma,
    ) -> Result<Option<u16>, Fault> {
        let Some(submission) = self.submissions.get_mut(&queue) else {
            return Ok(None);
        };
        submission.open -= 1;
        let Some(completions) = self.completions.get_mut(&submission.completion) else {
            return Ok(None);
        };
        completions.promised -= 1;
        let Some(result) = result else {
            return Ok(None);
        };
        let (at, phase) = completions.put();
        let entry = completion(result, (queue, submission.head()), id, phase);
        dma.write(at, &entry)?;
        Ok(completions.vector)
    }
}

/// The threads of a controller; they end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    controller: Arc<Controller>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.controller.state().stop = true;
        self.controller.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _nothing_to_tell = thread.join();
        }
    }
}
