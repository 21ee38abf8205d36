//! Threads beyond the workers: one for each frame with calls that can block, so that as many as there
//! are rounds are never inside such a call (law 11).

use super::Worker;
use crate::engine::EngineShared;
use crate::error::InstanceError;
use crate::seams::Threads;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

#[derive(Default)]
struct Control {
    handles: Vec<JoinHandle<()>>,
    /// Spares that are there, and how many of those are to leave.
    spares: usize,
    leaving: usize,
    hired: usize,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Staff {
    threads: Option<Arc<dyn Threads>>,
    control: Mutex<Control>,
}

impl Staff {
    /// Threads come from there; from nowhere in an engine whose rings are served otherwise.
    pub(crate) fn new(threads: Option<Arc<dyn Threads>>) -> Self {
        Self {
            threads,
            control: Mutex::default(),
        }
    }

    pub(crate) fn threads(&self) -> Option<&dyn Threads> {
        self.threads.as_deref()
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spares(&self) -> usize {
        self.control().spares
    }

    /// Whether the calling thread, which has nothing to do, is to end.
    pub(super) fn dismisses(&self) -> bool {
        let mut control = self.control();
        let ends = control.leaving != 0;
        if ends {
            control.leaving -= 1;
            control.spares -= 1;
        }
        ends
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.control().leaving != 0
    }

    /// All threads that were hired.
    pub(crate) fn take_handles(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.control().handles)
    }
}

impl EngineShared {
    /// One more spare.
    pub(crate) fn hire(self: &Arc<Self>) -> Result<(), InstanceError> {
        let Some(threads) = &self.staff.threads else {
            return Ok(());
        };
        let mut control = self.staff.control();
        if control.leaving != 0 {
            control.leaving -= 1;
            return Ok(());
        }
        control.handles.retain(|handle| !handle.is_finished());
        let worker = Worker::spare(self.clone());
        let name = format!("vcmdq-spare-{}", control.hired);
        // law11c: there are no more threads than workers.
        if !cfg!(break_law11c) {
            let spawned = threads.spawn(name, Box::new(move || worker.run()));
            let handle = spawned.map_err(|error| InstanceError::Spare(error.kind()))?;
            control.handles.push(handle);
        }
        control.hired += 1;
        control.spares += 1;
        Ok(())
    }

    /// One spare less, as soon as one has nothing to do.
    pub(crate) fn dismiss(&self) {
        if self.staff.threads.is_some() {
            self.staff.control().leaving += 1;
            self.bell.spares().wake_all();
        }
    }
}
