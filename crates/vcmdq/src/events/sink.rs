//! What a fault leads to: a record, and an answer to the device.

use super::control::{EventQueueState, EventRestoreError};
use super::queue::{EventQueue, Unwritable};
use super::stalls::{StallState, StalledAccess, Stalls, StallsRestoreError};
use crate::seams::Interrupts;
use smmu_core::command::ResumeAction;
use smmu_core::fault::Response;
use smmu_core::spec::event::EventRecord;
use smmu_core::translate::Failed;
use smmu_core::{Capabilities, GuestMemory, Stag, StreamId};
use std::sync::Arc;

/// What the device sees of a transaction that faulted.
#[derive(Debug)]
#[must_use = "a stalled transaction that is dropped is given up"]
pub enum Answer {
    /// It is aborted.
    Abort,
    /// Reads return zero, writes are ignored.
    RazWi,
    /// It waits for the guest.
    Stalled(StalledAccess),
}

/// Event queue and stalls as plain data (law 10). With the feature `serde`, in any of its formats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventSinkState {
    /// The queue.
    pub queue: EventQueueState,
    /// The stalled transactions.
    pub stalls: Vec<StallState>,
}

/// The event queue and the stalled transactions of a frame.
///
/// Whether records are written depends on EVENTQEN alone: a frame with SMMUEN=0 records too what it
/// has to record. What can make the queue writable goes through here and not through
/// [`queue`](Self::queue), so that records of stalled transactions follow.
#[derive(Debug)]
pub struct EventSink {
    queue: EventQueue,
    stalls: Option<Arc<Stalls>>,
}

impl EventSink {
    /// For a frame with these identification registers. Stalls exist if IDR0.STALL_MODEL allows
    /// them, as many as IDR5.STALL_MAX says. The interrupts are called from faulting threads and
    /// from those that write registers.
    #[must_use]
    pub fn new(
        caps: &Capabilities,
        memory: Arc<dyn GuestMemory>,
        interrupts: Arc<dyn Interrupts>,
    ) -> Self {
        let stalls = || Stalls::new(caps.idr5.stall_max(), caps.idr0.term_model());
        Self {
            queue: EventQueue::new(caps.idr1.eventqs(), memory, interrupts),
            stalls: caps.stalls().then(stalls),
        }
    }

    /// The queue, for its registers and for control calls that have no twin here.
    #[must_use]
    pub fn queue(&self) -> &EventQueue {
        &self.queue
    }

    /// The stalled transactions; none if the frame does not stall.
    #[must_use]
    pub fn stalls(&self) -> Option<&Arc<Stalls>> {
        self.stalls.as_ref()
    }

    /// A transaction has faulted: records it as its verdict says and returns what the device sees.
    /// The caller has given up its guard. From any thread, never waits.
    ///
    /// A transaction that should stall and finds the table full is aborted, with a record whose
    /// Stall bit is clear: hardware would hold it back in the interconnect, of which there is
    /// none here ([`Stalls::exhausted`] counts them). The same happens if the frame does not stall
    /// at all.
    pub fn fault(&self, failed: &Failed) -> Answer {
        if failed.verdict.response == Response::Stall {
            let stalled = self.stalls.as_ref().map(|s| s.stall(failed, &self.queue));
            if let Some(Ok(stalled)) = stalled {
                return Answer::Stalled(stalled);
            }
        }
        if failed.verdict.record {
            // What has no room is counted and flagged by the queue; the device is answered alike.
            let record = failed.record(None);
            let _dropped = if failed.verdict.merge {
                self.queue.push_or_merge(&record)
            } else {
                self.queue.push(&record)
            };
        }
        match failed.verdict.response {
            Response::RazWi => Answer::RazWi,
            Response::Abort | Response::Stall => Answer::Abort,
        }
    }

    /// Records an event that is no transaction's fault; see [`EventQueue::push`].
    pub fn record(&self, record: &EventRecord) -> Result<(), Unwritable> {
        self.queue.push(record)
    }

    /// The guest writes EVENTQ_CONS. Records of stalled transactions take the room first.
    pub fn write_cons(&self, register: u32) {
        self.queue.write_cons(register);
        self.retry_records();
    }

    /// CR0.EVENTQEN becomes 1.
    pub fn enable(&self) {
        self.queue.enable();
        self.retry_records();
    }

    /// CR0.EVENTQEN becomes 0.
    pub fn disable(&self) {
        self.queue.disable();
    }

    /// The guest writes GERRORN.
    pub fn acknowledge(&self, gerrorn: u32) {
        self.queue.acknowledge(gerrorn);
        self.retry_records();
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.queue.resume();
        self.retry_records();
    }

    fn retry_records(&self) {
        if let Some(stalls) = &self.stalls {
            stalls.retry_records(&self.queue);
        }
    }

    /// The command RESUME; see [`Stalls::resume`].
    pub fn resume_access(&self, stream: StreamId, stag: Stag, action: ResumeAction) {
        if let Some(stalls) = &self.stalls {
            stalls.resume(stream, stag, action);
        }
    }

    /// The command STALL_TERM.
    pub fn terminate_stalls(&self, stream: StreamId) {
        if let Some(stalls) = &self.stalls {
            stalls.terminate(stream);
        }
    }

    /// CR0.SMMUEN becomes 0: no transaction stays stalled. Records are written as before.
    pub fn smmu_disabled(&self) {
        if let Some(stalls) = &self.stalls {
            stalls.terminate_all();
        }
    }

    /// The state as plain data. Pauses the queue; the devices must have stopped.
    #[must_use]
    pub fn save(&self) -> EventSinkState {
        EventSinkState {
            queue: self.queue.save(),
            stalls: self.stalls.as_ref().map_or(Vec::new(), |s| s.save()),
        }
    }

    /// Puts a saved state into a paused sink. Nothing is changed if it is refused.
    pub fn restore(&self, state: &EventSinkState) -> Result<(), SinkRestoreError> {
        self.queue.check(&state.queue)?;
        match &self.stalls {
            Some(stalls) => stalls.restore(&state.stalls)?,
            None if state.stalls.is_empty() => {}
            None => return Err(StallsRestoreError::NoRoom.into()),
        }
        Ok(self.queue.restore(&state.queue)?)
    }
}

/// A saved sink could not be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkRestoreError {
    /// Because of the queue.
    #[error(transparent)]
    Queue(#[from] EventRestoreError),
    /// Because of the stalls.
    #[error(transparent)]
    Stalls(#[from] StallsRestoreError),
}
