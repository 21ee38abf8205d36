//! Test doubles for the translation core: memory, and a second SMMU that is written to be
//! obvious. The model shares no code with the crate but the event's fields, reads bits by
//! number, and caches nothing.

pub(crate) mod asked;
pub(crate) mod attributes;
mod configuration;
pub(crate) mod dice;
mod known;
pub(crate) mod model;
mod second;
mod tables;
mod uncached;
pub(crate) mod world;

use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory from address zero on, in pieces: two words that lie in different pieces are not
/// to be had in one run.
#[derive(Debug)]
pub(crate) struct Ram {
    words: Vec<AtomicU64>,
    piece: usize,
    /// Words that the SMMU has written, and what.
    written: Mutex<Vec<(u64, u64)>>,
}

impl Ram {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            piece: usize::MAX,
            written: Mutex::default(),
        }
    }

    /// What the naive SMMU writes.
    pub(crate) fn update(&self, at: u64, value: u64) {
        self.set(at, value);
        self.written.lock().unwrap().push((at, value));
    }

    /// What an SMMU has written since the last call, in its order.
    pub(crate) fn take_written(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.written.lock().unwrap())
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
        panic!("translation writes descriptors, no half at {at}");
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        assert_eq!(len, 8, "translation writes descriptors");
        let value = self.get(at.0).expect("in memory");
        self.written.lock().unwrap().push((at.0, value));
    }
}
