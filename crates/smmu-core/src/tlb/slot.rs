//! A slot: what an entry consists of, how it is filled and how it is read.
//!
//! Its rules are at the head of `table.rs`.

use super::tag::{State, Tag};
use crate::ids::Vmid;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, fence_at, full_fence};

/// The part of an entry that is read only when the tag matches. Never in two cache lines.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct Slot {
    version: AtomicU64,
    stamp: AtomicU64,
    payload: [AtomicU64; 2],
}

/// Who is at work in a slot, and for whom it was filled last.
///
/// ```text
/// 63..18                              17    16      15..0
/// fills of the set, as of this one    busy  nested  VMID
/// ```
///
/// The count grows with every fill of the slot, so a lookup notices any; and the slot of the set
/// that has the smallest is the one that was filled longest ago. It goes round after 2^46 fills of one
/// set, months of nothing else. It is the topmost: of two versions, the larger one is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u64);

/// Whose an entry is: a VMID, and whether a stage 2 was on the way. What one has filled, no lookup
/// of another finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u32);

impl Owner {
    const NESTED: u32 = 1 << 16;

    #[inline(always)]
    pub(super) fn of(vmid: Vmid) -> Self {
        Self(u32::from(vmid.0))
    }

    /// The same VMID's, under stage 2.
    #[inline(always)]
    pub(super) fn nested(self) -> Self {
        Self(self.0 | Self::NESTED)
    }

    #[inline(always)]
    pub(super) fn vmid(self) -> Vmid {
        Vmid(self.0 as u16)
    }
}

impl Version {
    const OWNER: u64 = 0x1_FFFF;
    const BUSY: u64 = 1 << 17;
    const COUNT_AT: u32 = 18;

    #[inline]
    fn is_busy(self) -> bool {
        self.0 & Self::BUSY != 0
    }

    #[inline]
    pub(super) fn vmid(self) -> Vmid {
        Vmid(self.0 as u16)
    }

    /// At rest, and filled for this owner.
    #[inline(always)]
    fn is_of(self, owner: Owner) -> bool {
        self.0 & (Self::BUSY | Self::OWNER) == u64::from(owner.0)
    }

    pub(super) fn count(self) -> u64 {
        self.0 >> Self::COUNT_AT
    }

    fn at_rest(count: u64, owner: Owner) -> u64 {
        count << Self::COUNT_AT | u64::from(owner.0)
    }
}

/// What a lookup reads of a matching slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) stamp: u64,
    pub(super) payload: [u64; 2],
}

/// What makes an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub(super) owner: Owner,
    pub(super) tag: Tag,
    pub(super) leaf: Leaf,
}

impl Slot {
    pub(super) fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            version: zero(),
            stamp: zero(),
            payload: [zero(), zero()],
        }
    }

    /// Where a fill may be under way, or have been; for the choice of a victim.
    #[inline]
    pub(super) fn version_now(&self) -> Version {
        Version(self.version.load(Ordering::Relaxed))
    }

    /// As [`version_now`](Self::version_now): what the last entry carried.
    pub(super) fn stamp_now(&self) -> u64 {
        self.stamp.load(Ordering::Relaxed)
    }

    /// The beginning of rule 4, before the tag is looked at. Acquire pairs with the Release of the
    /// fill that made it what it is: its tag and its leaf are seen behind this.
    #[inline(always)]
    pub(super) fn begin(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    /// The rest of rule 4, behind version and tag.
    #[inline(always)]
    pub(super) fn read(&self, owner: Owner, version: Version) -> Option<Leaf> {
        let leaf = Leaf {
            stamp: self.stamp.load(Ordering::Relaxed),
            payload: [
                self.payload[0].load(Ordering::Relaxed),
                self.payload[1].load(Ordering::Relaxed),
            ],
        };
        // Orders the loads of tag and leaf before the second look at the version: if one of them
        // was a later filler's, that filler is seen here. Pairs with the release fence in `fill`.
        // Model: `tlb_lookup_against_refill`.
        fence_at(Site::LookupFence, Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version.0;
        (same & version.is_of(owner)).then_some(leaf)
    }

    /// Rules 1 and 2. `word` is the slot's tag, `count` the fills of the set so far. Gives up, without
    /// harm, where another filler is at work.
    pub(super) fn fill(
        &self,
        word: &AtomicU64,
        count: u64,
        filled: &Filled,
        still_true: impl FnOnce() -> bool,
    ) -> bool {
        let version = self.version_now();
        if version.is_busy() {
            return false;
        }
        // Acquire pairs with the Release that made it even: this filler's stores follow the
        // last one's.
        let busy = version.0 | Version::BUSY;
        if self
            .version
            .compare_exchange(version.0, busy, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // A lookup that sees any of the stores below sees the version odd as well. Pairs with the
        // fence in `read`. Model: `tlb_lookup_against_refill`.
        fence_at(Site::RefillFence, Ordering::Release);
        let (filling, valid) = (
            filled.tag.with(State::Filling),
            filled.tag.with(State::Valid),
        );
        word.store(filling, Ordering::Relaxed);
        self.stamp.store(filled.leaf.stamp, Ordering::Relaxed);
        self.payload[0].store(filled.leaf.payload[0], Ordering::Relaxed);
        self.payload[1].store(filled.leaf.payload[1], Ordering::Relaxed);
        // Pairs with the fence in `Sweep::begin`: either this filler sees the sweep in the log,
        // or the sweep sees the tag and takes it. Model: `tlb_fill_against_sweep`.
        full_fence(Site::FillFence);
        let done = still_true()
            && word
                .compare_exchange(filling, valid, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !done {
            word.store(0, Ordering::Relaxed);
        }
        let rest = Version::at_rest(count.max(version.count()) + 1, filled.owner);
        self.version.store(rest, Ordering::Release);
        done
    }
}
