//! A translation cache as a hash table behind a mutex.
//!
//! A lookup tries one level after the other. An invalidation of a page whose level is known takes
//! that one entry out; if it is not there, or if it is of an ASID, every entry is looked at,
//! because a larger one may hold the page. What does not fit any more makes room for itself by
//! removing everything.

use smmu_core::Asid;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

/// Multiplies, as hash tables of trusted keys do: the baseline is not to lose by its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    page: u64,
    asid: u16,
    level: u8,
}

impl Key {
    /// Of the page or block of 4 KiB tables that an address lies in.
    #[inline]
    fn of(asid: Asid, va: u64, level: u8) -> Self {
        Self {
            page: va >> shift(level),
            asid: asid.0,
            level,
        }
    }

    fn holds(&self, asid: Asid, va: u64) -> bool {
        self.asid == asid.0 && self.page == va >> shift(self.level)
    }
}

#[inline]
fn shift(level: u8) -> u32 {
    12 + 9 * (3 - u32::from(level))
}

type Entries = HashMap<Key, [u64; 2], BuildHasherDefault<Mix>>;

/// See the [module](self).
#[derive(Debug)]
pub struct HashTlb {
    capacity: usize,
    entries: Mutex<Entries>,
}

impl HashTlb {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let entries = Entries::with_capacity_and_hasher(capacity, BuildHasherDefault::default());
        Self {
            capacity,
            entries: Mutex::new(entries),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Entries) -> R) -> R {
        f(&mut self.entries.lock().expect("nobody has died"))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|entries| entries.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is cached for an address, of whatever level.
    #[inline]
    #[must_use]
    pub fn lookup(&self, asid: Asid, va: u64) -> Option<[u64; 2]> {
        self.with(|entries| {
            (1..=3).find_map(|level| entries.get(&Key::of(asid, va, level)).copied())
        })
    }

    /// Caches a page of level 3.
    pub fn fill(&self, asid: Asid, va: u64, payload: [u64; 2]) {
        self.with(|entries| {
            if entries.len() >= self.capacity {
                entries.clear();
            }
            entries.insert(Key::of(asid, va, 3), payload);
        });
    }

    /// A TLBI by address with a hint of level 3.
    pub fn invalidate_page(&self, asid: Asid, va: u64) {
        self.with(|entries| {
            if entries.remove(&Key::of(asid, va, 3)).is_none() {
                entries.retain(|key, _| !key.holds(asid, va));
            }
        });
    }

    /// A TLBI of several pages: one look at each entry.
    pub fn invalidate_range(&self, asid: Asid, va: u64, pages: u64) {
        let end = va + (pages << 12);
        let within = |key: &Key| {
            let first = key.page << shift(key.level);
            key.asid == asid.0 && first < end && first + (1 << shift(key.level)) > va
        };
        self.with(|entries| entries.retain(|key, _| !within(key)));
    }

    /// A TLBI of an ASID.
    pub fn invalidate_asid(&self, asid: Asid) {
        self.with(|entries| entries.retain(|key, _| key.asid != asid.0));
    }
}
