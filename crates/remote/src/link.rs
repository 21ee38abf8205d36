//! What a kind of device in another process has to do.

use dispatch::backend::software::{IovaRange, Loan, Wanted};
use std::io;
use std::os::fd::BorrowedFd;

/// A device has no translation for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The address.
    pub iova: u64,
    /// What for.
    pub wanted: Wanted,
}

/// Why a device is not served any more. None of these is an answer to what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection is broken.
    #[error("the connection to the device is broken")]
    Io(#[from] io::Error),
    /// The device has closed its end.
    #[error("the device has closed the connection")]
    Closed,
    /// What came is no message that may come.
    #[error("the device has sent {0}")]
    Protocol(&'static str),
    /// The device has refused a request, with its own error number.
    #[error("the device has refused a request: error {0}")]
    Refused(u64),
    /// Guest memory for the loan cannot be given to another process.
    #[error("no file holds the guest memory at {0:#x}")]
    NoFile(u64),
    /// The VMM has said that the peer is gone.
    #[error("the peer is gone")]
    Gone,
}

/// A connection to a device. One thread at a time has it.
pub trait Link: Send {
    /// Gives the device a translation. May block, must not wait for the guest. The device gets it
    /// before whatever a later [`revoke`](Self::revoke) asks.
    fn lend(&mut self, loan: &Loan) -> Result<(), LinkError>;

    /// Has the device drop all translations that overlap the ranges. Returns `Ok` when it has
    /// *answered* that it does not use them any more, and nothing else may be taken for that answer. May
    /// block.
    fn revoke(&mut self, ranges: &[IovaRange]) -> Result<(), LinkError>;

    /// The next miss of the device, if one has come. Never blocks.
    fn next_miss(&mut self) -> Result<Option<Miss>, LinkError>;

    /// What is readable when [`next_miss`](Self::next_miss) is due. `None`: the device does not ask.
    fn misses(&self) -> Option<BorrowedFd<'_>>;
}
