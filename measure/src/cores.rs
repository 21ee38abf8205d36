//! Where threads run.

use core_affinity::CoreId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::thread::{Builder, JoinHandle};
use vcmdq::Threads;
use vcmdq_benches::ping_pong::Pins;

/// Two CPUs of those that the process may use. The caller is on the first one as long as this lives.
#[derive(Debug)]
pub struct Pair {
    pins: Pins,
    /// Those of the workers: every one but the caller's, then the caller's.
    workers: Vec<CoreId>,
    before: CpuSet,
}

impl Pair {
    /// Pins the caller to the first of two CPUs.
    ///
    /// # Errors
    ///
    /// A sentence for the reader, if there are no two CPUs or threads cannot be pinned.
    pub fn take() -> Result<Self, String> {
        let before = sched_getaffinity(None).map_err(|error| format!("no CPU set: {error}"))?;
        let mut workers = core_affinity::get_core_ids().unwrap_or_default();
        let pins = Pins::take().ok_or("two threads cannot be pinned to two CPUs here")?;
        workers.rotate_left(1);
        Ok(Self {
            pins,
            workers,
            before,
        })
    }

    /// The same for those who measure round trips.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// The numbers of the two CPUs: the caller's, and the worker's.
    #[must_use]
    pub fn numbers(&self) -> (usize, usize) {
        (self.pins.asks.id, self.pins.answers.id)
    }

    /// How many CPUs the process may use.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.workers.len()
    }

    /// Where workers go: the caller's CPU comes last.
    #[must_use]
    pub fn workers(&self) -> OnCpus {
        OnCpus(self.workers.clone())
    }

    /// The caller's CPU.
    #[must_use]
    pub fn first(&self) -> CoreId {
        self.pins.asks
    }

    /// The other one, for workers.
    #[must_use]
    pub fn second(&self) -> CoreId {
        self.pins.answers
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // A caller that stays pinned is slower than it was, and nothing else is wrong.
        let _kept = sched_setaffinity(None, &self.before);
    }
}

/// Worker threads in turn on the CPUs of a list.
#[derive(Clone, Debug)]
pub struct OnCpus(pub Vec<CoreId>);

impl OnCpus {
    /// The CPU of the `index`th thread.
    #[must_use]
    pub fn of(&self, index: usize) -> Option<CoreId> {
        self.0.get(index % self.0.len().max(1)).copied()
    }
}

impl Threads for OnCpus {
    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        // Workers are called "vcmdq-N"; whoever has no number goes with the first.
        let number = name
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok());
        let cpu = self.of(number.unwrap_or(0));
        Builder::new().name(name).spawn(move || {
            if let Some(cpu) = cpu {
                core_affinity::set_for_current(cpu);
            }
            body();
        })
    }
}
