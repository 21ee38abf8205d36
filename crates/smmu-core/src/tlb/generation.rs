//! Invalidation by counting: an entry remembers the generation in which it was filled.
//!
//! Every VMID has counters and every ASID has one. Invalidating one adds one to it. An entry carries
//! the *sum* of the counters that concern it; counters only grow, so the sum is the same
//! exactly if none of them has moved. At 2^64 they never wrap.
//!
//! Invalidations by address do not count, they take entries out. A walk that is under way
//! meanwhile is found out by the sweep log: each batch of them has a number, and its slot in
//! the log says, roughly, whose addresses it removed. A fill whose ASID may be among those
//! logged since its ticket was taken is dropped.

use super::{Entry, Signature, Space};
use crate::ids::{Asid, Vmid};
use alloc::boxed::Box;
use vcmdq_sync::CachePadded;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, order, taken};

/// Slots of VMID counters; VMIDs that fall together are invalidated together.
#[cfg(not(loom))]
const VMIDS: usize = 64;
#[cfg(loom)]
const VMIDS: usize = 2;
/// Sweeps that the log remembers. A walk during which more happened is not cached.
#[cfg(not(loom))]
const LOG: u64 = 64;
#[cfg(loom)]
const LOG: u64 = 2;

/// Which counters say that tables have been removed from which walks may start
/// ([`WalkCache`](crate::walk::WalkCache)).
pub(super) mod tables {
    use crate::ids::Asid;

    /// ASIDs that fall together lose their tables together.
    #[cfg(not(loom))]
    const ASIDS: usize = 32;
    #[cfg(loom)]
    const ASIDS: usize = 2;

    /// Those of stage 1, of every ASID.
    pub(in super::super) const EVERY_ASID: usize = ASIDS;
    /// Those of stage 1 that lie under stage 2.
    pub(in super::super) const UNDER_STAGE2: usize = ASIDS + 1;
    /// Those of stage 2.
    pub(in super::super) const OF_STAGE2: usize = ASIDS + 2;
    pub(in super::super) const COUNTERS: usize = ASIDS + 3;

    /// Those of stage 1, of one ASID.
    #[inline]
    pub(in super::super) fn of(asid: Asid) -> usize {
        (usize::from(asid.0.wrapping_mul(0x9E37)) * ASIDS) >> 16
    }
}

#[derive(Debug, Default)]
struct VmidCounters {
    /// Counts what concerns every entry of the VMID that stage 1 had a part in.
    all: AtomicU64,
    /// Counts what concerns its global entries only.
    globals: AtomicU64,
    /// Counts what concerns its entries of stage 2 alone.
    stage2: AtomicU64,
}

/// The counters of one cache.
#[derive(Debug)]
pub(super) struct Generations {
    vmids: Box<[CachePadded<VmidCounters>; VMIDS]>,
    asids: Box<[AtomicU64]>,
    /// Number of the newest sweep.
    swept: CachePadded<AtomicU64>,
    log: Box<[AtomicU64]>,
    tables: Box<[AtomicU64; tables::COUNTERS]>,
}

/// Where an ASID's counter lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

/// A walk's birth certificate: what had been invalidated when it began.
#[derive(Clone, Copy, Debug)]
pub struct FillTicket {
    own: u64,
    global: u64,
    stage2: u64,
    sweep: u64,
    tables: Tables,
}

/// Counts of removals of tables.
#[derive(Clone, Copy, Debug)]
struct Tables {
    own: u64,
    under_stage2: u64,
    of_stage2: u64,
}

impl FillTicket {
    pub(super) fn stamp(&self, space: Space) -> u64 {
        match space {
            Space::Asid(_) => self.own,
            Space::Global => self.global,
            Space::Stage2 => self.stage2,
        }
    }

    /// The sum of all counts that concern tables of stage 1; with `nested`, where those lie under stage 2.
    #[inline]
    pub(crate) fn tables_of_stage1(&self, nested: bool) -> u64 {
        let alone = self.own + self.tables.own;
        if nested {
            alone + self.stage2 + self.tables.under_stage2
        } else {
            alone
        }
    }

    /// The same of tables of stage 2.
    #[inline]
    pub(crate) fn tables_of_stage2(&self) -> u64 {
        self.stage2 + self.tables.of_stage2
    }
}

impl Generations {
    pub(super) fn new(log2_asids: u8) -> Self {
        let asids = if cfg!(loom) { 2 } else { 1usize << log2_asids };
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            vmids: Box::new(core::array::from_fn(|_| CachePadded::default())),
            asids: zeros(asids),
            swept: CachePadded::default(),
            log: zeros(LOG as usize),
            tables: Box::new(core::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    #[inline]
    fn vmid(&self, vmid: Vmid) -> &VmidCounters {
        &self.vmids[usize::from(vmid.0) % VMIDS]
    }

    /// Neighbouring ASIDs land on different cache lines: a worker that invalidates one all the
    /// time must not slow the readers of another.
    #[inline(always)]
    pub(super) fn place(&self, vmid: Vmid, asid: Asid) -> Place {
        let spread = (asid.0 ^ vmid.0.rotate_left(8)).wrapping_mul(0x9E37);
        Place(usize::from(spread) & (self.asids.len() - 1))
    }

    #[inline]
    fn asid(&self, vmid: Vmid, asid: Asid) -> &AtomicU64 {
        &self.asids[self.place(vmid, asid).0]
    }

    /// [`stamp`](Self::stamp) of an ASID whose counter's place is known.
    #[inline(always)]
    pub(super) fn stamp_at(&self, vmid: Vmid, place: Place) -> u64 {
        let all = self.vmid(vmid).all.load(Ordering::Relaxed);
        all + self.asids[place.0].load(Ordering::Relaxed)
    }

    /// What an entry filled now would carry. Relaxed is enough to look up: the fence between
    /// publishing a guard and looking up orders these loads against the additions (see the
    /// TLB's module docs).
    #[inline]
    pub(super) fn stamp(&self, vmid: Vmid, space: Space) -> u64 {
        self.stamp_with(vmid, space, Ordering::Relaxed)
    }

    #[inline]
    fn stamp_with(&self, vmid: Vmid, space: Space, order: Ordering) -> u64 {
        let counters = self.vmid(vmid);
        let own = match space {
            Space::Asid(asid) => self.asid(vmid, asid),
            Space::Global => &counters.globals,
            Space::Stage2 => return counters.stage2.load(order),
        };
        counters.all.load(order) + own.load(order)
    }

    pub(super) fn ticket(&self, vmid: Vmid, asid: Asid) -> FillTicket {
        // Acquire pairs with the Release of the additions and of `begin_sweep`: a walk that starts
        // with the new counters reads the descriptors that the guest wrote before it asked for
        // that invalidation. Model: `tlb_fill_against_asid`.
        let acquire = order(Site::TicketAcquire, Ordering::Acquire);
        let count = |of: usize| self.tables[of].load(Ordering::Acquire);
        FillTicket {
            own: self.stamp_with(vmid, Space::Asid(asid), acquire),
            global: self.stamp_with(vmid, Space::Global, acquire),
            stage2: self.stamp_with(vmid, Space::Stage2, acquire),
            sweep: self.swept.load(acquire),
            // Behind the rest: who takes a sweep for older than its walk must not start that from a
            // table which the sweep removes. Pairs with the order in `begin_sweep`. Model:
            // `law3_walk_from_a_known_table_against_its_removal`.
            tables: Tables {
                own: count(tables::of(asid)) + count(tables::EVERY_ASID),
                under_stage2: count(tables::UNDER_STAGE2),
                of_stage2: count(tables::OF_STAGE2),
            },
        }
    }

    /// Numbers a sweep and logs whose addresses it takes.
    pub(super) fn begin_sweep(&self, signature: Signature) {
        let count_tables = || {
            for counter in signature.tables() {
                self.tables[counter].fetch_add(1, Ordering::Release);
            }
        };
        // Before the number: see `ticket`.
        let first = taken(Site::TablesFirst);
        if first {
            count_tables();
        }
        let number = self.swept.fetch_add(1, Ordering::AcqRel) + 1;
        // Until this store the slot names an older sweep, which `unchanged` takes for "unknown".
        self.log[(number % LOG) as usize].store(signature.logged(number), Ordering::Release);
        if !first {
            count_tables();
        }
    }

    /// Whether no sweep since the ticket may concern the entry. Called after a full fence that
    /// follows the store of the entry's tag.
    pub(super) fn unchanged(&self, entry: &Entry, ticket: &FillTicket) -> bool {
        // law3a: a walk is cached whatever was invalidated meanwhile.
        if vcmdq_sync::broken!(break_law3a) {
            return true;
        }
        let newest = self.swept.load(Ordering::Acquire);
        if newest == ticket.sweep {
            return true;
        }
        let whose = match entry.space {
            Space::Asid(asid) => Signature::of(asid),
            Space::Stage2 => Signature::STAGE2,
            Space::Global => return false,
        };
        if newest - ticket.sweep >= LOG {
            return false;
        }
        let spared = (ticket.sweep + 1..=newest).all(|number| {
            let logged = self.log[(number % LOG) as usize].load(Ordering::Acquire);
            Signature::spares(logged, number, whose)
        });
        // A word that was read above may be that of a much later sweep whose number has the same low
        // bits. The acquire above pairs with the Release of that sweep's word: then its number is seen
        // here. Model: `tlb_fill_against_a_log_that_has_gone_round`.
        let is_over = || self.swept.load(Ordering::Relaxed) - ticket.sweep >= LOG;
        spared && !(taken(Site::LogAgain) && is_over())
    }

    /// A counter of its own for this would cost every lookup a load.
    pub(super) fn count_everything(&self) {
        for counters in &*self.vmids {
            counters.all.fetch_add(1, Ordering::Release);
            counters.stage2.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn count_vmid(&self, vmid: Vmid) {
        self.vmid(vmid).all.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count_stage2(&self, vmid: Vmid) {
        self.vmid(vmid).stage2.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count_asid(&self, vmid: Vmid, asid: Asid) {
        self.asid(vmid, asid).fetch_add(1, Ordering::Release);
    }

    pub(super) fn count_globals(&self, vmid: Vmid) {
        self.vmid(vmid).globals.fetch_add(1, Ordering::Release);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.vmids)
            + size_of_val(&*self.asids)
            + size_of_val(&*self.log)
            + size_of_val(&*self.tables)
    }
}
