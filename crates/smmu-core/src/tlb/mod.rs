//! The translation cache: lookups that write nothing, invalidations that cost what they
//! remove.
//!
//! | invalidation | cost |
//! |---|---|
//! | everything, a VMID, an ASID, a VMID's stage 2 | one addition, whatever the cache holds ([`generation`]) |
//! | addresses | the sets that can hold them, no others |
//! | addresses in more than [`Tlb::max_sets`] | an ASID and the VMID's global entries, or the VMID: wider, and one or two additions |
//!
//! **Stages.** Under stage 2, an entry of an ASID, or a global one, combines both stages, or holds what
//! stage 1 says and an intermediate address; such entries are [nested](View::nested), and no stream
//! without stage 2 finds them. Entries of [stage 2 alone](Space::Stage2) are looked up by intermediate
//! address, also for the tables of stage 1.
//!
//! **The duty of whoever looks up.** A translation may be used until the invalidation
//! that removes it is followed by a barrier. The user says so with a guard: it publishes
//! the guard, issues a full fence, looks up, uses the result and closes the guard. The
//! barrier issues a full fence after the invalidation and then reads the guards: either it
//! sees the guard, or the lookup sees the invalidation.
//!
//! **The duty of whoever fills.** Take a [`FillTicket`] *before* reading the first
//! descriptor, and give it back with the entry. An entry whose walk may have read what a
//! meanwhile invalidated descriptor said is not cached.

pub mod class;
pub mod generation;
mod slot;
mod sweep;
mod table;
mod tag;

#[cfg(all(test, not(loom)))]
mod placement_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use class::PageClass;
pub use generation::FillTicket;
pub use sweep::{Signature, Sweep};

use crate::ids::{Asid, Vmid};
use crate::range::Granule;
use generation::{Generations, Place};
use slot::{Filled, Leaf, Owner};
use table::{Home, Table};
use tag::Tag;
use vcmdq_sync::atomic::{AtomicU32, Ordering};

/// Sizes of a [`Tlb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbSettings {
    /// log2 of the number of entries, 7 to 24. The default, 16 (64 Ki entries), takes
    /// 2.5 MiB: 8 bytes of tag and 32 of leaf each.
    pub log2_entries: u8,
    /// log2 of the number of ASID generations, 4 to 16. With 16 (512 KiB), the default, ASIDs
    /// of one VMID never share one; with fewer, invalidating an ASID may remove a
    /// neighbour's entries too.
    pub log2_asids: u8,
}

impl Default for TlbSettings {
    fn default() -> Self {
        Self {
            log2_entries: 16,
            log2_asids: 16,
        }
    }
}

/// Whose translations an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// One address space (descriptor bit nG=1).
    Asid(Asid),
    /// Every address space of the VMID (nG=0).
    Global,
    /// The intermediate addresses of the VMID: stage 2 alone.
    Stage2,
}

/// What a walk found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name space of ASIDs.
    pub vmid: Vmid,
    /// Who may use it.
    pub space: Space,
    /// Any address within the page or block; of stage 2 alone, an intermediate one.
    pub va: u64,
    /// Its size and the granule of its tables.
    pub class: PageClass,
    /// What the walker wants back: address, permissions, attributes. The cache does not look.
    pub payload: [u64; 2],
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The size of the page or block, and so how much of the address is offset.
    pub class: PageClass,
    /// Whether the entry was a global one.
    pub global: bool,
    /// As it was filled.
    pub payload: [u64; 2],
}

/// One ASID's part of a [`Tlb`].
#[derive(Clone, Copy, Debug)]
pub struct View {
    vmid: Vmid,
    own: Home,
    counter: Place,
}

/// The translation cache of one instance.
#[derive(Debug)]
pub struct Tlb {
    table: Table,
    generations: Generations,
    /// Which classes have ever been filled, one bit each, those of stage 2 alone from [`STAGE2_AT`] on,
    /// and [`GLOBALS`]. Grows only, so a class that was never used costs neither lookups nor
    /// invalidations anything.
    present: AtomicU32,
}

/// See [`Tlb::max_sets`].
const MAX_SETS: u64 = 256;

/// Bit of [`Tlb::present`]: some global entry has been filled.
const GLOBALS: u32 = 1 << 31;
/// Bits of [`Tlb::present`]: every [`PageClass`], of entries that stage 1 had a part in.
const CLASSES: u32 = 0b11_1111_1111;
/// Where the bits of classes of stage 2 alone begin.
const STAGE2_AT: u32 = 16;

impl View {
    /// The same ASID's part under a stage 2 of the guest's: combined entries, and those that hold an
    /// intermediate address.
    #[must_use]
    pub fn nested(self) -> Self {
        let own = self.own.nested();
        Self { own, ..self }
    }
}

impl Tlb {
    /// An empty cache; sizes outside their limits are brought to the nearest legal one.
    #[must_use]
    pub fn new(settings: TlbSettings) -> Self {
        Self {
            table: Table::new(settings.log2_entries.clamp(7, 24)),
            generations: Generations::new(settings.log2_asids.clamp(4, 16)),
            present: AtomicU32::new(0),
        }
    }

    /// What stays the same from one lookup of an ASID to the next, so that whoever does many can
    /// keep it. Belongs to this cache; it never goes stale.
    #[inline(always)]
    #[must_use]
    pub fn view(&self, vmid: Vmid, asid: Asid) -> View {
        View {
            vmid,
            own: self.table.home(vmid, Space::Asid(asid)),
            counter: self.generations.place(vmid, asid),
        }
    }

    /// Looks an address up for an ASID: its own entries, then the VMID's global ones.
    ///
    /// Writes nothing. The caller holds a guard (see the [module](self)).
    #[inline]
    #[must_use]
    pub fn lookup(&self, vmid: Vmid, asid: Asid, va: u64) -> Option<Hit> {
        self.lookup_in(&self.view(vmid, asid), va)
    }

    /// [`lookup`](Self::lookup) with a view that has been kept.
    #[inline(always)]
    #[must_use]
    pub fn lookup_in(&self, view: &View, va: u64) -> Option<Hit> {
        let present = self.present.load(Ordering::Relaxed);
        let mut classes = present & CLASSES;
        while classes != 0 {
            let class = PageClass::from_code(classes.trailing_zeros());
            classes &= classes - 1;
            if let Some(leaf) = self.table.find(&view.own, class, va) {
                if leaf.stamp == self.generations.stamp_at(view.vmid, view.counter) {
                    return Some(Hit {
                        class,
                        global: false,
                        payload: leaf.payload,
                    });
                }
            }
            if present & GLOBALS != 0 {
                let shared = self.global(view, class, va);
                if shared.is_some() {
                    return shared;
                }
            }
        }
        None
    }

    #[inline(always)]
    fn global(&self, view: &View, class: PageClass, va: u64) -> Option<Hit> {
        let home = self.table.home(view.vmid, Space::Global).as_of(&view.own);
        let leaf = self.table.find(&home, class, va)?;
        (leaf.stamp == self.generations.stamp(view.vmid, Space::Global)).then_some(Hit {
            class,
            global: true,
            payload: leaf.payload,
        })
    }

    /// Looks an intermediate address up: entries of stage 2 alone. As [`lookup`](Self::lookup).
    #[inline]
    #[must_use]
    pub fn lookup_stage2(&self, vmid: Vmid, ipa: u64) -> Option<Hit> {
        let mut classes = self.present.load(Ordering::Relaxed) >> STAGE2_AT & CLASSES;
        let home = self.table.home(vmid, Space::Stage2);
        while classes != 0 {
            let class = PageClass::from_code(classes.trailing_zeros());
            classes &= classes - 1;
            if let Some(leaf) = self.table.find(&home, class, ipa) {
                if leaf.stamp == self.generations.stamp(vmid, Space::Stage2) {
                    return Some(Hit {
                        class,
                        global: true,
                        payload: leaf.payload,
                    });
                }
            }
        }
        None
    }

    /// To be taken before the first descriptor of a walk is read.
    #[must_use]
    pub fn ticket(&self, vmid: Vmid, asid: Asid) -> FillTicket {
        self.generations.ticket(vmid, asid)
    }

    /// Caches what a walk found out, unless an invalidation since `ticket` may concern it.
    /// Returns whether it did; not caching is never an error. Evicts at most one entry, of the
    /// same set.
    pub fn fill(&self, entry: &Entry, ticket: &FillTicket) -> bool {
        self.fill_for(Owner::of(entry.vmid), entry, ticket)
    }

    /// [`fill`](Self::fill) for [nested](View::nested) views.
    pub fn fill_nested(&self, entry: &Entry, ticket: &FillTicket) -> bool {
        self.fill_for(Owner::of(entry.vmid).nested(), entry, ticket)
    }

    fn fill_for(&self, owner: Owner, entry: &Entry, ticket: &FillTicket) -> bool {
        let bits = match entry.space {
            Space::Asid(_) => entry.class.bit(),
            Space::Global => entry.class.bit() | GLOBALS,
            Space::Stage2 => entry.class.bit() << STAGE2_AT,
        };
        if self.present.load(Ordering::Relaxed) & bits != bits {
            // Before the entry can be seen; the fence in `Slot::fill` orders it against the
            // fence that a sweep issues before it reads the word.
            self.present.fetch_or(bits, Ordering::Relaxed);
        }
        let filled = Filled {
            owner,
            tag: Tag::of(entry.space, entry.va, entry.class),
            leaf: Leaf {
                stamp: ticket.stamp(entry.space),
                payload: entry.payload,
            },
        };
        let still_true = || self.generations.unchanged(entry, ticket);
        let stamp_of = |vmid, space| self.generations.stamp(vmid, space);
        self.table.publish(&filled, stamp_of, still_true)
    }

    /// Begins the invalidations of one batch. `signature` has been told every range that the
    /// batch will remove.
    #[must_use]
    pub fn sweep(&self, signature: Signature) -> Sweep<'_> {
        Sweep::begin(self, signature)
    }

    /// The most sets that the removal of one request's addresses looks at: a bound on how long it takes
    /// (law 8). What would take more is replaced by something wider.
    #[inline]
    #[must_use]
    pub fn max_sets(&self) -> u64 {
        MAX_SETS.min(self.table.sets())
    }

    /// How many sets the removal of one address looks at by now: of entries of `granule`, or of any
    /// with `None`; of one ASID or of `every` one. Grows as entries of more sizes are filled.
    #[must_use]
    #[inline]
    pub fn sets_for_an_address(&self, granule: Option<Granule>, every: bool) -> u64 {
        let present = self.present.load(Ordering::Relaxed);
        let classes = (present & PageClass::bits_of(granule)).count_ones();
        u64::from(classes) * self.sets_of_a_group(present, every)
    }

    /// How many sets the removal of eight neighbouring pages of one size looks at by now.
    #[must_use]
    #[inline]
    pub fn sets_for_a_group(&self, every: bool) -> u64 {
        self.sets_of_a_group(self.present.load(Ordering::Relaxed), every)
    }

    /// The ASID's own set, or one in each lane; and that of the global entries.
    #[inline]
    fn sets_of_a_group(&self, present: u32, every: bool) -> u64 {
        let own = if every { self.table.lanes() } else { 1 };
        own + u64::from(present & GLOBALS != 0)
    }

    /// How many entries fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.generations.bytes()
    }
}
