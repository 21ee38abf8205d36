//! Our guest-memory trait over a vm-memory map.
#![expect(
    unsafe_code,
    reason = "vm-memory hands out pointers; here they become atomics that live as long as the map"
)]

use smmu_core::{Gpa, GuestMemory, MemoryError};
use vcmdq_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

/// A vm-memory map as the engine's guest memory.
///
/// The map must stay mapped as long as this value lives, which every backend of vm-memory but
/// Xen's on-demand grants does. A backing file that shrinks underneath is a SIGBUS for the
/// VMM. What the engine writes enters the map's dirty bitmap, if it has one.
#[derive(Clone, Debug)]
pub struct VmMemory<M> {
    map: M,
    /// Where each region lies, looked up once: a worker asks for every window.
    regions: Vec<Region>,
}

/// A region's place in the guest and in this process.
#[derive(Clone, Copy, Debug)]
struct Region {
    start: u64,
    bytes: u64,
    host: *const u8,
    writable: bool,
}

/// What memory is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

// SAFETY: `host` is only ever turned into references to atomics, which any thread may use, and the
// map that keeps it valid is owned by the same value.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn of(region: &impl GuestMemoryRegion, writable: bool) -> Option<Self> {
        let slice = region.as_volatile_slice().ok()?;
        let host = slice.ptr_guard().as_ptr();
        Some(Self {
            start: region.start_addr().0,
            bytes: region.len(),
            host,
            writable,
        })
    }

    /// How far into the region an address lies, and how many bytes follow.
    #[inline]
    fn find(&self, at: Gpa) -> Option<(u64, u64)> {
        let offset = at.0.wrapping_sub(self.start);
        (offset < self.bytes).then(|| (offset, self.bytes - offset))
    }
}

impl<M: GuestMemoryBackend> VmMemory<M> {
    /// Takes a map; clone it first to keep one (maps are cheap to clone). Regions that are not
    /// mapped into this process count as not backed.
    pub fn new(map: M) -> Self {
        Self::with_read_only(map, |_| false)
    }

    /// The same, with regions that are memory to be read only: those for which `is_read_only` says so,
    /// such as `|region| region.prot() & PROT_WRITE == 0`. Every region that is not mapped to be written must
    /// be among them. The engine's own writes there are external aborts, reported as IHI 0070 has it
    /// (EVENTQ_ABT_ERR, MSI_*_ABT_ERR, F_WALK_EABT); those of a device go to its
    /// [`MmioSink`](crate::dma::MmioSink), as KVM hands writes to a read-only slot to the VMM.
    pub fn with_read_only(map: M, is_read_only: impl Fn(&M::R) -> bool) -> Self {
        let region = |region: &M::R| Region::of(region, !is_read_only(region));
        let regions = map.iter().filter_map(region).collect();
        Self { map, regions }
    }

    /// Whether there is memory that can be written, all of `bytes` from `at` on.
    pub(crate) fn is_writable(&self, at: Gpa, bytes: usize) -> bool {
        let (mut at, mut left) = (at.0, bytes as u64);
        while left != 0 {
            let here = |region: &Region| region.find(Gpa(at)).filter(|_| region.writable);
            let Some((_, room)) = self.regions.iter().find_map(here) else {
                return false;
            };
            left -= room.min(left);
            at = at.saturating_add(room);
        }
        true
    }

    /// The map.
    pub fn map(&self) -> &M {
        &self.map
    }

    /// `at` in this process, and how many bytes from there on lie in one piece.
    #[inline]
    fn host(&self, at: Gpa, align: u64, to: Access) -> Result<(*const u8, u64), MemoryError> {
        let found = self.regions.iter().find_map(|region| {
            let (offset, left) = region.find(at)?;
            // In bounds of the mapping: `offset` is less than its length.
            Some((
                region.host.wrapping_add(usize::try_from(offset).ok()?),
                left,
                region.writable,
            ))
        });
        let (host, left, writable) = found.ok_or(MemoryError::NotBacked(at))?;
        if host as u64 % align != 0 || at.0 % align != 0 {
            return Err(MemoryError::Misaligned(at, align));
        }
        if left < align {
            return Err(MemoryError::NotBacked(at));
        }
        if to == Access::Write && !writable {
            return Err(MemoryError::ReadOnly(at));
        }
        Ok((host, left))
    }

    /// The words of one piece from `at` on.
    #[inline]
    fn run(&self, at: Gpa, count: usize, to: Access) -> Result<&[AtomicU64], MemoryError> {
        let (host, left) = self.host(at, 8, to)?;
        let count = count.min(usize::try_from(left / 8).unwrap_or(usize::MAX));
        // SAFETY: `host` has checked that the words from there on, `left` bytes of them, lie in one
        // mapping, which lives as long as `self` (see the type's contract), and that the first is
        // aligned; every bit pattern is an AtomicU64; all accesses of the engine are atomic; and
        // whoever stores has asked for memory that is mapped to be written.
        Ok(unsafe { std::slice::from_raw_parts(host.cast::<AtomicU64>(), count) })
    }
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> GuestMemory for VmMemory<M> {
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    #[inline]
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.run(at, count, Access::Read)
    }

    #[inline]
    fn words_to_write(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.run(at, count, Access::Write)
    }

    #[inline]
    fn words32(&self, at: Gpa, count: usize) -> Option<&[AtomicU32]> {
        let (host, left) = self.host(at, 4, Access::Write).ok()?;
        let count = count.min(usize::try_from(left / 4).unwrap_or(usize::MAX));
        // SAFETY: as in `run`, in halves.
        Some(unsafe { std::slice::from_raw_parts(host.cast::<AtomicU32>(), count) })
    }

    #[inline]
    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        let (host, _) = self.host(at, 4, Access::Write)?;
        // SAFETY: as in `run`, one half of one.
        let word = unsafe { &*host.cast::<AtomicU32>() };
        word.store(value.to_le(), order);
        self.mark_dirty(at, 4);
        Ok(())
    }

    #[inline]
    fn mark_dirty(&self, at: Gpa, len: usize) {
        // A map without a log has a bitmap of no size: then there is nothing to look up.
        if size_of::<<M::R as GuestMemoryRegion>::B>() == 0 {
            return;
        }
        if let Some((region, MemoryRegionAddress(offset))) =
            self.map.to_region_addr(GuestAddress(at.0))
        {
            region
                .bitmap()
                .mark_dirty(usize::try_from(offset).unwrap_or(usize::MAX), len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::bitmap::AtomicBitmap;
    use vm_memory::{Bytes, GuestMemoryMmap};

    fn map() -> VmMemory<GuestMemoryMmap<AtomicBitmap>> {
        let ranges = [
            (GuestAddress(0x1000), 0x2000),
            (GuestAddress(0x8000), 0x1000),
        ];
        VmMemory::new(GuestMemoryMmap::from_ranges(&ranges).expect("anonymous memory"))
    }

    #[test]
    fn words_end_where_the_region_ends() {
        let memory = map();
        assert_eq!(memory.words(Gpa(0x2FF0), 8).map(<[_]>::len), Ok(2));
        assert_eq!(memory.words(Gpa(0x8000), 8).map(<[_]>::len), Ok(8));
        let nothing = |at| memory.words(Gpa(at), 1).err();
        assert_eq!(nothing(0), Some(MemoryError::NotBacked(Gpa(0))));
        assert_eq!(nothing(0x3000), Some(MemoryError::NotBacked(Gpa(0x3000))));
        assert_eq!(
            nothing(0x1004),
            Some(MemoryError::Misaligned(Gpa(0x1004), 8))
        );
        assert_eq!(
            nothing(u64::MAX - 7),
            Some(MemoryError::NotBacked(Gpa(u64::MAX - 7)))
        );
    }

    #[test]
    fn what_the_engine_writes_is_there_and_in_the_dirty_log() {
        let memory = map();
        memory
            .store_u32(Gpa(0x8004), 0x1234_5678, Ordering::Release)
            .expect("backed");
        let seen: u32 = memory.map().read_obj(GuestAddress(0x8004)).expect("backed");
        assert_eq!(seen, 0x1234_5678);
        assert_eq!(
            memory.words(Gpa(0x8000), 1).expect("backed")[0].load(Ordering::Relaxed) >> 32,
            0x1234_5678
        );
        let (region, _) = memory
            .map()
            .to_region_addr(GuestAddress(0x8000))
            .expect("backed");
        assert!(region.bitmap().dirty_at(4));
        let (other, _) = memory
            .map()
            .to_region_addr(GuestAddress(0x1000))
            .expect("backed");
        assert!(!other.bitmap().dirty_at(4), "and nothing else is");
        assert!(memory.store_u32(Gpa(0x3000), 0, Ordering::Relaxed).is_err());
    }

    #[test]
    fn memory_that_is_read_only_is_never_shown_to_who_writes() {
        let map = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[
            (GuestAddress(0x1000), 0x1000),
            (GuestAddress(0x2000), 0x1000),
        ])
        .expect("anonymous memory");
        let upper = |region: &<GuestMemoryMmap<AtomicBitmap> as GuestMemoryBackend>::R| {
            region.start_addr().0 == 0x2000
        };
        let memory = VmMemory::with_read_only(map, upper);
        let refused = |at| Some(MemoryError::ReadOnly(Gpa(at)));
        assert!(memory.words(Gpa(0x2FF8), 1).is_ok(), "it can be read");
        assert_eq!(memory.words_to_write(Gpa(0x1FF8), 8).map(<[_]>::len), Ok(1));
        assert_eq!(memory.words_to_write(Gpa(0x2000), 8).err(), refused(0x2000));
        assert!(memory.words32(Gpa(0x2000), 8).is_none());
        let stored = memory.store_u32(Gpa(0x2004), 1, Ordering::Relaxed);
        assert_eq!(stored.err(), refused(0x2004));
        assert_eq!(
            memory.compare_exchange(Gpa(0x2008), 0, 1).err(),
            refused(0x2008)
        );
        assert!(memory.is_writable(Gpa(0x1FFF), 1) && !memory.is_writable(Gpa(0x2000), 1));
        assert!(
            memory.is_writable(Gpa(0x1000), 0x1000) && !memory.is_writable(Gpa(0x1001), 0x1000)
        );
        assert_eq!(memory.compare_exchange(Gpa(0x1008), 0, 1), Ok(0));
    }
}
