//! Guest memory from address zero on, in which something can happen in the middle of a walk.

use crate::naive::known::{Table, Way, canonical};
use crate::naive::model::Wrong;
use crate::naive::second::Page;
use smmu_core::Gpa;
use smmu_core::guest_memory::{GuestMemory, MemoryError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type Happening = Box<dyn FnOnce() + Send>;

/// The memory of the guest.
pub(crate) struct Memory {
    words: Vec<AtomicU64>,
    /// Reads until something happens; zero is never.
    reads_left: AtomicUsize,
    happening: Mutex<Option<Happening>>,
    /// Descriptors may be updated; those that have been.
    updates: Mutex<Option<Vec<u64>>>,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            reads_left: AtomicUsize::new(0),
            happening: Mutex::new(None),
            updates: Mutex::new(None),
        }
    }

    /// From now on descriptors may be updated.
    pub(crate) fn expect_updates(&self) {
        *self.updates.lock().unwrap() = Some(Vec::new());
    }

    /// The descriptors that have been updated since the last call, as they are now.
    pub(crate) fn take_updated(&self) -> BTreeMap<u64, u64> {
        let mut updates = self.updates.lock().unwrap();
        let written = updates.iter_mut().flat_map(std::mem::take);
        written
            .map(|at| (at, self.get(at).expect("in memory")))
            .collect()
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

    fn mark_dirty(&self, at: Gpa, len: usize) {
        assert_eq!(len, 8, "translation writes descriptors");
        let mut updates = self.updates.lock().unwrap();
        let expected = updates.as_mut();
        expected.expect("no context has any updated").push(at.0);
    }
}

/// Words that somebody has read, each with its address.
pub(crate) type Reading = Vec<(u64, u64)>;

/// A page of stage 2 that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) vmid: u64,
    /// First intermediate address.
    pub(crate) ipa: u64,
    pub(crate) page: Page,
}

/// What of the tables may be kept: pages of stage 2, and tables of both stages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) pages: Vec<Kept>,
    pub(crate) tables: Vec<Table>,
}

impl Past {
    /// Adds what is not there yet.
    pub(crate) fn add(&mut self, other: &Self) {
        for page in &other.pages {
            if !self.pages.contains(page) {
                self.pages.push(*page);
            }
        }
        for table in &other.tables {
            if !self.tables.contains(table) {
                self.tables.push(*table);
            }
        }
    }
}

/// Which of several possibilities is taken, one decision after the other; all of them, in turn.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    /// What was chosen, of how many.
    made: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    fn choose(&mut self, among: usize) -> usize {
        if self.next == self.made.len() {
            self.made.push((0, among));
        }
        self.next += 1;
        self.made[self.next - 1].0
    }

    /// The first possibility each time.
    pub(crate) fn is_first(&self) -> bool {
        self.made.iter().all(|&(chosen, _)| chosen == 0)
    }

    /// The same decisions once more.
    pub(crate) fn again(&mut self) {
        self.next = 0;
    }

    /// The next decisions; false when there have been all.
    pub(crate) fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((chosen, among)) = self.made.pop() {
            if chosen + 1 < among {
                self.made.push((chosen + 1, among));
                return true;
            }
        }
        false
    }
}

/// The memory as the naive walker sees it: as it is, but for some words of the past.
pub(crate) struct View<'a> {
    memory: &'a Memory,
    past: &'a [(u64, u64)],
    /// Which words are configuration, and noted.
    configuration: &'a Configuration,
    noted: RefCell<Reading>,
    /// Addresses of tables that have been read.
    tables: RefCell<Vec<u64>>,
    /// What may be used instead of the tables.
    kept: Option<&'a Past>,
    choices: RefCell<Choices>,
    /// A walk of stage 1 has started from a table of the past.
    has_skipped: Cell<bool>,
    /// What the tables have.
    found: RefCell<Past>,
    /// What the walker has written.
    updates: RefCell<Reading>,
}

/// Where configuration lies: below an end, and some words above, by which stage 2 finds it.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) end: u64,
    pub(crate) words: Vec<u64>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        memory: &'a Memory,
        past: &'a [(u64, u64)],
        configuration: &'a Configuration,
    ) -> Self {
        Self {
            memory,
            past,
            configuration,
            noted: RefCell::default(),
            tables: RefCell::default(),
            kept: None,
            choices: RefCell::default(),
            has_skipped: Cell::default(),
            found: RefCell::default(),
            updates: RefCell::default(),
        }
    }

    /// The same with what may be used of the past, by these choices.
    pub(crate) fn with_kept(mut self, kept: &'a Past, choices: Choices) -> Self {
        self.kept = Some(kept);
        self.choices = RefCell::new(choices);
        self
    }

    pub(crate) fn get(&self, at: u64) -> Option<u64> {
        let updates = self.updates.borrow();
        if let Some(&(_, value)) = updates.iter().rev().find(|&&(there, _)| there == at) {
            return Some(value);
        }
        let Configuration { end, words } = self.configuration;
        if at >= *end && words.binary_search(&at).is_err() {
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

    /// The naive walker updates a descriptor: not in memory, which the core does.
    pub(crate) fn update(&self, at: u64, value: u64) {
        self.updates.borrow_mut().push((at, value));
    }

    /// What it has updated, in its order.
    pub(crate) fn updated(&self) -> Reading {
        self.updates.borrow().clone()
    }

    /// What is used of an intermediate address instead of what its tables have; and behind that, what
    /// is found through each table that may be kept.
    pub(crate) fn instead(
        &self,
        vmid: u64,
        ipa: u64,
        found: &[Result<Page, Wrong>],
    ) -> Option<Result<Page, Wrong>> {
        let pages = found.iter().flatten().map(|&page| Kept {
            vmid,
            ipa: ipa / page.bytes * page.bytes,
            page,
        });
        let pages = pages.collect();
        let tables = Vec::new();
        self.found.borrow_mut().add(&Past { pages, tables });
        let fits = |kept: &&Kept| kept.vmid == vmid && ipa.wrapping_sub(kept.ipa) < kept.page.bytes;
        let kept = self.kept.iter().flat_map(|past| &past.pages).filter(fits);
        let kept = kept.map(|kept| Ok(kept.page));
        let mut all = vec![found[0].clone()];
        for one in found.iter().cloned().chain(kept) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        let chosen = self.choices.borrow_mut().choose(all.len());
        (chosen > 0).then(|| all[chosen].clone())
    }

    /// The tables for an address that may be kept.
    pub(crate) fn known_tables(&self, way: Way) -> Vec<Table> {
        let mine = |table: &&Table| {
            let within = canonical(way.address).wrapping_sub(table.first) < table.bytes;
            (table.tag, table.granule) == (way.tag, way.granule) && within
        };
        let all = self.kept.iter().flat_map(|past| &past.tables);
        all.filter(mine).copied().collect()
    }

    /// The one that a walk starts from, if it does.
    pub(crate) fn known_table(&self, way: Way) -> Option<Table> {
        let all = self.known_tables(way);
        let chosen = self.choices.borrow_mut().choose(1 + all.len());
        self.has_skipped.set(self.has_skipped.get() || chosen > 0);
        chosen.checked_sub(1).map(|chosen| all[chosen])
    }

    /// Whether one has.
    pub(crate) fn has_skipped(&self) -> bool {
        self.has_skipped.get()
    }

    pub(crate) fn found_table(&self, table: Table) {
        let (pages, tables) = (Vec::new(), vec![table]);
        self.found.borrow_mut().add(&Past { pages, tables });
    }

    /// What has been read of the present configuration.
    pub(crate) fn noted(self) -> Reading {
        self.noted.into_inner()
    }

    /// The choices that were made, and what the tables had.
    pub(crate) fn made(self) -> (Choices, Past) {
        (self.choices.into_inner(), self.found.into_inner())
    }

    /// The words of tables that have been read.
    pub(crate) fn on_the_way(self) -> Vec<u64> {
        self.tables.into_inner()
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
