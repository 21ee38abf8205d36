//! Guest memory from address zero on, in which something can happen in the middle of a walk.

use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type Happening = Box<dyn FnOnce() + Send>;

/// The memory of the guest.
pub(crate) struct Memory {
    words: Vec<AtomicU64>,
    /// Reads until something happens; zero is never.
    reads_left: AtomicUsize,
    happening: Mutex<Option<Happening>>,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            reads_left: AtomicUsize::new(0),
            happening: Mutex::new(None),
        }
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

    /// Lets `happening` happen just before the core's `reads`th look at memory: what another
    /// thread could do at that moment, at a moment that can be repeated. It enters the engine from
    /// within a look at memory, which real memory never does, but touches no port.
    pub(crate) fn interrupt(&self, reads: usize, happening: Happening) {
        *self.happening.lock().unwrap() = Some(happening);
        self.reads_left.store(reads, Ordering::Relaxed);
    }

    /// Whether what was to happen has happened. If not, it will not.
    pub(crate) fn has_happened(&self) -> bool {
        self.reads_left.store(0, Ordering::Relaxed);
        self.happening.lock().unwrap().take().is_none()
    }

    fn look(&self) {
        let left = self.reads_left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.reads_left.store(left - 1, Ordering::Relaxed);
        if left == 1 {
            let happening = self.happening.lock().unwrap().take();
            happening.expect("it happens once")();
        }
    }
}

impl GuestMemory for Memory {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.look();
        if at.0 % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        let first = usize::try_from(at.0 / 8).map_err(|_| MemoryError::NotBacked(at))?;
        if first >= self.words.len() {
            return Err(MemoryError::NotBacked(at));
        }
        let count = count.min(self.words.len() - first);
        Ok(&self.words[first..first + count])
    }

    fn store_u32(&self, at: Gpa, _value: u32, _order: Ordering) -> Result<(), MemoryError> {
        panic!("translation writes nothing, not at {at}");
    }

    fn mark_dirty(&self, at: Gpa, _len: usize) {
        panic!("translation writes nothing, not at {at}");
    }
}

/// Words that somebody has read, each with its address.
pub(crate) type Reading = Vec<(u64, u64)>;

/// The memory as the naive walker sees it: as it is, but for some words of the past.
pub(crate) struct View<'a> {
    memory: &'a Memory,
    past: &'a [(u64, u64)],
    /// What lies below is configuration, and is noted.
    noted_below: u64,
    noted: RefCell<Reading>,
    /// Addresses of tables that have been read.
    tables: RefCell<Vec<u64>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(memory: &'a Memory, past: &'a [(u64, u64)], noted_below: u64) -> Self {
        Self {
            memory,
            past,
            noted_below,
            noted: RefCell::default(),
            tables: RefCell::default(),
        }
    }

    pub(crate) fn get(&self, at: u64) -> Option<u64> {
        if at >= self.noted_below {
            self.tables.borrow_mut().push(at);
            return self.memory.get(at);
        }
        if let Some(&(_, value)) = self.past.iter().find(|&&(then, _)| then == at) {
            return Some(value);
        }
        let value = self.memory.get(at)?;
        self.noted.borrow_mut().push((at, value));
        Some(value)
    }

    /// The naive walker updates a descriptor.
    pub(crate) fn update(&self, at: u64, value: u64) {
        panic!("no context here has {at:#x} updated to {value:#x}");
    }

    /// What has been read of the present configuration.
    pub(crate) fn noted(self) -> Reading {
        self.noted.into_inner()
    }

    /// How often a word of a table has been read.
    pub(crate) fn count(&self, at: u64) -> usize {
        self.tables
            .borrow()
            .iter()
            .filter(|&&read| read == at)
            .count()
    }
}
