//! Guest memory that is small and everywhere: tables that point at each other by chance meet something.

use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that there are; behind them the same come again.
pub(crate) const BYTES: u64 = 0x8000;
const PAGE: u64 = 0x1000;
/// This page of them is not backed.
const HOLE: u64 = 0x7000;

/// Memory in which the address counts modulo [`BYTES`], up to the largest address that an SMMU can form.
#[derive(Debug)]
pub(crate) struct Ram {
    words: Box<[AtomicU64]>,
    log: Mutex<Log>,
}

/// What an SMMU has done to a [`Ram`].
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// How often it has asked for words.
    asked: usize,
    /// What it has read, as places in the memory that there is. Of the naive SMMU only.
    read: Vec<usize>,
    /// What it has written, in its order: address, and the word before and after.
    written: Vec<(u64, u64, u64)>,
}

impl Log {
    /// How often memory was asked for words.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// What was written where.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.written.iter().map(|&(at, _, new)| (at, new))
    }

    /// This, and then `more`.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.asked += more.asked;
        self.read.extend(more.read);
        self.written.extend(more.written);
        self
    }

    /// Whether a word was updated that was used for something else, too: then the answer depends on the
    /// order in which an SMMU goes about it, which is nobody's business.
    pub(crate) fn meets_itself(&self) -> bool {
        let again = |place| self.read.iter().filter(|&&read| read == place).count() > 1;
        self.written
            .iter()
            .any(|&(at, ..)| Ram::index(at).is_some_and(again))
    }
}

impl Ram {
    /// Memory that holds `bytes` again and again, in whole words.
    pub(crate) fn filled(bytes: &[u8]) -> Self {
        let count = (BYTES / 8) as usize;
        let mut words: Vec<u64> = bytes
            .chunks(8)
            .map(|part| {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                // As it lies in memory.
                u64::from_ne_bytes(word)
            })
            .collect();
        if words.is_empty() {
            words.push(0);
        }
        // Searches are as fast as this is.
        while words.len() < count {
            words.extend_from_within(..words.len().min(count - words.len()));
        }
        words.truncate(count);
        Self {
            words: words.into_iter().map(AtomicU64::new).collect(),
            log: Mutex::default(),
        }
    }

    fn index(at: u64) -> Option<usize> {
        let backed = at >> 52 == 0 && at % BYTES / PAGE != HOLE / PAGE;
        backed.then_some((at % BYTES / 8) as usize)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the naive SMMU reads.
    pub(crate) fn get(&self, at: u64) -> Option<u64> {
        let index = Self::index(at)?;
        self.log().read.push(index);
        Some(u64::from_le(self.words[index].load(Ordering::Relaxed)))
    }

    /// What the naive SMMU writes.
    pub(crate) fn update(&self, at: u64, value: u64) {
        let index = Self::index(at).expect("it has been read");
        let old = self.words[index].swap(value.to_le(), Ordering::Relaxed);
        self.log().written.push((at, u64::from_le(old), value));
    }

    /// Sets words; those in the hole are lost.
    pub(crate) fn set_all(&self, at: u64, values: &[u64]) {
        for (&value, index) in values.iter().zip(0..) {
            if let Some(index) = Self::index(at + 8 * index) {
                self.words[index].store(value.to_le(), Ordering::Relaxed);
            }
        }
    }

    /// What has been done since the last call.
    pub(crate) fn take_log(&self) -> Log {
        std::mem::take(&mut *self.log())
    }

    /// Everything that was written since `log` began is as it was before, if nothing else was.
    pub(crate) fn undo(&self, log: &Log) {
        for &(at, old, _) in log.written.iter().rev() {
            self.set_all(at, &[old]);
        }
    }
}

impl GuestMemory for Ram {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        if at.0 % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        self.log().asked += 1;
        let first = Self::index(at.0).ok_or(MemoryError::NotBacked(at))?;
        let in_page = ((PAGE - at.0 % PAGE) / 8) as usize;
        Ok(&self.words[first..first + count.clamp(1, in_page)])
    }

    fn compare_exchange(&self, at: Gpa, current: u64, new: u64) -> Result<u64, MemoryError> {
        let word = &self.words(at, 1)?[0];
        let seen = u64::from_le(word.load(Ordering::Relaxed));
        if seen == current {
            word.store(new.to_le(), Ordering::Relaxed);
            self.log().written.push((at.0, current, new));
        }
        Ok(seen)
    }

    fn store_u32(&self, at: Gpa, _value: u32, _order: Ordering) -> Result<(), MemoryError> {
        panic!("translation exchanges descriptors, and stores nothing at {at}");
    }

    fn mark_dirty(&self, at: Gpa, _len: usize) {
        panic!("translation exchanges descriptors, and stores nothing at {at}");
    }
}
