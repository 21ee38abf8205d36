//! An access that outlives the call that began it: for asynchronous I/O.

use super::device::{Device, Requester};
use super::error::DmaError;
use super::piece::{self, Target};
use super::sinks::{DeviceSeams, MmioSink};
use dispatch::backend::software::OwnedGuard;
use smmu_core::access::Operation;
use smmu_core::{Gpa, GuestMemory};
use std::fmt;
use std::sync::Arc;

/// A translation that a device uses for a while, on any thread. A SYNC behind an invalidation of it
/// waits until this is dropped; [`Device::on_overdue`] tells when that takes too long.
pub struct Held {
    guard: OwnedGuard,
    operation: Operation,
    who: Requester,
    mmio: Arc<dyn MmioSink>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("output", &self.guard.output())
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Translates the beginning of an access of `len` bytes and keeps the translation.
    /// [`Held::len`] says how much of it. Takes a guard slot of its own. An access that is answered
    /// by "reads are zero, writes are ignored" has nothing to hold: `None`.
    pub fn hold(
        &mut self,
        operation: Operation,
        iova: u64,
        len: usize,
    ) -> Result<Option<Held>, DmaError> {
        let port = self.port.core().port(self.who.stream)?;
        let DeviceSeams { faults, mmio } = &self.seams;
        let mut answer = None;
        let access = self.who.access(iova, operation);
        let held = port.translate_owned(self.who.substream, access, len as u64, |failed| {
            answer = Some(faults.fault(failed));
        });
        match held {
            Ok(guard) => Ok(Some(Held {
                guard,
                operation,
                who: self.who,
                mmio: mmio.clone(),
            })),
            Err((_, denied)) => piece::refused(denied, answer).map_or(Ok(None), Err),
        }
    }
}

impl Held {
    /// The guest-physical address of its first byte.
    #[must_use]
    pub fn at(&self) -> Gpa {
        Gpa(self.guard.output().address)
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.guard.output().bytes).unwrap_or(usize::MAX)
    }

    /// Whether it has no bytes: of an access that had none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The map of guest memory that it belongs to.
    #[must_use]
    pub fn memory(&self) -> &dyn GuestMemory {
        self.guard.memory()
    }

    /// Reads from byte `offset` on, as far as this reaches; returns how many bytes.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<usize, DmaError> {
        let count = into.len().min(self.len().saturating_sub(offset));
        let target = self.target(offset);
        let (done, result) = piece::read(&self.who, &*self.mmio, &target, &mut into[..count]);
        result.map(|()| done)
    }

    /// Writes from byte `offset` on, as far as this reaches; returns how many bytes. Nothing if it
    /// was not taken for writing.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<usize, DmaError> {
        if self.operation != Operation::Write {
            return Ok(0);
        }
        let count = from.len().min(self.len().saturating_sub(offset));
        let target = self.target(offset);
        let (done, result) = piece::write(&self.who, &*self.mmio, &target, &from[..count]);
        result.map(|()| done)
    }

    fn target(&self, offset: usize) -> Target<'_> {
        Target::Memory(
            self.guard.memory(),
            Gpa(self.at().0.wrapping_add(offset as u64)),
        )
    }
}
