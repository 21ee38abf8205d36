//! The controller's way to memory.

use smmu_core::StreamId;
use smmu_core::access::Operation;
use std::fmt;
use std::sync::Arc;
use vcmdq::VmMemory;
use vcmdq::dma::{Device, DeviceSeams, DmaError, Held, Requester};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use dispatch::backend::Software;

/// The address cannot be used. What the SMMU has to record is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl From<DmaError> for Fault {
    fn from(error: DmaError) -> Self {
        Self(error.to_string())
    }
}

/// Bytes of memory that stay reachable as long as this lives.
pub trait Hold {
    /// Bytes.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies from its beginning; `into` is at most [`len`](Self::len) long.
    ///
    /// # Errors
    ///
    /// What it leads to is no RAM.
    fn read(&self, into: &mut [u8]) -> Result<(), Fault>;
    /// Copies to its beginning; `from` is at most [`len`](Self::len) long.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read), or it was not taken for writing.
    fn write(&self, from: &[u8]) -> Result<(), Fault>;
}

/// Memory as a device sees it. One thread uses it at a time.
pub trait Dma: Send {
    /// Reads.
    ///
    /// # Errors
    ///
    /// An address without translation or memory.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Fault>;
    /// Writes.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Fault>;
    /// Takes the beginning of a range in use, at least one byte of it.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn hold(&mut self, at: u64, bytes: usize, write: bool) -> Result<Box<dyn Hold>, Fault>;
}

/// A stream behind the SMMU.
#[derive(Debug)]
pub struct Behind(Device);

impl Behind {
    /// A handle for one thread.
    ///
    /// # Errors
    ///
    /// The core has no guard left.
    pub fn new(core: &Arc<Software>, stream: StreamId, seams: DeviceSeams) -> Result<Self, Fault> {
        let who = Requester {
            stream,
            substream: None,
            privileged: false,
            device_id: stream.0,
        };
        let device = Device::new(core, who, seams);
        device.map(Self).map_err(|error| Fault(error.to_string()))
    }
}

impl Dma for Behind {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.0.read(at, into).map_err(|error| error.cause.into())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.0.write(at, from).map_err(|error| error.cause.into())
    }

    fn hold(&mut self, at: u64, bytes: usize, write: bool) -> Result<Box<dyn Hold>, Fault> {
        let operation = match write {
            true => Operation::Write,
            false => Operation::Read,
        };
        match self.0.hold(operation, at, bytes)? {
            Some(held) => Ok(Box::new(held)),
            None => Err(Fault("reads are zero and writes are ignored".into())),
        }
    }
}

impl Hold for Held {
    fn len(&self) -> usize {
        Held::len(self)
    }

    fn read(&self, into: &mut [u8]) -> Result<(), Fault> {
        Held::read(self, 0, into)?;
        Ok(())
    }

    fn write(&self, from: &[u8]) -> Result<(), Fault> {
        Held::write(self, 0, from)?;
        Ok(())
    }
}

/// Guest RAM without an SMMU.
#[derive(Clone, Debug)]
pub struct Flat(pub Arc<VmMemory<GuestMemoryMmap>>);

struct FlatPart {
    memory: Flat,
    at: u64,
    bytes: usize,
}

impl Hold for FlatPart {
    fn len(&self) -> usize {
        self.bytes
    }

    fn read(&self, into: &mut [u8]) -> Result<(), Fault> {
        self.memory.clone().read(self.at, into)
    }

    fn write(&self, from: &[u8]) -> Result<(), Fault> {
        self.memory.clone().write(self.at, from)
    }
}

impl Dma for Flat {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        let read = self.0.map().read_slice(into, GuestAddress(at));
        read.map_err(|error| Fault(error.to_string()))
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Fault> {
        let written = self.0.map().write_slice(from, GuestAddress(at));
        written.map_err(|error| Fault(error.to_string()))
    }

    fn hold(&mut self, at: u64, bytes: usize, _write: bool) -> Result<Box<dyn Hold>, Fault> {
        Ok(Box::new(FlatPart {
            memory: self.clone(),
            at,
            bytes,
        }))
    }
}
