//! STAGE coalesce: fewer requests that remove at least as much (law 7).
//!
//! All commands of a window are published when the worker looks, and none of its SYNCs
//! completes before all of its invalidations are done. So a request may be executed earlier
//! than its place in the ring, and requests on both sides of a SYNC may become one.
//!
//! What covers what, and nothing else:
//!
//! * Addresses of one ASID (or of every ASID) that touch or overlap, of entries of the same
//!   *known* granule, become one range. Different level hints become "any level", Leaf=0 covers
//!   Leaf=1.
//! * With an unknown granule (TG=0) only the very same page is a duplicate: two neighbours are
//!   two pages of unknown size, not a range of 8 KiB of a granule. For a backend that takes "whatever
//!   overlaps these addresses" they are one request.
//! * A VMID's stage-1 entries cover everything of that VMID's stage 1. "Everything" covers all.
//! * An ASID covers the same ASID. It never covers addresses: those take global entries too.
//! * A range that is longer than the backend says becomes "the ASID and all globals", which
//!   does cover addresses.
//!
//! Several rings can share a call: then each request knows which of them need it, and one that covers
//! another is needed by whom that was. An invalidation of a device's cache stays its ring's own, so that
//! a device that does not answer is known to every ring that asked it.
//!
//! Invalidations of a device's own cache are kept apart and leave last: the device may ask
//! for a new translation at once, and must not get what a TLBI of this window removes.

use crate::backend::BackendCapabilities;
use crate::batch::{Batch, MAX_BATCH, Rings};
use crate::costs::Costs;
use crate::invalidation::{Invalidation, Scope, Stage};
use crate::packed::{Packed, key};
use arrayvec::ArrayVec;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, Vmid};

/// How many of the newest requests a new one is compared with. Producers on several CPUs
/// interleave; each works through its own range.
const LOOK_BACK: usize = 4;

/// How many of the newest wide requests are asked whether they cover a new one: all of them would make a
/// window of wide requests cost its square.
const WIDE: usize = 4;
/// Looking through a kept request for what a wide one covers, in nanoseconds.
const LOOK_NS: u64 = 2;

/// A request and the position of the earliest command that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The request.
    pub request: Invalidation,
    /// Position in the window.
    pub origin: u32,
    /// The ring that needs it.
    rings: Rings,
}

/// Collects the invalidations of a window. Reused; allocates nothing.
#[derive(Debug)]
pub struct Coalescer {
    ranges: bool,
    ranges_of_any_granule: bool,
    widen_above: u64,
    costs: Costs,
    /// What the requests kept so far cost, in nanoseconds.
    spent: u64,
    translations: ArrayVec<Packed, MAX_BATCH>,
    devices: ArrayVec<Kept, MAX_BATCH>,
    /// Where the newest wide requests lie: new ones may be covered already.
    wide: ArrayVec<usize, WIDE>,
    /// Requests of more than one VMID have been kept.
    mixed: bool,
    /// The request that took the last command, where there is one.
    newest: Option<usize>,
    taken: usize,
    /// The ring whose commands come, as a bit.
    ring: Rings,
    /// Commands of several rings have come.
    shared: bool,
    /// Where that ring's begin among `devices`.
    own_devices: usize,
}

impl Coalescer {
    /// For a backend of these capabilities.
    #[must_use]
    pub fn new(capabilities: &BackendCapabilities) -> Self {
        Self {
            ranges: capabilities.ranges,
            ranges_of_any_granule: capabilities.ranges_of_any_granule,
            widen_above: capabilities.widen_above,
            costs: Costs::default(),
            spent: 0,
            translations: ArrayVec::new(),
            devices: ArrayVec::new(),
            wide: ArrayVec::new(),
            mixed: false,
            newest: None,
            taken: 0,
            ring: 1,
            shared: false,
            own_devices: 0,
        }
    }

    /// Says what requests cost from now on; kept by [`restart`](Self::restart).
    #[inline]
    pub fn set_costs(&mut self, costs: &Costs) {
        self.costs = *costs;
    }

    /// What a backend's work on the requests kept so far costs, in nanoseconds. Never falls within a
    /// window, even if later requests cover earlier ones.
    #[must_use]
    #[inline]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Forgets everything; ready for the next window, perhaps of another backend.
    #[inline]
    pub fn restart(&mut self, capabilities: &BackendCapabilities) {
        self.ranges = capabilities.ranges;
        self.ranges_of_any_granule = capabilities.ranges_of_any_granule;
        self.widen_above = capabilities.widen_above;
        self.spent = 0;
        self.translations.clear();
        self.devices.clear();
        self.wide.clear();
        self.mixed = false;
        self.newest = None;
        self.taken = 0;
        self.ring = 1;
        self.shared = false;
        self.own_devices = 0;
    }

    /// What comes from here on is of the `nth` ring that shares the window; of the first one, at the
    /// beginning.
    pub fn begin_ring(&mut self, nth: u32) {
        self.ring = Rings::MAX & 1 << nth;
        self.shared |= nth != 0;
        self.newest = None;
        self.own_devices = self.devices.len();
    }

    /// Whether some request names a stream.
    #[must_use]
    #[inline]
    pub fn names_streams(&self) -> bool {
        !self.devices.is_empty()
    }

    /// The streams that requests name, each with its ring, in ring order.
    pub fn named_streams(&self) -> impl Iterator<Item = (StreamId, Rings)> + '_ {
        let named = |kept: &Kept| Some((kept.request.stream()?, kept.rings));
        self.devices.iter().filter_map(named)
    }

    /// Whether there is nothing to dispatch.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.translations.is_empty() && self.devices.is_empty()
    }

    /// Adds the invalidation of the command at `origin`. A window has at most [`MAX_BATCH`].
    #[inline]
    pub fn push(&mut self, request: Invalidation, origin: u32) {
        match request.scope {
            Scope::Addresses { asid, ref range } => {
                self.push_addresses(request.vmid, request.stage, asid, range, origin);
            }
            Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {
                self.newest = None;
                let mut newest = self.devices[self.own_devices..]
                    .iter()
                    .rev()
                    .take(LOOK_BACK);
                if !newest.any(|kept| kept.request == request) {
                    let call = if self.devices.is_empty() {
                        self.costs.call
                    } else {
                        0
                    };
                    self.spent += u64::from(call) + self.costs.of(&request);
                    let rings = self.ring;
                    self.devices.push(Kept {
                        request,
                        origin,
                        rings,
                    });
                }
            }
            _ => {
                self.newest = None;
                self.push_wide(request, origin);
            }
        }
    }

    /// Whether the request that took the last command can be lengthened at its end, and that is
    /// `end`; never at the top of the address space.
    #[inline(always)]
    #[must_use]
    pub fn ends_at(&self, end: Option<u64>) -> bool {
        let newest = self.newest.and_then(|at| self.translations.get(at));
        newest.is_some_and(|kept| {
            let own = kept.addr.checked_add(kept.bytes);
            self.ranges && kept.key & key::GRANULE != 0 && own.is_some() && own == end
        })
    }

    /// Lengthens the request of which [`ends_at`](Self::ends_at) has said that it can be, with
    /// nothing pushed since: commands of the same kind have come that continue it by `bytes`.
    #[inline(always)]
    pub fn extend(&mut self, bytes: u64) {
        debug_assert!(self.newest.is_some(), "ends_at has said that there is one");
        if let Some(kept) = self.newest.and_then(|at| self.translations.get_mut(at)) {
            let before = kept.cost(&self.costs);
            kept.bytes = kept.bytes.saturating_add(bytes);
            self.spent += kept.cost(&self.costs) - before;
        }
    }

    /// [`push`](Self::push) of [`Scope::Addresses`], field by field: what passes here by the
    /// hundred stays in registers.
    #[inline(always)]
    pub fn push_addresses(
        &mut self,
        vmid: Vmid,
        stage: Stage,
        asid: Option<Asid>,
        range: &TlbiRange,
        origin: u32,
    ) {
        let new = Packed {
            key: key::of_addresses(vmid, stage, asid, range),
            addr: range.addr,
            bytes: range.bytes,
            origin,
            rings: self.ring,
        };
        self.newest = None;
        if !self.wide.is_empty() && self.is_covered(&new.unpack()) {
            return;
        }
        // law7b: neighbours of unknown granule become a range, whatever the backend makes of it.
        let any_granule = self.ranges_of_any_granule || cfg!(break_law7b);
        let ranges = self.ranges && (new.key & key::GRANULE != 0 || any_granule);
        let oldest = self.translations.len().saturating_sub(LOOK_BACK);
        for at in (oldest..self.translations.len()).rev() {
            let kept = &mut self.translations[at];
            let before = kept.bytes;
            if merge(kept, &new, ranges) {
                if kept.bytes != before {
                    let grown = kept.cost(&self.costs);
                    let bytes = before;
                    self.spent += grown - Packed { bytes, ..*kept }.cost(&self.costs);
                }
                self.newest = Some(at);
                return;
            }
        }
        self.newest = Some(self.translations.len());
        self.spent += new.cost(&self.costs);
        self.keep(new);
    }

    /// What covers it is needed by this ring, too.
    #[cold]
    fn is_covered(&mut self, request: &Invalidation) -> bool {
        for at in self.wide.iter().rev() {
            if let Some(kept) = self.translations.get_mut(*at) {
                if covers(&kept.unpack(), request) {
                    kept.rings |= self.ring;
                    return true;
                }
            }
        }
        false
    }

    fn push_wide(&mut self, request: Invalidation, origin: u32) {
        if self.is_covered(&request) {
            return;
        }
        let (mut rings, mut earliest) = (self.ring, origin);
        // An ASID covers nothing but itself.
        if !matches!(request.scope, Scope::Context(_)) || cfg!(break_law7a) {
            self.spent += self.translations.len() as u64 * LOOK_NS;
            self.translations.retain(|kept| {
                let covered = covers(&request, &kept.unpack());
                if covered {
                    rings |= kept.rings;
                    earliest = earliest.min(kept.origin);
                }
                !covered
            });
            // They lie elsewhere now.
            self.wide.clear();
        }
        if self.wide.is_full() {
            self.wide.pop_at(0);
        }
        self.wide.push(self.translations.len());
        let new = Packed::wide(&request, earliest, rings);
        self.spent += new.cost(&self.costs);
        self.keep(new);
    }

    #[inline(always)]
    fn keep(&mut self, new: Packed) {
        // Each VMID is a call; those that come by turns are counted too often.
        let last = self.translations.last();
        if last.is_none_or(|last| (last.key ^ new.key) & key::VMID != 0) {
            self.spent += u64::from(self.costs.call);
            self.mixed |= !self.translations.is_empty();
        }
        self.translations.push(new);
    }

    /// Ends the window: from now on batches can be taken.
    pub fn finish(&mut self) {
        if self.mixed {
            // Origins differ, so requests of one VMID keep their order; and unlike a stable sort
            // this one allocates nothing.
            self.translations
                .sort_unstable_by_key(|kept| (kept.key & key::VMID, kept.origin));
        }
    }

    /// The next batch of translations, all of one VMID; false when there is none left.
    pub fn next_batch(&mut self, batch: &mut Batch) -> bool {
        let rest = &self.translations[self.taken..];
        let Some(first) = rest.first() else {
            return false;
        };
        let vmid = first.key & key::VMID;
        batch.restart(key::vmid(first.key));
        for kept in rest.iter().take_while(|kept| kept.key & key::VMID == vmid) {
            let request = if kept.key & key::KIND != key::ADDRESSES {
                kept.unpack()
            } else if self.affords(kept) {
                kept.addresses()
            } else {
                wider(&kept.addresses())
            };
            batch.push(request, kept.origin);
        }
        if self.shared {
            batch.share(rest.iter().map(|kept| kept.rings));
        }
        self.taken += batch.len();
        true
    }

    /// The requests that name a stream and pass `mine`, in ring order; false if there are none.
    pub fn device_batch(&self, batch: &mut Batch, mine: impl Fn(StreamId) -> bool) -> bool {
        batch.restart(Vmid(0));
        for kept in &self.devices {
            if kept.request.stream().is_some_and(&mine) {
                batch.push_for(kept.rings, kept.request, kept.origin);
            }
        }
        !batch.is_empty()
    }

    /// Lets other instances take the same batches again.
    pub fn rewind(&mut self) {
        self.taken = 0;
    }

    /// Whether the backend takes a request of addresses as it is: short enough to be cheaper than
    /// something wider, and a single page where it knows no ranges.
    #[inline]
    fn affords(&self, kept: &Packed) -> bool {
        let page = key::granule(kept.key).map_or(4096, Granule::bytes);
        kept.bytes <= self.widen_above && (self.ranges || kept.bytes <= page)
    }
}

/// What covers a request of addresses without naming them.
fn wider(request: &Invalidation) -> Invalidation {
    let Scope::Addresses { asid, .. } = request.scope else {
        return *request;
    };
    match asid {
        // Stage 2 alone has no request of its own for a whole VMID.
        _ if request.stage != Stage::One => Invalidation {
            stage: Stage::Both,
            scope: Scope::Vmid,
            ..*request
        },
        // law7a: an ASID alone, which leaves the globals that addresses would take.
        Some(asid) if cfg!(break_law7a) => Invalidation {
            scope: Scope::Context(asid),
            ..*request
        },
        Some(asid) => Invalidation {
            scope: Scope::ContextAndGlobals(asid),
            ..*request
        },
        None => Invalidation {
            scope: Scope::Vmid,
            ..*request
        },
    }
}

/// Whether `wide` removes everything that `narrow` must. Only scopes that are exact about it.
fn covers(wide: &Invalidation, narrow: &Invalidation) -> bool {
    match wide.scope {
        Scope::All => true,
        Scope::Vmid => {
            let stage = wide.stage == Stage::Both || narrow.stage == wide.stage;
            stage && wide.vmid == narrow.vmid && narrow.scope != Scope::All
        }
        // law7a: an ASID is taken to cover its addresses.
        Scope::Context(asid) if cfg!(break_law7a) => {
            let of = |scope| match scope {
                Scope::Addresses { asid, .. } => asid,
                Scope::Context(asid) => Some(asid),
                _ => None,
            };
            wide.vmid == narrow.vmid && of(narrow.scope) == Some(asid)
        }
        Scope::Context(_) => wide == narrow,
        Scope::ContextAndGlobals(asid) => {
            let of = match narrow.scope {
                Scope::Context(own) | Scope::ContextAndGlobals(own) => Some(own),
                Scope::Addresses { asid, .. } => asid,
                _ => None,
            };
            wide.vmid == narrow.vmid && wide.stage == narrow.stage && of == Some(asid)
        }
        _ => false,
    }
}

/// Makes `kept` cover `new` as well, if one request of addresses can say both; `ranges`: also one that
/// is longer than either.
#[inline(always)]
fn merge(kept: &mut Packed, new: &Packed, ranges: bool) -> bool {
    if (kept.key ^ new.key) & key::IDENTITY != 0 {
        return false;
    }
    let identical = kept.addr == new.addr && kept.bytes == new.bytes;
    if !(identical || ranges && touch(kept, new)) {
        return false;
    }
    let end = kept.last().max(new.last());
    kept.addr = kept.addr.min(new.addr);
    kept.bytes = (end - kept.addr).saturating_add(1);
    if (kept.key ^ new.key) & key::TTL != 0 {
        kept.key &= !key::TTL;
    }
    kept.key &= new.key | !key::LEAF;
    kept.rings |= new.rings;
    true
}

/// Whether two ranges overlap or lie side by side, so that their union is a range.
#[inline(always)]
fn touch(a: &Packed, b: &Packed) -> bool {
    let side_by_side = |low: &Packed, high: &Packed| {
        low.addr <= high.addr && high.addr <= low.last().saturating_add(1)
    };
    side_by_side(a, b) || side_by_side(b, a)
}
