//! The bare ping-pong: a thread that polls PROD and answers, without reading a command.
//!
//! It says what this machine's caches and this guest cost at the moment; an engine's row is to be
//! compared with it, not with a figure of another day.

use super::consumer::Consumer;
use super::error::Error;
use super::layout::{PROD_OFFSET, RING_LOG2SIZE, queue_page, ring};
use super::memory::Vm;
use super::placement::pin;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

/// The thread.
#[derive(Debug)]
pub(crate) struct Answerer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    /// Starts it, on a processor if one is named.
    ///
    /// # Errors
    ///
    /// If there is no such memory or no thread.
    pub(crate) fn start(vm: Arc<Vm>, vcpus: usize, cpu: Option<usize>) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let body = move || {
            pin(cpu);
            // Without memory there is no answer, and the guest gives up.
            let _ = answer(&vm, vcpus, &stopped);
        };
        let thread = std::thread::Builder::new()
            .name("answerer".into())
            .spawn(body)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Consumer for Answerer {}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Queue<'a> {
    prod: &'a AtomicU32,
    entries: VolatileSlice<'a>,
    seen: u32,
}

/// Zeroes the last entry's first word whenever a PROD has moved, until `stop`.
fn answer(vm: &Vm, vcpus: usize, stop: &AtomicBool) -> Result<(), Error> {
    let geometry = Geometry::capped(RING_LOG2SIZE, MAX_LOG2SIZE);
    let pages = (0..vcpus)
        .map(|vcpu| vm.memory().get_slice(GuestAddress(queue_page(vcpu)), 8))
        .collect::<Result<Vec<_>, _>>()?;
    let mut queues = Vec::new();
    for (vcpu, page) in pages.iter().enumerate() {
        let bytes = 16 * geometry.entries() as usize;
        queues.push(Queue {
            prod: page.get_atomic_ref(PROD_OFFSET as usize)?,
            entries: vm.memory().get_slice(GuestAddress(ring(vcpu)), bytes)?,
            seen: 0,
        });
    }
    while !stop.load(Ordering::Relaxed) {
        for queue in &mut queues {
            let now = queue.prod.load(Ordering::Acquire);
            if now == queue.seen {
                std::hint::spin_loop();
                continue;
            }
            queue.seen = now;
            let last = geometry.slot(geometry.pointer(now.wrapping_sub(1))) as usize;
            let word = queue.entries.get_atomic_ref::<AtomicU32>(16 * last)?;
            word.store(0, Ordering::Release);
        }
    }
    Ok(())
}
