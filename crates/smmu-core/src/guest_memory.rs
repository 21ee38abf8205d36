//! What the engine needs of guest memory, and no more.
//!
//! The trait is the consumer's side: a VMM implements it over whatever maps its guest
//! (`vcmdq::VmMemory` does for vm-memory). Everything the guest can write at the same time
//! is reached through atomics, so a racing guest is never undefined behaviour here.
//! Words in guest memory are little-endian: [`load_le`] and the `store_*` methods convert.

use crate::ids::Gpa;
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vcmdq_sync::wide;

/// Why guest memory could not be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No RAM there. An SMMU sees an external abort.
    #[error("guest-physical address {0} is not backed by memory")]
    NotBacked(Gpa),
    /// The access is not naturally aligned.
    #[error("guest-physical address {0} is not aligned to {1} bytes")]
    Misaligned(Gpa, u64),
    /// It can be read, but not written, or not by a read-modify-write. A write of the SMMU's own there
    /// (an event, a message, an update of a descriptor) ends in an external abort.
    #[error("guest-physical address {0} cannot be written")]
    ReadOnly(Gpa),
}

/// Guest-physical memory.
///
/// Every method may be called from any thread, never blocks and never re-enters the
/// engine. Implementations report their own writes to their dirty log.
pub trait GuestMemory: Send + Sync {
    /// The longest run of little-endian 64-bit words that starts at `at`, lies in one piece of
    /// host memory and has at most `count` words. Never empty: if not even the first word is
    /// backed, the error says so. Who needs more asks again behind the run.
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError>;

    /// The run of [`words`](Self::words) for who is going to store there, and report that with
    /// [`mark_dirty`](Self::mark_dirty): it ends before memory that can only be read, where the answer is
    /// [`MemoryError::ReadOnly`]. What wraps another memory passes this on, too.
    fn words_to_write(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.words(at, count)
    }

    /// Stores one aligned 32-bit word, little-endian, as one single-copy-atomic access with
    /// `order`, and marks it dirty.
    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError>;

    /// Replaces the aligned 64-bit word at `at` by `new` if it is `current` (both as little-endian
    /// numbers), in one single-copy-atomic access that acquires and releases, and marks it dirty if it
    /// did. Returns what was there: `current` says that it is `new` now. This is how a walk sets access
    /// flags and dirty state. Memory that cannot be written so says [`MemoryError::ReadOnly`].
    fn compare_exchange(&self, at: Gpa, current: u64, new: u64) -> Result<u64, MemoryError> {
        let word = &self.words_to_write(at, 1)?[0];
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        match word.compare_exchange(current.to_le(), new.to_le(), success, failure) {
            Ok(_) => {
                self.mark_dirty(at, 8);
                Ok(current)
            }
            Err(other) => Ok(u64::from_le(other)),
        }
    }

    /// The run of [`words_to_write`](Self::words_to_write) as little-endian 32-bit words, where the
    /// implementation can show memory so; nothing where it can only be read. Whoever stores there reports it with [`mark_dirty`](Self::mark_dirty).
    fn words32(&self, at: Gpa, count: usize) -> Option<&[AtomicU32]> {
        let _ = (at, count);
        None
    }

    /// The memory as what it is, for those who have to know: `vcmdq::dma::StreamMemory` looks for a
    /// `VmMemory`. A wrapper may show what it wraps if that reports writes to the same dirty log.
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }

    /// Says that the engine has written `len` bytes at `at` through [`words`](Self::words), so
    /// that they enter the dirty log.
    fn mark_dirty(&self, at: Gpa, len: usize);
}

/// One word of guest memory as a number.
#[must_use]
#[inline(always)]
pub fn load_le(word: &AtomicU64, order: Ordering) -> u64 {
    u64::from_le(word.load(order))
}

/// Loads the aligned 64-bit word at `at`.
pub fn load_u64<M: GuestMemory + ?Sized>(
    memory: &M,
    at: Gpa,
    order: Ordering,
) -> Result<u64, MemoryError> {
    Ok(load_le(&memory.words(at, 1)?[0], order))
}

/// Loads the 16-byte unit at `at`, a multiple of 16, as two words: both of the same moment where
/// the host and the memory allow it ([`wide::load`]; memory that is mapped in odd words or not
/// aligned in this process does not). Each word acquires. Asks the memory once.
pub fn load_unit<M: GuestMemory + ?Sized>(memory: &M, at: Gpa) -> Result<[u64; 2], MemoryError> {
    let run = memory.words(at, 2)?;
    if let Some(unit) = run.first_chunk() {
        return Ok(wide::load(unit).map(u64::from_le));
    }
    let word = |n: u64| load_u64(memory, Gpa(at.0.wrapping_add(8 * n)), Ordering::Acquire);
    Ok([word(0)?, word(1)?])
}

/// Stores the aligned 64-bit word at `at` and marks it dirty.
pub fn store_u64<M: GuestMemory + ?Sized>(
    memory: &M,
    at: Gpa,
    value: u64,
    order: Ordering,
) -> Result<(), MemoryError> {
    memory.words_to_write(at, 1)?[0].store(value.to_le(), order);
    memory.mark_dirty(at, 8);
    Ok(())
}
