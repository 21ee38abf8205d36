//! One translation and the bytes behind it, under one guard.

use super::bytes;
use super::device::Requester;
use super::error::DmaError;
use super::sinks::{DeviceSeams, MmioSink};
use crate::events::Answer;
use dispatch::backend::software::{Denied, Port};
use smmu_core::access::{Access, Operation};
use smmu_core::{Gpa, GuestMemory};

/// The most bytes that are touched under one guard.
const MAX_BYTES: usize = 64 << 10;
/// What an access is cut into where nothing else cuts it: RAM and MMIO change at pages at most.
const PAGE: u64 = 4096;

/// What a piece of an access reaches.
pub(super) enum Target<'a> {
    /// Guest-physical addresses.
    Memory(&'a dyn GuestMemory, Gpa),
    /// Reads are zero, writes are ignored.
    Void,
}

/// Bytes from an address to the end of its page.
pub(super) fn to_page_end(address: u64) -> usize {
    (PAGE - address % PAGE) as usize
}

impl Requester {
    /// An access of the device's.
    pub(super) fn access(&self, address: u64, operation: Operation) -> Access {
        Access {
            address,
            operation,
            privileged: self.privileged,
        }
    }
}

/// Translates the beginning of an access and has `touch` work on it, which is told how many bytes it
/// has, and says how many it has done and why not all. Returns the same.
pub(super) fn piece(
    port: &mut Port,
    who: &Requester,
    seams: &DeviceSeams,
    access: Access,
    len: usize,
    touch: impl FnOnce(Target<'_>, usize) -> (usize, Result<(), DmaError>),
) -> (usize, Result<(), DmaError>) {
    let len = len.min(MAX_BYTES);
    let mut answer = None;
    let translated = port.translate(who.substream, access, len as u64, |failed| {
        answer = Some(seams.faults.fault(failed));
    });
    match translated {
        Ok(guard) => {
            let output = guard.output();
            let len = usize::try_from(output.bytes).map_or(len, |bytes| bytes.min(len));
            touch(Target::Memory(guard.memory(), Gpa(output.address)), len)
        }
        Err(denied) => match refused(denied, answer) {
            // The next page may have a translation.
            None => touch(Target::Void, len.min(to_page_end(access.address))),
            Some(cause) => (0, Err(cause)),
        },
    }
}

/// What the device sees of an access that was denied; `None` is "reads are zero, writes ignored".
pub(super) fn refused(denied: Denied, answer: Option<Answer>) -> Option<DmaError> {
    match answer {
        Some(Answer::RazWi) => None,
        Some(Answer::Stalled(stalled)) => Some(DmaError::Stalled(stalled)),
        Some(Answer::Abort) | None => Some(denied.into()),
    }
}

/// Reads what a piece reaches.
pub(super) fn read(
    who: &Requester,
    mmio: &dyn MmioSink,
    target: &Target<'_>,
    into: &mut [u8],
) -> (usize, Result<(), DmaError>) {
    let Target::Memory(memory, at) = *target else {
        into.fill(0);
        return (into.len(), Ok(()));
    };
    let mut done = 0;
    loop {
        done += bytes::read(memory, behind(at, done), &mut into[done..]);
        if done == into.len() {
            return (done, Ok(()));
        }
        let here = behind(at, done);
        let end = into.len().min(done + to_page_end(here.0));
        if mmio
            .read(who.stream, who.device_id, here, &mut into[done..end])
            .is_err()
        {
            return (done, Err(DmaError::NotBacked(here)));
        }
        done = end;
    }
}

/// Writes what a piece reaches.
pub(super) fn write(
    who: &Requester,
    mmio: &dyn MmioSink,
    target: &Target<'_>,
    from: &[u8],
) -> (usize, Result<(), DmaError>) {
    let Target::Memory(memory, at) = *target else {
        return (from.len(), Ok(()));
    };
    let mut done = 0;
    loop {
        done += bytes::write(memory, behind(at, done), &from[done..]);
        if done == from.len() {
            return (done, Ok(()));
        }
        let here = behind(at, done);
        let end = from.len().min(done + to_page_end(here.0));
        if mmio
            .write(who.stream, who.device_id, here, &from[done..end])
            .is_err()
        {
            return (done, Err(DmaError::NotBacked(here)));
        }
        done = end;
    }
}

fn behind(at: Gpa, bytes: usize) -> Gpa {
    Gpa(at.0.wrapping_add(bytes as u64))
}
