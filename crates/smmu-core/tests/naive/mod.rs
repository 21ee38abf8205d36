//! Test doubles for the translation core: memory, and a second SMMU that is written to be
//! obvious. The model shares no code with the crate but the event's fields, reads bits by
//! number, and caches nothing.

mod configuration;
pub(crate) mod model;
mod second;
mod tables;
pub(crate) mod world;

use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory from address zero on, in pieces: two words that lie in different pieces are not
/// to be had in one run.
#[derive(Debug)]
pub(crate) struct Ram {
    words: Vec<AtomicU64>,
    piece: usize,
}

impl Ram {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            piece: usize::MAX,
        }
    }

    /// The same memory, mapped in pieces of so many words.
    pub(crate) fn in_pieces(mut self, words: usize) -> Self {
        self.piece = words;
        self
    }

    pub(crate) fn get(&self, at: u64) -> Option<u64> {
        let word = self.words.get(usize::try_from(at / 8).ok()?)?;
        Some(u64::from_le(word.load(Ordering::Relaxed)))
    }

    pub(crate) fn set(&self, at: u64, value: u64) {
        self.words[(at / 8) as usize].store(value.to_le(), Ordering::Relaxed);
    }

    pub(crate) fn set_all(&self, at: u64, values: &[u64]) {
        for (index, &value) in values.iter().enumerate() {
            self.set(at + 8 * index as u64, value);
        }
    }
}

impl GuestMemory for Ram {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        if at.0 % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        let first = usize::try_from(at.0 / 8).map_err(|_| MemoryError::NotBacked(at))?;
        if first >= self.words.len() {
            return Err(MemoryError::NotBacked(at));
        }
        let to_piece_end = self.piece - first % self.piece;
        let count = count.min(to_piece_end).min(self.words.len() - first);
        Ok(&self.words[first..first + count])
    }

    fn store_u32(&self, at: Gpa, _value: u32, _order: Ordering) -> Result<(), MemoryError> {
        panic!("translation writes nothing, not at {at}");
    }

    fn mark_dirty(&self, at: Gpa, _len: usize) {
        panic!("translation writes nothing, not at {at}");
    }
}
