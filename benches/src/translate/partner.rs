//! A thread on the other core that does something while it is wanted, and spins otherwise.

use crate::ping_pong::Pins;
use std::fmt;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

const IDLE: u64 = 0;
const QUIT: u64 = 1;
const ENOUGH: u64 = 2;
const RUNNING: u64 = 3;
/// From here on: wanted, to do what the rest of the number says.
const WANTED: u64 = 4;

/// Nothing else lies in the line that an idle partner looks at.
#[derive(Debug, Default)]
#[repr(align(128))]
struct State {
    phase: AtomicU64,
    result: AtomicU64,
}

impl State {
    fn wait_for(&self, mut what: impl FnMut(u64) -> bool) -> u64 {
        loop {
            let phase = self.phase.load(Ordering::Acquire);
            if what(phase) {
                return phase;
            }
            spin_loop();
        }
    }
}

/// What a job sees of the one who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a>(&'a State);

impl Wanted<'_> {
    /// Whether the job is to go on.
    #[inline]
    #[must_use]
    pub fn go_on(&self) -> bool {
        self.0.phase.load(Ordering::Relaxed) == RUNNING
    }
}

/// See the [module](self). Ends when it is dropped.
pub struct Partner {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partner").finish_non_exhaustive()
    }
}

impl Partner {
    /// A thread on the answering core. `job` is told which of its works is wanted, and returns a
    /// number.
    ///
    /// # Panics
    ///
    /// If the thread cannot be started.
    pub fn new(pins: Pins, mut job: impl FnMut(u64, Wanted<'_>) -> u64 + Send + 'static) -> Self {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let body = move || {
            // A thread that cannot be pinned shares the other's core, and the table shows it.
            core_affinity::set_for_current(pins.answers);
            loop {
                let phase = shared.wait_for(|phase| phase == QUIT || phase >= WANTED);
                if phase == QUIT {
                    return;
                }
                shared.phase.store(RUNNING, Ordering::Release);
                let result = job(phase - WANTED, Wanted(&shared));
                shared.result.store(result, Ordering::Relaxed);
                shared.wait_for(|phase| phase == ENOUGH);
                shared.phase.store(IDLE, Ordering::Release);
            }
        };
        let thread = thread::Builder::new().name("partner".into()).spawn(body);
        Self {
            state,
            thread: Some(thread.expect("a thread")),
        }
    }

    /// Has it do something while `meanwhile` runs. Returns both results.
    pub fn beside<R>(&self, work: u64, meanwhile: impl FnOnce() -> R) -> (R, u64) {
        self.state.phase.store(WANTED + work, Ordering::Release);
        self.state.wait_for(|phase| phase == RUNNING);
        let own = meanwhile();
        self.state.phase.store(ENOUGH, Ordering::Release);
        self.state.wait_for(|phase| phase == IDLE);
        (own, self.state.result.load(Ordering::Relaxed))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.state.phase.store(QUIT, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It has only ever been of use to us; if it has died, the bench has already said so.
            drop(thread.join());
        }
    }
}
