//! A transaction as the SMMU sees it: who, where, what for.

use crate::ids::{StreamId, SubstreamId};

/// What a transaction does. Writes are always of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A read of data.
    Read,
    /// A write, or an atomic access. Nothing else makes a page dirty; so a translation request of a
    /// device that does not ask for write access (NW) is a read.
    Write,
    /// An instruction fetch.
    Execute,
}

/// One access to one address, after the overrides of its STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The input address, all 64 bits.
    pub address: u64,
    /// What for.
    pub operation: Operation,
    /// With privilege.
    pub privileged: bool,
}

impl Access {
    /// What the SMMU does itself with a table or a CD, as the guest's own stage 2 sees it: with
    /// privilege. It writes nothing but updates of descriptors.
    #[must_use]
    pub fn of_smmu(address: u64, operation: Operation) -> Self {
        Self {
            address,
            operation,
            privileged: true,
        }
    }
}

/// An access and where it comes from: all that an event record can say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// The device.
    pub stream: StreamId,
    /// Its address space, if the transaction names one (SSV).
    pub substream: Option<SubstreamId>,
    /// The access.
    pub access: Access,
}
