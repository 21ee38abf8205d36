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

mod page;
mod share;

use crate::backend::BackendCapabilities;
use crate::batch::{Batch, MAX_BATCH, Rings};
use crate::costs::Costs;
use crate::covering::{covers, merge, wider};
use crate::invalidation::{Invalidation, Scope, Stage};
use crate::packed::{Packed, key};
use crate::recent::{LOOK_BACK, Recent};
use arrayvec::ArrayVec;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, Vmid};

/// How many of the newest wide requests are asked whether they cover a new one: all of them would make a
/// window of wide requests cost its square.
const WIDE: usize = 4;
/// How many kept requests a window's wide ones look through for what they cover, so that a long window of
/// wide requests does not cost its square either. What is not looked for leaves as a request of its own.
const LOOKS: usize = 8 * MAX_BATCH;
/// Looking through a kept request for what a wide one covers, in nanoseconds.
const LOOK_NS: u64 = 2;

/// The VMID of no request, as a key would have it.
const NO_VMID: u64 = u64::MAX;

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
    translations: Vec<Packed>,
    devices: Vec<Kept>,
    /// Where the newest wide requests lie: new ones may be covered already.
    wide: ArrayVec<usize, WIDE>,
    /// How many requests wide ones may still look through.
    looks: usize,
    recent: Recent,
    /// The VMID of the newest request, in its key.
    vmid: u64,
    /// What a page of 4 KiB costs.
    page_ns: u64,
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
            translations: Vec::with_capacity(MAX_BATCH),
            devices: Vec::with_capacity(MAX_BATCH),
            wide: ArrayVec::new(),
            looks: LOOKS,
            recent: Recent::NONE,
            vmid: NO_VMID,
            page_ns: 0,
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
        let page = costs.of_addresses(false, Some(Granule::K4), Granule::K4.bytes());
        self.page_ns = page + u64::from(costs.request);
    }

    /// What a backend's work on the requests kept so far costs, in nanoseconds. Never falls within a
    /// window, even if later requests cover earlier ones.
    #[must_use]
    #[inline]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Adds to that what somebody else's work costs.
    #[inline]
    pub fn charge(&mut self, ns: u64) {
        self.spent += ns;
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
        self.looks = LOOKS;
        self.recent.clear();
        self.vmid = NO_VMID;
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
            let before = kept.bytes;
            kept.bytes = before.saturating_add(bytes);
            self.spent += kept.growth(before, &self.costs);
            let kept = *kept;
            self.recent.follow(self.newest.unwrap_or_default(), &kept);
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
        let any_granule = self.ranges_of_any_granule || vcmdq_sync::broken!(break_law7b);
        let ranges = self.ranges && (new.key & key::GRANULE != 0 || any_granule);
        let oldest = self.translations.len().saturating_sub(LOOK_BACK);
        for at in (oldest..self.translations.len()).rev() {
            let kept = &mut self.translations[at];
            let before = kept.bytes;
            if merge(kept, &new, ranges) {
                self.spent += kept.growth(before, &self.costs);
                let kept = *kept;
                self.recent.follow(at, &kept);
                self.newest = Some(at);
                return;
            }
        }
        self.newest = Some(self.translations.len());
        self.spent += new.cost(&self.costs);
        self.recent.follow(self.translations.len(), &new);
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
        let covers_others =
            !matches!(request.scope, Scope::Context(_)) || vcmdq_sync::broken!(break_law7a);
        if covers_others && self.translations.len() <= self.looks {
            self.looks -= self.translations.len();
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
            self.recent.clear();
        }
        if self.wide.is_full() {
            self.wide.pop_at(0);
        }
        self.wide.push(self.translations.len());
        let new = Packed::wide(&request, earliest, rings);
        self.recent.follow(self.translations.len(), &new);
        self.spent += new.cost(&self.costs);
        self.keep(new);
    }

    #[inline(always)]
    fn keep(&mut self, new: Packed) {
        // Each VMID is a call; those that come by turns are counted too often.
        if self.vmid != new.key & key::VMID {
            self.spent += u64::from(self.costs.call);
            self.mixed |= self.vmid != NO_VMID;
            self.vmid = new.key & key::VMID;
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
            let rings = if self.shared { kept.rings } else { Rings::MAX };
            if kept.key & key::KIND != key::ADDRESSES || self.affords(kept) {
                batch.push_packed(Packed { rings, ..*kept });
            } else {
                batch.push_for(rings, wider(&kept.addresses()), kept.origin);
            }
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
