//! Read-modify-write accesses of a device (PCIe AtomicOps, AMBA atomic transactions).
//!
//! They need the right to write. Both sizes are little-endian and must be naturally aligned. What is
//! no RAM does not take them: an external abort.

use super::device::Device;
use super::error::DmaError;
use super::piece::{self, Target};
use smmu_core::access::Operation;
use smmu_core::{Gpa, GuestMemory};
use vcmdq_sync::atomic::Ordering;

impl Device {
    /// Compares 32 bits with `current` and, if they are equal, replaces them with `new`. Returns what
    /// was there.
    pub fn compare_exchange_u32(
        &mut self,
        iova: u64,
        current: u32,
        new: u32,
    ) -> Result<u32, DmaError> {
        let change = |old: u64| (old as u32 == current).then_some(u64::from(new));
        self.modify(iova, 4, change).map(|old| old as u32)
    }

    /// [`compare_exchange_u32`](Self::compare_exchange_u32) with 64 bits.
    pub fn compare_exchange_u64(
        &mut self,
        iova: u64,
        current: u64,
        new: u64,
    ) -> Result<u64, DmaError> {
        self.modify(iova, 8, |old| (old == current).then_some(new))
    }

    /// Adds to 32 bits, wrapping. Returns what was there.
    pub fn fetch_add_u32(&mut self, iova: u64, add: u32) -> Result<u32, DmaError> {
        let change = |old: u64| Some(u64::from((old as u32).wrapping_add(add)));
        self.modify(iova, 4, change).map(|old| old as u32)
    }

    /// Adds to 64 bits, wrapping. Returns what was there.
    pub fn fetch_add_u64(&mut self, iova: u64, add: u64) -> Result<u64, DmaError> {
        self.modify(iova, 8, |old| Some(old.wrapping_add(add)))
    }

    /// Replaces 32 bits. Returns what was there.
    pub fn swap_u32(&mut self, iova: u64, new: u32) -> Result<u32, DmaError> {
        self.modify(iova, 4, |_| Some(u64::from(new)))
            .map(|old| old as u32)
    }

    /// Replaces 64 bits. Returns what was there.
    pub fn swap_u64(&mut self, iova: u64, new: u64) -> Result<u64, DmaError> {
        self.modify(iova, 8, |_| Some(new))
    }

    fn modify(
        &mut self,
        iova: u64,
        size: usize,
        change: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, DmaError> {
        if iova % size as u64 != 0 {
            return Err(DmaError::Misaligned(iova, size));
        }
        let access = self.who.access(iova, Operation::Write);
        let mut old = 0;
        let (_, result) = piece::piece(
            &mut self.port,
            &self.who,
            &self.seams,
            access,
            size,
            |target, bytes| match target {
                Target::Void => (bytes, Ok(())),
                Target::Memory(memory, at) => match update(memory, at, size, change) {
                    Some(was) => {
                        old = was;
                        (bytes, Ok(()))
                    }
                    None => (0, Err(DmaError::NotBacked(at))),
                },
            },
        );
        result.map(|()| old)
    }
}

/// Changes the field of `size` bytes at `at`. `None` if there is no memory that can be written. AcqRel, as an atomic of
/// the guest's would be.
fn update(
    memory: &dyn GuestMemory,
    at: Gpa,
    size: usize,
    change: impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    let word = memory.words_to_write(Gpa(at.0 & !7), 1).ok()?.first()?;
    let shift = (at.0 & 7) * 8;
    let mask = u64::MAX >> (64 - 8 * size);
    let field = |raw: u64| u64::from_le(raw) >> shift & mask;
    let replace = |raw: u64| {
        let new = change(field(raw))? & mask;
        let kept = u64::from_le(raw) & !(mask << shift);
        Some((kept | new << shift).to_le())
    };
    match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, replace) {
        Ok(raw) => {
            memory.mark_dirty(at, size);
            Some(field(raw))
        }
        Err(raw) => Some(field(raw)),
    }
}
