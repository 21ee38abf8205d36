//! What today's VMMs do, as the baseline: the exit takes a lock and consumes the queue.

use super::guest::{RING, RING_LOG2SIZE};
use dispatch::backend::Software;
use dispatch::{Backend, Barrier, Batch, Invalidation, WaiterId};
use smmu_core::command::Signal;
use smmu_core::decode::decode;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Command};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Consumes in the exit, under a lock.
#[derive(Debug)]
pub(crate) struct InExit<'a> {
    memory: &'a GuestMemoryMmap,
    caps: Capabilities,
    backend: Software,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cons: QueueIndex,
    batch: Batch,
}

impl<'a> InExit<'a> {
    /// A consumer of an empty queue.
    #[must_use]
    pub(crate) fn new(memory: &'a GuestMemoryMmap) -> Self {
        Self {
            memory,
            caps: Capabilities::default(),
            backend: Software::default(),
            state: Mutex::default(),
        }
    }

    /// Consumes up to `prod`. A queue that cannot be read, or holds what is no command, stays
    /// where it is, and the guest times out.
    pub(crate) fn doorbell(&self, prod: u32) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        let ring = Geometry::capped(RING_LOG2SIZE, MAX_LOG2SIZE);
        let count = ring.published(state.cons, ring.pointer(prod)).unwrap_or(0);
        for _ in 0..count {
            let at = RING + 16 * u64::from(ring.slot(state.cons));
            if self.execute(at, &mut state.batch).is_none() {
                return;
            }
            state.cons = ring.advance(state.cons, 1);
        }
    }

    /// Executes the command at `at`; `None` if that is not possible.
    fn execute(&self, at: u64, batch: &mut Batch) -> Option<()> {
        let word = |at| self.memory.load(GuestAddress(at), Ordering::Relaxed).ok();
        let raw = RawCommand {
            dw0: word(at)?,
            dw1: word(at + 8)?,
        };
        match decode(raw, &self.caps).ok()? {
            Command::Tlbi(tlbi) => {
                let request = Invalidation::from_tlbi(tlbi);
                batch.restart(request.vmid);
                batch.push(request, 0);
                self.backend.submit(batch).ok()
            }
            Command::Sync(Signal::Irq { msi: Some(msi) }) => {
                if self.backend.barrier(WaiterId(0)) == Barrier::Pending {
                    return None;
                }
                self.memory
                    .store(msi.data, GuestAddress(msi.addr.0), Ordering::Release)
                    .ok()
            }
            _ => None,
        }
    }
}
