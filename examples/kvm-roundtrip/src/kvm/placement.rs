//! On which processors vCPUs and worker run.
//!
//! A vCPU of this guest never sleeps, and while it waits for a SYNC neither does the worker for
//! some time: threads that share a processor wait for each other's time slices. So each has its
//! own as long as there are enough, and else the worker shares the last vCPU's: then it does not
//! spin, but sleeps 30 µs between two looks, and the scheduler lets it in when it wakes.

use crate::data::Placed;
use core_affinity::CoreId;
use std::io;
use std::num::NonZeroU64;
use std::thread::JoinHandle;
use vcmdq::Threads;

/// Which processors the process may use.
#[derive(Clone, Debug)]
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    /// Those that this thread may use.
    pub(crate) fn of_this_thread() -> Self {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        Self(ids.into_iter().map(|core| core.id).collect())
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// That of a vCPU.
    pub(crate) fn of_vcpu(&self, vcpu: usize) -> Option<usize> {
        self.0.get(vcpu % self.0.len().max(1)).copied()
    }

    /// That of the worker, beside so many vCPUs.
    pub(crate) fn of_worker(&self, vcpus: usize) -> Option<usize> {
        self.0.get(vcpus).or(self.0.last()).copied()
    }

    /// The worker beside so many vCPUs.
    pub(crate) fn worker(&self, vcpus: usize) -> Worker {
        Worker {
            cpu: self.of_worker(vcpus),
            shared: vcpus >= self.0.len(),
        }
    }

    /// The same in words, for so many vCPUs.
    pub(crate) fn placed(&self, vcpus: usize) -> Vec<Placed> {
        let threads = (0..vcpus).map(|vcpu| (format!("vCPU {vcpu}"), self.of_vcpu(vcpu)));
        let worker = [("worker".to_owned(), self.of_worker(vcpus))];
        let all: Vec<_> = threads.chain(worker).collect();
        let on = |cpu| all.iter().filter(|(_, other)| *other == cpu).count();
        let placed = all.iter().map(|(thread, cpu)| Placed {
            vcpus: vcpus as u32,
            thread: thread.clone(),
            cpu: *cpu,
            shared: on(*cpu) > 1,
        });
        placed.collect()
    }
}

/// Binds this thread to a processor, if one is named and it can be had.
pub(crate) fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu {
        core_affinity::set_for_current(CoreId { id });
    }
}

/// Where a worker runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    /// On this processor, if one is known.
    pub(crate) cpu: Option<usize>,
    /// A vCPU is there as well.
    pub(crate) shared: bool,
}

/// Threads of the engine: workers on this processor, others anywhere.
#[derive(Debug)]
pub(crate) struct Pinned(pub(crate) Worker);

impl Threads for Pinned {
    fn spawn(&self, name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        let cpu = self.0.cpu.filter(|_| name != "vcmdq-gates");
        let body = move || {
            pin(cpu);
            // Else a doze is longer by 50 µs. Without it, it is.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            body();
        };
        std::thread::Builder::new().name(name).spawn(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_processor_only_where_there_are_too_few() {
        let cpus = Cpus(vec![3, 5]);
        let shared = |vcpus| {
            let placed = cpus.placed(vcpus);
            placed
                .iter()
                .map(|one| (one.cpu, one.shared))
                .collect::<Vec<_>>()
        };
        assert_eq!(shared(1), [(Some(3), false), (Some(5), false)]);
        assert_eq!(
            shared(2),
            [(Some(3), false), (Some(5), true), (Some(5), true)]
        );
    }
}
