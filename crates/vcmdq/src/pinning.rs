//! Threads that stay on processors of the VMM's choice.

use crate::seams::{StdThreads, Threads};
use core_affinity::CoreId;
use std::thread::JoinHandle;
use vcmdq_sync::atomic::{AtomicUsize, Ordering};

/// Threads could not be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// No processor to choose from.
    #[error("an empty list of processors: name at least one")]
    Empty,
    /// It does not exist, or this process may not use it.
    #[error("processor {0} does not exist, or this process may not run there")]
    NoSuchCpu(usize),
    /// The host does not say what it has.
    #[error("the host does not say which processors it has")]
    Unknown,
}

/// Plain threads, each pinned to a processor: the first that is started to the first one of the list,
/// the next to the next, round and round. An engine starts its workers first, then its thread for
/// gates and its spares as they are needed. A list of one processor for each worker gives every worker
/// its own.
///
/// A thread that the host does not let run there when it starts runs where it can, which is logged.
#[derive(Debug)]
pub struct PinnedThreads {
    cpus: Vec<CoreId>,
    started: AtomicUsize,
}

impl PinnedThreads {
    /// For these processors, by the host's numbers. Refused if one of them is not there, or not for
    /// this process. Control path.
    pub fn new(cpus: &[usize]) -> Result<Self, PinError> {
        if cpus.is_empty() {
            return Err(PinError::Empty);
        }
        let present = core_affinity::get_core_ids().ok_or(PinError::Unknown)?;
        let find = |cpu: &usize| {
            let found = present.iter().find(|core| core.id == *cpu);
            found.copied().ok_or(PinError::NoSuchCpu(*cpu))
        };
        Ok(Self {
            cpus: cpus.iter().map(find).collect::<Result<_, _>>()?,
            started: AtomicUsize::new(0),
        })
    }
}

impl Threads for PinnedThreads {
    fn spawn(
        &self,
        name: String,
        body: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<JoinHandle<()>> {
        let nth = self.started.fetch_add(1, Ordering::Relaxed);
        let cpu = self.cpus[nth % self.cpus.len()];
        let pinned = Box::new(move || {
            if !core_affinity::set_for_current(cpu) {
                tracing::warn!(cpu = cpu.id, "a worker could not be pinned");
            }
            body();
        });
        StdThreads.spawn(name, pinned)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        let far = 1 << 20;
        assert_eq!(
            PinnedThreads::new(&[far]).err(),
            Some(PinError::NoSuchCpu(far))
        );
        assert_eq!(PinnedThreads::new(&[]).err(), Some(PinError::Empty));
    }

    #[test]
    fn threads_run_where_they_are_told_to() {
        let last = core_affinity::get_core_ids().unwrap().pop().unwrap();
        let threads = PinnedThreads::new(&[last.id]).unwrap();
        let check = Box::new(move || {
            // Pinned to one, a thread has no other one to choose from.
            assert_eq!(core_affinity::get_core_ids().unwrap(), [last]);
        });
        threads
            .spawn("pinned".into(), check)
            .unwrap()
            .join()
            .unwrap();
    }
}
