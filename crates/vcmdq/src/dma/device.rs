//! A device model's way to guest memory.

use super::error::{DmaError, Incomplete};
use super::piece::{self, Target};
use super::sinks::DeviceSeams;
use dispatch::backend::Software;
use dispatch::backend::software::{Overdue, Port};
use smmu_core::access::Operation;
use smmu_core::guard::NoSlot;
use smmu_core::{StreamId, SubstreamId};
use std::sync::Arc;

/// Who accesses memory, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// vSID.
    pub stream: StreamId,
    /// PASID, if the transactions carry one (SSV).
    pub substream: Option<SubstreamId>,
    /// With privilege (PnU=1). PCIe devices without a PASID access unprivileged.
    pub privileged: bool,
    /// DeviceID of messages, for the [`MmioSink`](super::MmioSink) and [`MsiRoute`](super::MsiRoute)s.
    pub device_id: u32,
}

impl Requester {
    /// A device without PASID, unprivileged, with DeviceID zero: what is different is set in the fields.
    #[must_use]
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            ..Self::default()
        }
    }
}

/// A part of a scatter-gather list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First input address.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
}

/// A device model's handle on its stream. One thread uses it at a time; a model with several threads
/// has one for each. Holds one guard slot of the instance.
///
/// Addresses wrap at 2^64. An access of no bytes succeeds without being translated.
#[derive(Debug)]
pub struct Device {
    pub(super) port: Port,
    pub(super) who: Requester,
    pub(super) seams: DeviceSeams,
}

impl Device {
    /// A handle. Fails if the instance has no more guards
    /// ([`SoftwareSettings::guards`](dispatch::backend::SoftwareSettings)).
    pub fn new(core: &Arc<Software>, who: Requester, seams: DeviceSeams) -> Result<Self, NoSlot> {
        Ok(Self {
            port: core.port(who.stream)?,
            who,
            seams,
        })
    }

    /// Who it is.
    #[must_use]
    pub fn requester(&self) -> &Requester {
        &self.who
    }

    /// The address space of the accesses from here on.
    pub fn set_substream(&mut self, substream: Option<SubstreamId>) {
        self.who.substream = substream;
    }

    /// The privilege of the accesses from here on.
    pub fn set_privileged(&mut self, privileged: bool) {
        self.who.privileged = privileged;
    }

    /// Registers who is told when a guard of this stream has kept a SYNC waiting for longer than
    /// [`SoftwareSettings::guard_age`](dispatch::backend::SoftwareSettings). Control path.
    pub fn on_overdue(&mut self, tell: Arc<dyn Overdue>) {
        self.port.on_overdue(tell);
    }

    /// Reads.
    pub fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), Incomplete> {
        self.read_as(Operation::Read, iova, into)
    }

    /// Fetches instructions: as [`read`](Self::read), but what is execute-never faults.
    pub fn fetch(&mut self, iova: u64, into: &mut [u8]) -> Result<(), Incomplete> {
        self.read_as(Operation::Execute, iova, into)
    }

    fn read_as(
        &mut self,
        operation: Operation,
        iova: u64,
        into: &mut [u8],
    ) -> Result<(), Incomplete> {
        let Self { who, seams, .. } = self;
        let (len, mmio) = (into.len(), &*seams.mmio);
        let touch = |target: Target<'_>, from, bytes| {
            piece::read(who, mmio, &target, &mut into[from..from + bytes])
        };
        transfer(&mut self.port, (who, seams), operation, iova, len, touch)
    }

    /// Writes. What is not RAM goes to the [`MmioSink`](super::MmioSink).
    pub fn write(&mut self, iova: u64, from: &[u8]) -> Result<(), Incomplete> {
        let Self { who, seams, .. } = self;
        let (len, mmio) = (from.len(), &*seams.mmio);
        let touch =
            |target: Target<'_>, at, bytes| piece::write(who, mmio, &target, &from[at..at + bytes]);
        transfer(
            &mut self.port,
            (who, seams),
            Operation::Write,
            iova,
            len,
            touch,
        )
    }

    /// Reads the segments one after the other, until they or `into` end. Returns how many bytes;
    /// in an error, they are counted over all segments.
    pub fn read_vectored(
        &mut self,
        segments: &[Segment],
        into: &mut [u8],
    ) -> Result<usize, Incomplete> {
        let mut done = 0usize;
        for segment in segments {
            let end = into.len().min(done.saturating_add(segment.len));
            self.read(segment.iova, &mut into[done..end])
                .map_err(|incomplete| incomplete.after(done))?;
            done = end;
        }
        Ok(done)
    }

    /// Writes the segments one after the other, until they or `from` end. Returns how many bytes;
    /// in an error, they are counted over all segments.
    pub fn write_vectored(
        &mut self,
        segments: &[Segment],
        from: &[u8],
    ) -> Result<usize, Incomplete> {
        let mut done = 0usize;
        for segment in segments {
            let end = from.len().min(done.saturating_add(segment.len));
            self.write(segment.iova, &from[done..end])
                .map_err(|incomplete| incomplete.after(done))?;
            done = end;
        }
        Ok(done)
    }
}

/// Piece by piece. `touch` has the target, how far the access has come, and how many bytes to do.
fn transfer(
    port: &mut Port,
    (who, seams): (&Requester, &DeviceSeams),
    operation: Operation,
    iova: u64,
    len: usize,
    mut touch: impl FnMut(Target<'_>, usize, usize) -> (usize, Result<(), DmaError>),
) -> Result<(), Incomplete> {
    let mut done = 0;
    while done < len {
        let access = who.access(iova.wrapping_add(done as u64), operation);
        let (moved, result) =
            piece::piece(port, who, seams, access, len - done, |target, bytes| {
                touch(target, done, bytes)
            });
        done += moved;
        result.map_err(|cause| Incomplete { done, cause })?;
    }
    Ok(())
}

impl Incomplete {
    /// As part of something of which `bytes` had been done before.
    fn after(self, bytes: usize) -> Self {
        Self {
            done: self.done + bytes,
            ..self
        }
    }
}
