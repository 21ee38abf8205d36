//! The admin commands (Base Specification, 5).

use super::command::{Command, Outcome, Status};
use super::controller::Controller;
use super::dma::Dma;
use super::identify::{self, AERL};
use super::prp;
use super::queue::{Completion, Submission};
use super::registers::LARGEST_QUEUE;

const DELETE_SUBMISSION: u8 = 0x00;
const CREATE_SUBMISSION: u8 = 0x01;
const GET_LOG_PAGE: u8 = 0x02;
const DELETE_COMPLETION: u8 = 0x04;
const CREATE_COMPLETION: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const ABORT: u8 = 0x08;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0A;
const ASYNC_EVENT_REQUEST: u8 = 0x0C;

/// Feature: the number of queues.
const NUMBER_OF_QUEUES: u8 = 0x07;
/// Features that are accepted and have no effect here: arbitration, power, temperature, error
/// recovery, write cache, coalescing, vectors, atomicity, event configuration.
const WITHOUT_EFFECT: [u8; 9] = [0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0B];

/// I/O queues of each kind, as many as a machine here has CPUs.
const MOST_QUEUES: u32 = 8;
/// The largest log page.
const LARGEST_LOG: usize = 4096;

impl Controller {
    /// Executes an admin command.
    pub(super) fn admin(&self, command: &Command, dma: &mut dyn Dma) -> Outcome {
        if command.has_sgl() {
            return Status::InvalidField.into();
        }
        match command.opcode() {
            CREATE_SUBMISSION => self.create_submission(command).into(),
            CREATE_COMPLETION => self.create_completion(command).into(),
            DELETE_SUBMISSION => self.delete_submission(command).into(),
            DELETE_COMPLETION => self.delete_completion(command).into(),
            IDENTIFY => self.identify(command, dma).into(),
            GET_LOG_PAGE => get_log_page(command, dma).into(),
            SET_FEATURES => self.set_features(command),
            GET_FEATURES => self.get_features(command),
            // Bit 0 of the result: the command was not aborted. Commands here are short.
            ABORT => Outcome::Complete(Status::Success, 1),
            ASYNC_EVENT_REQUEST => self.async_event_request(),
            _ => Status::InvalidOpcode.into(),
        }
    }

    fn create_completion(&self, command: &Command) -> Status {
        let Ok((id, place)) = new_queue(command) else {
            return Status::InvalidQueueSize;
        };
        let word = command.dword(11);
        if word & 1 == 0 {
            return Status::InvalidField;
        }
        let vector = (word & 2 != 0).then_some((word >> 16) as u16);
        let mut state = self.state();
        if id == 0 || u32::from(id) > MOST_QUEUES || state.completions.contains_key(&id) {
            return Status::InvalidQueue;
        }
        state.completions.insert(id, Completion::new(place, vector));
        Status::Success
    }

    fn create_submission(&self, command: &Command) -> Status {
        let Ok((id, place)) = new_queue(command) else {
            return Status::InvalidQueueSize;
        };
        let word = command.dword(11);
        if word & 1 == 0 {
            return Status::InvalidField;
        }
        let completion = (word >> 16) as u16;
        let mut state = self.state();
        if id == 0 || u32::from(id) > MOST_QUEUES || state.submissions.contains_key(&id) {
            return Status::InvalidQueue;
        }
        if completion == 0 || !state.completions.contains_key(&completion) {
            return Status::InvalidCompletionQueue;
        }
        let queue = Submission::new(place, completion);
        state.submissions.insert(id, queue);
        Status::Success
    }

    fn delete_submission(&self, command: &Command) -> Status {
        let id = command.dword(10) as u16;
        if id == 0 || !self.state().submissions.contains_key(&id) {
            return Status::InvalidQueue;
        }
        self.drain(id);
        self.state().submissions.remove(&id);
        Status::Success
    }

    fn delete_completion(&self, command: &Command) -> Status {
        let id = command.dword(10) as u16;
        let mut state = self.state();
        if id == 0 || !state.completions.contains_key(&id) {
            return Status::InvalidQueue;
        }
        if state
            .submissions
            .values()
            .any(|queue| queue.completion == id)
        {
            return Status::InvalidQueueDeletion;
        }
        state.completions.remove(&id);
        Status::Success
    }

    fn identify(&self, command: &Command, dma: &mut dyn Dma) -> Status {
        let answer = match command.dword(10) as u8 {
            0x00 if command.namespace() == 1 => identify::namespace(self.disk.blocks()),
            0x01 => identify::controller(),
            0x02 => identify::namespaces(command.namespace()),
            0x03 if command.namespace() == 1 => identify::descriptors(),
            0x00 | 0x03 => return Status::InvalidNamespace,
            _ => return Status::InvalidField,
        };
        send(command, dma, &answer)
    }

    fn set_features(&self, command: &Command) -> Outcome {
        match command.dword(10) as u8 {
            NUMBER_OF_QUEUES => {
                let asked = command.dword(11);
                let most = MOST_QUEUES - 1;
                let granted = (asked & 0xFFFF).min(most) | (asked >> 16).min(most) << 16;
                self.state().granted = granted;
                Outcome::Complete(Status::Success, granted)
            }
            feature if WITHOUT_EFFECT.contains(&feature) => Status::Success.into(),
            _ => Status::InvalidField.into(),
        }
    }

    fn get_features(&self, command: &Command) -> Outcome {
        match command.dword(10) as u8 {
            NUMBER_OF_QUEUES => Outcome::Complete(Status::Success, self.state().granted),
            feature if WITHOUT_EFFECT.contains(&feature) => Status::Success.into(),
            _ => Status::InvalidField.into(),
        }
    }

    fn async_event_request(&self) -> Outcome {
        let mut state = self.state();
        if state.events > AERL {
            return Status::TooManyAsyncEvents.into();
        }
        state.events += 1;
        Outcome::Open
    }
}

/// Identifier, address and entries of a queue to be created.
fn new_queue(command: &Command) -> Result<(u16, (u64, u32)), ()> {
    let word = command.dword(10);
    let entries = (word >> 16) + 1;
    match entries {
        2..=LARGEST_QUEUE => Ok((word as u16, (command.prp1(), entries))),
        _ => Err(()),
    }
}

/// Logs without anything in them.
fn get_log_page(command: &Command, dma: &mut dyn Dma) -> Status {
    let dwords = (command.dword(10) >> 16 | (command.dword(11) & 0xFFFF) << 16) as usize;
    let bytes = dwords.saturating_add(1).saturating_mul(4);
    // Error information, health, firmware slots.
    match command.dword(10) as u8 {
        0x01..=0x03 if bytes <= LARGEST_LOG => send(command, dma, &vec![0; bytes]),
        _ => Status::InvalidField,
    }
}

fn send(command: &Command, dma: &mut dyn Dma, bytes: &[u8]) -> Status {
    let segments = match prp::segments(dma, (command.prp1(), command.prp2()), bytes.len()) {
        Ok(segments) => segments,
        Err(status) => return status,
    };
    let mut from = bytes;
    for segment in segments {
        let (now, rest) = from.split_at(segment.len.min(from.len()));
        if dma.write(segment.iova, now).is_err() {
            return Status::DataTransferError;
        }
        from = rest;
    }
    Status::Success
}
