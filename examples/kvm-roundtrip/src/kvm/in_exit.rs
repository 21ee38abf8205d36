//! What today's VMMs do, as the baseline: the exit takes a lock and consumes the queue.

use super::backend::Executor;
use super::consumer::Consumer;
use super::layout::{RING_LOG2SIZE, ring};
use super::memory::Vm;
use crate::data::Host;
use dispatch::{Barrier, Batch, Invalidation, WaiterId};
use smmu_core::command::Signal;
use smmu_core::decode::decode;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::{Capabilities, Command};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, GuestAddress};

/// Consumes in the exit, under one lock for all rings of the frame.
pub(crate) struct InExit {
    vm: Arc<Vm>,
    caps: Capabilities,
    executor: Executor,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One for each ring.
    cons: Vec<QueueIndex>,
    batch: Batch,
    calls: u64,
}

impl InExit {
    /// A consumer of empty queues.
    #[must_use]
    pub(crate) fn new(vm: Arc<Vm>, vcpus: usize, executor: Executor) -> Self {
        let state = State {
            cons: vec![QueueIndex::default(); vcpus],
            ..State::default()
        };
        Self {
            vm,
            caps: Capabilities::default(),
            executor,
            state: Mutex::new(state),
        }
    }

    /// Executes the command at `at`; `None` if that is not possible.
    fn execute(&self, at: u64, state: &mut State) -> Option<()> {
        let memory = self.vm.memory();
        let word = |at| memory.load(GuestAddress(at), Ordering::Relaxed).ok();
        let raw = RawCommand {
            dw0: word(at)?,
            dw1: word(at + 8)?,
        };
        match decode(raw, &self.caps).ok()? {
            Command::Tlbi(tlbi) => {
                let request = Invalidation::from_tlbi(tlbi);
                state.batch.restart(request.vmid);
                state.batch.push(request, 0);
                state.calls += 1;
                self.executor.backend.submit(&state.batch).ok()
            }
            Command::Sync(Signal::Irq { msi: Some(msi) }) => {
                if self.executor.backend.barrier(WaiterId(0)) == Barrier::Pending {
                    return None;
                }
                memory
                    .store(msi.data, GuestAddress(msi.addr.0), Ordering::Release)
                    .ok()
            }
            _ => None,
        }
    }
}

impl Consumer for InExit {
    /// Consumes up to `prod`. A queue that cannot be read, or holds what is no command, stays
    /// where it is, and the guest times out.
    fn doorbell(&self, vcpu: usize, prod: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let geometry = Geometry::capped(RING_LOG2SIZE, MAX_LOG2SIZE);
        let Some(mut cons) = state.cons.get(vcpu).copied() else {
            return;
        };
        let count = geometry
            .published(cons, geometry.pointer(prod))
            .unwrap_or(0);
        for _ in 0..count {
            let at = ring(vcpu) + 16 * u64::from(geometry.slot(cons));
            if self.execute(at, &mut state).is_none() {
                break;
            }
            cons = geometry.advance(cons, 1);
        }
        state.cons[vcpu] = cons;
    }

    fn host(&self) -> Option<Host> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (calls, requests) = self.executor.paid().unwrap_or((state.calls, state.calls));
        Some(Host {
            calls,
            requests,
            ..Host::default()
        })
    }
}
