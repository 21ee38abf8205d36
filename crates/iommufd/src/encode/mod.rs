//! STAGE encode: requests become the entries that a kernel driver understands.
//!
//! A driver of the kernel takes its own data, so this is a seam: [`ArmSmmuv3`] writes Arm commands,
//! [`VtdFirstStage`] ranges of pages. What is encoded is what the driver accepts: its refusal would be
//! told of a whole call, and what a driver does not look at comes to the hardware as it is.

mod arm;
#[cfg(any(test, feature = "testing"))]
mod selftest;
mod vtd;

pub use arm::ArmSmmuv3;
#[cfg(any(test, feature = "testing"))]
pub use selftest::Selftest;
pub use vtd::VtdFirstStage;

use dispatch::{BackendCapabilities, Batch, Invalidation};
use std::ops::Range;

/// Commands that Linux's SMMUv3 driver hands over at once, with one SYNC of its own behind them.
pub const BLOCK: usize = 63;

/// The most entries in a call: sixteen [blocks](BLOCK), each of which the driver waits for for at most a
/// second.
pub const MAX_ENTRIES: usize = 16 * BLOCK;

/// What the driver has no entry for: the request is widened, or fails closed (law 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's driver has no entry for the request")]
pub struct NotEncodable;

/// From requests to entries. Called from workers, several at once: must not block.
pub trait Encoder: Send + Sync {
    /// The data type of the entries, of [`kind`](crate::uapi::kind).
    fn data_type(&self) -> u32;

    /// Bytes of an entry; not zero.
    fn entry_len(&self) -> usize;

    /// What the requests may be; constant. That calls can block is added by the backend.
    fn capabilities(&self) -> BackendCapabilities;

    /// Whether a range is one entry, however long, so that two requests that become one are an entry fewer.
    fn joins(&self) -> bool {
        false
    }

    /// [`encode`](Self::encode) of the first of a part of a batch's requests, for whoever can do it faster
    /// together: those that are of stage 1's addresses, which nearly all are, and make one entry each, and have
    /// room ([`Entries::push_run`]). How many; one that has encoded none is asked request by request.
    fn encode_run(&self, batch: &Batch, part: Range<usize>, entries: &mut Entries) -> usize {
        let _ = (batch, part, entries);
        0
    }

    /// Adds entries that together remove what `request` asks for, or more. None at all: there is nothing
    /// of it in the host.
    fn encode(&self, request: &Invalidation, entries: &mut Entries) -> Result<(), NotEncodable>;
}

/// The entries of a call, and which request each is for. Allocated once.
#[derive(Debug)]
pub struct Entries {
    bytes: Box<[u8]>,
    /// Which request an entry is for.
    of: Box<[u16]>,
    len: usize,
    entry_len: usize,
    /// The request whose entries come.
    request: u16,
    overflowed: bool,
}

impl Entries {
    /// Room for [`MAX_ENTRIES`] of `entry_len` bytes.
    #[must_use]
    pub fn new(entry_len: usize) -> Self {
        let entry_len = entry_len.max(1);
        Self {
            bytes: vec![0; MAX_ENTRIES * entry_len].into(),
            of: vec![0; MAX_ENTRIES].into(),
            len: 0,
            entry_len,
            request: 0,
            overflowed: false,
        }
    }

    /// Adds an entry of [`Encoder::entry_len`] bytes; what has another length is not sent, and its request
    /// counts as [`NotEncodable`].
    #[inline]
    pub fn push<const LEN: usize>(&mut self, entry: &[u8; LEN]) {
        let at = self.len * LEN;
        match (self.bytes.get_mut(at..at + LEN), self.of.get_mut(self.len)) {
            (Some(bytes), Some(of)) if LEN == self.entry_len => {
                bytes.copy_from_slice(entry);
                *of = self.request;
                self.len += 1;
            }
            _ => self.overflowed = true,
        }
    }

    /// Adds an entry for each of so many requests one after the other, `first` being the first one's place in
    /// its batch, as many as have room. How many; none if they are not of [`Encoder::entry_len`] bytes.
    #[inline]
    pub fn push_run<const LEN: usize>(
        &mut self,
        first: usize,
        entries: impl Iterator<Item = [u8; LEN]>,
    ) -> usize {
        let free = self.bytes.get_mut(self.len * LEN..).unwrap_or_default();
        if LEN != self.entry_len {
            return 0;
        }
        let of = self.of.get_mut(self.len..).unwrap_or_default();
        let places = free.chunks_exact_mut(LEN).zip(of);
        let mut count = 0;
        // The places first: an entry for which there is none is not asked for.
        for ((bytes, of), entry) in places.zip(entries) {
            bytes.copy_from_slice(&entry);
            // A batch has fewer requests than that.
            *of = (first + count) as u16;
            count += 1;
        }
        self.len += count;
        count
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len * self.entry_len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The request that an entry is for.
    pub(crate) fn request_of(&self, entry: usize) -> usize {
        usize::from(self.of[entry])
    }

    /// The entries of a request come, all of them or none: whether they had room.
    #[inline]
    pub(crate) fn add(
        &mut self,
        request: u16,
        encode: impl FnOnce(&mut Self) -> Result<(), NotEncodable>,
    ) -> Result<bool, NotEncodable> {
        let before = self.len;
        self.request = request;
        self.overflowed = false;
        let encoded = encode(self);
        if self.overflowed || encoded.is_err() {
            self.len = before;
        }
        // More than a whole call has room for.
        if self.overflowed && before == 0 {
            return Err(NotEncodable);
        }
        encoded.map(|()| !self.overflowed)
    }
}
