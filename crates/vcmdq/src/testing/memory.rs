//! Guest memory on the heap, with a dirty log; and a view of memory with a hole in it.

use smmu_core::guest_memory::{GuestMemory, MemoryError};
use smmu_core::ids::Gpa;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// Guest-physical memory made of atomic words. All of it reads zero at first.
///
/// Regions may lie side by side (then a run of words ends between them, as at the border of
/// two host mappings) or apart (what lies between is not backed).
#[derive(Debug)]
pub struct HeapMemory {
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    base: u64,
    /// Those of the region, and one more: before or behind them.
    storage: Box<[AtomicU64]>,
    /// The first of the region, which is aligned to 16 bytes as in a real map.
    first: usize,
    /// One bit for each page.
    dirty: Box<[AtomicU64]>,
}

impl Region {
    fn new(base: Gpa, bytes: u64) -> Self {
        let zeroed = |count: u64| (0..count).map(|_| AtomicU64::new(0));
        let storage: Box<[AtomicU64]> = zeroed(bytes.div_ceil(8) + 1).collect();
        Self {
            base: base.0,
            first: storage.as_ptr().addr() % 16 / 8,
            storage,
            dirty: zeroed(bytes.div_ceil(PAGE * 64)).collect(),
        }
    }

    fn words(&self) -> &[AtomicU64] {
        &self.storage[self.first..][..self.storage.len() - 1]
    }

    /// The index of the word that holds `at`, if it lies here.
    fn word(&self, at: u64) -> Option<usize> {
        let offset = usize::try_from(at.checked_sub(self.base)? / 8).ok()?;
        (offset < self.words().len()).then_some(offset)
    }
}

impl HeapMemory {
    /// One region of at least `bytes`, from address 0 on.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::with_regions(&[(Gpa(0), bytes)])
    }

    /// Several regions, each a first address (a multiple of 4 KiB) and a length in bytes. They
    /// must not overlap.
    #[must_use]
    pub fn with_regions(regions: &[(Gpa, u64)]) -> Self {
        Self {
            regions: regions
                .iter()
                .map(|&(at, bytes)| Region::new(at, bytes))
                .collect(),
        }
    }

    /// The first addresses of all pages that were reported as written since the last call, in
    /// the order of the regions.
    #[must_use]
    pub fn take_dirty(&self) -> Vec<Gpa> {
        let mut pages = Vec::new();
        for region in &self.regions {
            for (at, word) in region.dirty.iter().enumerate() {
                let bits = word.swap(0, Ordering::Relaxed);
                let set = (0..64u64).filter(|bit| bits >> bit & 1 != 0);
                pages.extend(set.map(|bit| Gpa(region.base + (at as u64 * 64 + bit) * PAGE)));
            }
        }
        pages
    }

    fn find(&self, at: Gpa) -> Result<(&Region, usize), MemoryError> {
        self.regions
            .iter()
            .find_map(|region| Some((region, region.word(at.0)?)))
            .ok_or(MemoryError::NotBacked(at))
    }
}

impl GuestMemory for HeapMemory {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        if at.0 % 8 != 0 {
            return Err(MemoryError::Misaligned(at, 8));
        }
        let (region, first) = self.find(at)?;
        let rest = &region.words()[first..];
        Ok(&rest[..count.clamp(1, rest.len())])
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        if at.0 % 4 != 0 {
            return Err(MemoryError::Misaligned(at, 4));
        }
        let (region, word) = self.find(at)?;
        let shift = (at.0 % 8) * 8;
        let replace = |old: u64| {
            let kept = u64::from_le(old) & !(0xFFFF_FFFF << shift);
            Some((kept | u64::from(value) << shift).to_le())
        };
        // The other half is somebody else's: a read-modify-write leaves it as it is.
        let _kept = region.words()[word].fetch_update(order, Ordering::Relaxed, replace);
        self.mark_dirty(at, 4);
        Ok(())
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        let Some(more) = (len as u64).checked_sub(1) else {
            return;
        };
        for page in at.0 / PAGE..=at.0.saturating_add(more) / PAGE {
            let Some(region) = self.regions.iter().find(|r| r.word(page * PAGE).is_some()) else {
                continue;
            };
            let index = page - region.base / PAGE;
            // Relaxed: whoever takes the log has stopped the writers first.
            region.dirty[(index / 64) as usize].fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }
}

/// Memory as somebody sees it for whom a part of it is sometimes not backed: an SMMU that
/// fetches there sees an external abort, while the guest still writes what lies behind.
#[derive(Debug)]
pub struct Holed<M> {
    behind: Arc<M>,
    first: AtomicU64,
    /// 0 is "no hole".
    bytes: AtomicU64,
}

impl<M: GuestMemory> Holed<M> {
    /// A view without a hole.
    #[must_use]
    pub fn new(behind: Arc<M>) -> Self {
        Self {
            behind,
            first: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// From now on the `bytes` from `at` on are not backed, until the next call; 0 closes the
    /// hole. Not to be called while another thread calls it.
    pub fn set_hole(&self, at: Gpa, bytes: u64) {
        self.bytes.store(0, Ordering::SeqCst);
        self.first.store(at.0, Ordering::SeqCst);
        self.bytes.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes from `at` on are whole; an error inside the hole.
    fn whole(&self, at: Gpa) -> Result<u64, MemoryError> {
        let bytes = self.bytes.load(Ordering::SeqCst);
        let first = self.first.load(Ordering::SeqCst);
        if at.0.wrapping_sub(first) < bytes {
            return Err(MemoryError::NotBacked(at));
        }
        Ok(match bytes {
            0 => u64::MAX,
            _ => first.wrapping_sub(at.0),
        })
    }
}

impl<M: GuestMemory> GuestMemory for Holed<M> {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let whole = usize::try_from(self.whole(at)? / 8).unwrap_or(usize::MAX);
        self.behind.words(at, count.min(whole.max(1)))
    }

    fn words_to_write(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        let whole = usize::try_from(self.whole(at)? / 8).unwrap_or(usize::MAX);
        self.behind.words_to_write(at, count.min(whole.max(1)))
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.whole(at)?;
        self.behind.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.behind.mark_dirty(at, len);
    }
}
