//! The invalidations of one batch.

use super::generation::tables;
use super::tag::{Matcher, page_number};
use super::{CLASSES, GLOBALS, PageClass, STAGE2_AT, Space, Tag, Tlb};
use crate::ids::{Asid, Vmid};
use crate::range::{Granule, TlbiRange};
use vcmdq_sync::atomic::{Ordering, fence};

/// So many that a sweeper which is held up between taking its number and logging it would have to miss
/// 2^32 sweeps until its word could be taken for another's.
#[cfg(not(loom))]
const ASID_BITS: u32 = 32;
/// A model must be able to go once round the numbers that are logged: four.
#[cfg(loom)]
const ASID_BITS: u32 = 62;
const ALL: u64 = (1 << ASID_BITS) - 1;

/// The topmost of these bits is stage 2.
const HASHED: u32 = ASID_BITS - 1;

/// Whose addresses a sweep is going to take: a set of ASIDs that may name too many, and stage 2; and of
/// whom the tables, too, from which walks may start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signature {
    whose: u64,
    tables: u64,
}

impl Signature {
    /// Entries of stage 2 alone.
    pub(super) const STAGE2: Self = Self {
        whose: 1 << HASHED,
        tables: 0,
    };

    /// Adds an ASID, or every one.
    #[inline]
    pub fn add(&mut self, asid: Option<Asid>) {
        self.whose |= asid.map_or(ALL & !Self::STAGE2.whose, |asid| Self::of(asid).whose);
    }

    /// Adds the tables of an ASID, or of every one: what an address is named for with Leaf=0.
    #[inline]
    pub fn add_tables(&mut self, asid: Option<Asid>) {
        self.tables |= 1 << asid.map_or(tables::EVERY_ASID, tables::of);
    }

    /// Adds intermediate addresses; without `leaf_only` (Leaf=0), tables of stage 2, too. Tables of stage 1
    /// may lie at any of them.
    #[inline]
    pub fn add_stage2(&mut self, leaf_only: bool) {
        self.whose |= Self::STAGE2.whose;
        self.tables |= 1 << tables::UNDER_STAGE2;
        if !leaf_only {
            self.tables |= 1 << tables::OF_STAGE2;
        }
    }

    #[inline]
    pub(super) fn of(asid: Asid) -> Self {
        Self {
            whose: 1 << ((u32::from(asid.0.wrapping_mul(0x9E37)) * HASHED) >> 16),
            tables: 0,
        }
    }

    fn is_empty(self) -> bool {
        self.whose | self.tables == 0
    }

    /// Which counters of [`tables`] are to count.
    pub(super) fn tables(self) -> impl Iterator<Item = usize> {
        let mut left = self.tables;
        core::iter::from_fn(move || {
            let counter = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (counter < tables::COUNTERS).then_some(counter)
        })
    }

    /// The log's word: the set and the low bits of the sweep's number.
    pub(super) fn logged(self, number: u64) -> u64 {
        self.whose | number << ASID_BITS
    }

    /// Whether a word of the log is that of sweep `number` and has nothing in common with `whose`.
    pub(super) fn spares(logged: u64, number: u64, whose: Self) -> bool {
        logged >> ASID_BITS == number & (u64::MAX >> ASID_BITS) && logged & whose.whose == 0
    }
}

/// Takes entries out of a [`Tlb`]. Several may run at the same time.
#[derive(Debug)]
pub struct Sweep<'a> {
    tlb: &'a Tlb,
    present: u32,
}

impl<'a> Sweep<'a> {
    pub(super) fn begin(tlb: &'a Tlb, signature: Signature) -> Self {
        if !signature.is_empty() {
            tlb.generations.begin_sweep(signature);
            // Pairs with the fence in `Slot::fill`: either the filler sees this sweep in the
            // log, or the sweep sees its tag and its class. Model: `tlb_fill_against_sweep`.
            fence(Ordering::SeqCst);
        }
        Self {
            tlb,
            present: tlb.present.load(Ordering::Relaxed),
        }
    }

    /// Everything.
    pub fn everything(&self) {
        self.tlb.generations.count_everything();
    }

    /// Every entry of a VMID that stage 1 had a part in: its own and combined ones.
    pub fn vmid(&self, vmid: Vmid) {
        self.tlb.generations.count_vmid(vmid);
    }

    /// Every entry of a VMID that is of stage 2 alone.
    pub fn stage2(&self, vmid: Vmid) {
        self.tlb.generations.count_stage2(vmid);
    }

    /// Entries of stage 2 alone that map intermediate addresses. The signature must have been told. What
    /// combines both stages stays (IHI 0070, 4.4.3): the guest asks for that VMID's stage 1 next.
    pub fn intermediate(&self, vmid: Vmid, range: &TlbiRange) {
        let mut sets_left = self.tlb.max_sets();
        let mut classes = self.present >> STAGE2_AT & CLASSES;
        while classes != 0 {
            let class = PageClass::from_code(classes.trailing_zeros());
            classes &= classes - 1;
            if range
                .granule
                .is_some_and(|granule| granule != class.granule())
            {
                continue;
            }
            let (first, more) = pages(range, class);
            let sets = (first + more) / 8 - first / 8 + 1;
            if sets > sets_left {
                return self.stage2(vmid);
            }
            sets_left -= sets;
            let exact = Matcher {
                kind: Tag::of_space(Space::Stage2).kind(class),
                mask: Matcher::EXACT,
                first,
                more,
            };
            let table = &self.tlb.table;
            table.take(vmid, Some(Space::Stage2), class, &exact);
        }
    }

    /// The non-global entries of an ASID.
    pub fn asid(&self, vmid: Vmid, asid: Asid) {
        self.tlb.generations.count_asid(vmid, asid);
    }

    /// The entries of an ASID and all global ones of its VMID.
    pub fn asid_and_globals(&self, vmid: Vmid, asid: Asid) {
        self.tlb.generations.count_asid(vmid, asid);
        self.tlb.generations.count_globals(vmid);
    }

    /// Entries that map addresses: those of `asid` and global ones, or with `None` of every
    /// ASID. The signature must have been told. A range that reaches more than [`Tlb::max_sets`]
    /// is replaced by something wider that costs one addition.
    pub fn addresses(&self, vmid: Vmid, asid: Option<Asid>, range: &TlbiRange) {
        let sets_each = self.tlb.sets_of_a_group(self.present, asid.is_none());
        let mut sets_left = self.tlb.max_sets();
        let mut classes = self.present & CLASSES;
        while classes != 0 {
            let class = PageClass::from_code(classes.trailing_zeros());
            classes &= classes - 1;
            if range
                .granule
                .is_some_and(|granule| granule != class.granule())
            {
                continue;
            }
            let (first, more) = pages(range, class);
            if let (0, Some(asid)) = (more, asid) {
                // So few that they need not be counted.
                self.page(vmid, asid, class, first);
                continue;
            }
            let groups = (first + more) / 8 - first / 8 + 1;
            let sets = groups.saturating_mul(sets_each);
            if sets > sets_left {
                return self.wide(vmid, asid);
            }
            sets_left -= sets;
            self.of_class(vmid, asid, class, first, more);
        }
    }

    /// Begins to fetch what [`addresses`](Self::addresses) is going to look at for the first page of a
    /// range. To be called for some ranges in a row: their sets come at the same time then.
    #[inline]
    pub fn touch(&self, vmid: Vmid, asid: Asid, addr: u64) {
        let class = PageClass::from_code((self.present & CLASSES).trailing_zeros());
        let home = self.tlb.table.home(vmid, Space::Asid(asid));
        let table = &self.tlb.table;
        core::hint::black_box(table.touch(&home, class, page_number(addr, class)));
    }

    fn wide(&self, vmid: Vmid, asid: Option<Asid>) {
        match asid {
            Some(asid) => self.asid_and_globals(vmid, asid),
            None => self.vmid(vmid),
        }
    }

    /// [`addresses`](Self::addresses) of one page of a 4 KiB granule, in whatever page or block it lies.
    #[inline]
    pub fn page_of_4k(&self, vmid: Vmid, asid: Asid, addr: u64) {
        let mut classes = self.present & PageClass::bits_of(Some(Granule::K4));
        while classes != 0 {
            let class = PageClass::from_code(classes.trailing_zeros());
            classes &= classes - 1;
            self.page(vmid, asid, class, page_number(addr, class));
        }
    }

    /// One page of one ASID.
    #[inline(always)]
    fn page(&self, vmid: Vmid, asid: Asid, class: PageClass, page: u64) {
        let table = &self.tlb.table;
        table.take_page(&table.home(vmid, Space::Asid(asid)), class, page);
        if self.present & GLOBALS != 0 {
            table.take_page(&table.home(vmid, Space::Global), class, page);
        }
    }

    fn of_class(&self, vmid: Vmid, asid: Option<Asid>, class: PageClass, first: u64, more: u64) {
        let kind = |space| Tag::of_space(space).kind(class);
        let table = &self.tlb.table;
        match asid {
            Some(asid) => {
                let kind = kind(Space::Asid(asid));
                let own = Matcher {
                    kind,
                    mask: Matcher::EXACT,
                    first,
                    more,
                };
                table.take(vmid, Some(Space::Asid(asid)), class, &own);
            }
            None => {
                let kind = kind(Space::Asid(Asid(0)));
                let any = Matcher {
                    kind,
                    mask: Matcher::ANY_ASID,
                    first,
                    more,
                };
                table.take(vmid, None, class, &any);
            }
        }
        if self.present & GLOBALS != 0 {
            let kind = kind(Space::Global);
            let global = Matcher {
                kind,
                mask: Matcher::EXACT,
                first,
                more,
            };
            table.take(vmid, Some(Space::Global), class, &global);
        }
    }
}

/// The first page of a class that a range touches, and how many more.
#[inline]
fn pages(range: &TlbiRange, class: PageClass) -> (u64, u64) {
    let more = (range.bytes - 1 + offset(range.addr, class)) >> class.shift();
    (page_number(range.addr, class), more)
}

#[inline]
fn offset(addr: u64, class: PageClass) -> u64 {
    addr & ((1 << class.shift()) - 1)
}
