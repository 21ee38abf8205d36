//! The host's events of a vIOMMU (vEVENTQ): `struct iommufd_vevent_header`, then a record with the vSID.
//!
//! The kernel numbers events. Numbers that are missing, or a header that says LOST_EVENTS and has no record
//! behind it, are events that found no room in its queue. An empty queue reads as zero bytes, or as EAGAIN.

use crate::flavour::{Flavour, MAX_EVENT};
use crate::uapi::raw;
use smmu_core::spec::event::EventRecord;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::{Mutex, PoisonError};

/// `struct iommufd_vevent_header`.
const HEADER: usize = 8;
/// Events that one read can bring.
const AT_ONCE: usize = 64;
/// Reads of one [`EventFile::drain`]: whoever calls has other things to do, too.
const READS: usize = 16;
/// Reads that a signal may interrupt, one after the other.
const INTERRUPTIONS: usize = 16;
/// Numbers wrap behind this.
const SEQUENCE: u32 = 0x7FFF_FFFF;

/// What a queue said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event.
    Event(EventRecord),
    /// So many were lost.
    Lost(u64),
    /// What is no event.
    Malformed,
}

/// How far a queue has been read.
pub(crate) struct Cursor {
    /// The number that is expected.
    next: u32,
    buffer: Box<[u8]>,
}

/// The file of a vEVENTQ. From any thread, one at a time.
pub(crate) struct EventFile {
    file: File,
    cursor: Mutex<Cursor>,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            next: 0,
            buffer: vec![0; AT_ONCE * (HEADER + MAX_EVENT)].into(),
        }
    }
}

/// Reads once; zero if nothing is there.
pub(crate) fn read_once(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    for _ in 0..INTERRUPTIONS {
        match source.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            read => return read,
        }
    }
    Err(ErrorKind::Interrupted.into())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(field))
}

impl Cursor {
    /// Reads once and says what it found; false if nothing was there.
    pub(crate) fn read(
        &mut self,
        source: &mut impl Read,
        flavour: &dyn Flavour,
        mut hear: impl FnMut(Heard),
    ) -> io::Result<bool> {
        let event = flavour.event_len().min(MAX_EVENT);
        let room = AT_ONCE * (HEADER + event);
        let count = read_once(source, &mut self.buffer[..room])?.min(room);
        let mut at = 0;
        while at < count {
            let header = &self.buffer[at..count];
            let (Some(flags), Some(sequence)) = (number(header, 0), number(header, 4)) else {
                hear(Heard::Malformed);
                break;
            };
            at += HEADER;
            let is_lost = flags & raw::iommu_veventq_flag_IOMMU_VEVENTQ_FLAG_LOST_EVENTS != 0;
            let missing = sequence.wrapping_sub(self.next) & SEQUENCE;
            // A header that says so has the number of the last one that was lost.
            match u64::from(missing) + u64::from(is_lost) {
                0 => {}
                lost => hear(Heard::Lost(lost)),
            }
            self.next = sequence.wrapping_add(1) & SEQUENCE;
            if is_lost {
                continue;
            }
            let bytes = self.buffer[at..count].get(..event);
            hear(match bytes.and_then(|bytes| flavour.event(bytes)) {
                Some(record) => Heard::Event(record),
                None => Heard::Malformed,
            });
            at += event;
        }
        Ok(count != 0)
    }
}

impl EventFile {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            cursor: Mutex::default(),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads what is there, up to a bound; true if there may be more.
    pub(crate) fn drain(
        &self,
        flavour: &dyn Flavour,
        mut hear: impl FnMut(Heard),
    ) -> io::Result<bool> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..READS {
            if !cursor.read(&mut &self.file, flavour, &mut hear)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
