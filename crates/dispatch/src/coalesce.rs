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
//!   two pages of unknown size, not a range of 8 KiB.
//! * A VMID's stage-1 entries cover everything of that VMID's stage 1. "Everything" covers all.
//! * An ASID covers the same ASID. It never covers addresses: those take global entries too.
//! * A range that is dearer than the backend says becomes "the ASID and all globals", which
//!   does cover addresses.
//!
//! Invalidations of a device's own cache are kept apart and leave last: the device may ask
//! for a new translation at once, and must not get what a TLBI of this window removes.

use crate::backend::BackendCapabilities;
use crate::batch::{Batch, MAX_BATCH};
use crate::invalidation::{Invalidation, Scope, Stage};
use arrayvec::ArrayVec;
use smmu_core::range::TlbiRange;
use smmu_core::{StreamId, Vmid};

/// How many of the newest requests a new one is compared with. Producers on several CPUs
/// interleave; each works through its own range.
const LOOK_BACK: usize = 4;

/// A request and the position of the earliest command that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The request.
    pub request: Invalidation,
    /// Position in the window.
    pub origin: u32,
}

/// Collects the invalidations of a window. Reused; allocates nothing.
#[derive(Debug)]
pub struct Coalescer {
    ranges: bool,
    widen_above: u64,
    translations: ArrayVec<Kept, MAX_BATCH>,
    devices: ArrayVec<Kept, MAX_BATCH>,
    /// Something wide has been kept: new requests may be covered already.
    wide: bool,
    /// Requests of more than one VMID have been kept.
    mixed: bool,
    /// The request that took the last command, where there is one.
    newest: Option<usize>,
    taken: usize,
}

impl Coalescer {
    /// For a backend of these capabilities.
    #[must_use]
    pub fn new(capabilities: &BackendCapabilities) -> Self {
        Self {
            ranges: capabilities.ranges,
            widen_above: capabilities.widen_above,
            translations: ArrayVec::new(),
            devices: ArrayVec::new(),
            wide: false,
            mixed: false,
            newest: None,
            taken: 0,
        }
    }

    /// Forgets everything; ready for the next window, perhaps of another backend.
    #[inline]
    pub fn restart(&mut self, capabilities: &BackendCapabilities) {
        self.ranges = capabilities.ranges;
        self.widen_above = capabilities.widen_above;
        self.translations.clear();
        self.devices.clear();
        self.wide = false;
        self.mixed = false;
        self.newest = None;
        self.taken = 0;
    }

    /// Whether some request names a stream.
    #[must_use]
    #[inline]
    pub fn names_streams(&self) -> bool {
        !self.devices.is_empty()
    }

    /// The requests that name a stream, in ring order.
    pub fn named_streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.devices.iter().filter_map(|kept| kept.request.stream())
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
        self.newest = None;
        match request.scope {
            Scope::Addresses { .. } => self.push_addresses(request, origin),
            Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {
                if !self
                    .devices
                    .iter()
                    .rev()
                    .take(LOOK_BACK)
                    .any(|kept| kept.request == request)
                {
                    self.devices.push(Kept { request, origin });
                }
            }
            _ => self.push_wide(request, origin),
        }
    }

    /// The last command has come again, `bytes` further on, at `addr`: lengthens the request that
    /// took it. False if that cannot be said by lengthening, or if the request has grown to where
    /// wider is cheaper; then the command has to be pushed.
    #[inline]
    pub fn extend(&mut self, addr: u64, bytes: u64) -> bool {
        let Some(kept) = self.newest.and_then(|at| self.translations.get_mut(at)) else {
            return false;
        };
        let Scope::Addresses { range, .. } = &mut kept.request.scope else {
            return false;
        };
        let next = range.addr.wrapping_add(range.bytes);
        let grows = self.ranges && range.granule.is_some() && range.bytes <= self.widen_above;
        if !grows || next != addr {
            return false;
        }
        range.bytes += bytes;
        true
    }

    #[inline]
    fn push_addresses(&mut self, request: Invalidation, origin: u32) {
        if self.wide
            && self
                .translations
                .iter()
                .any(|kept| covers(&kept.request, &request))
        {
            return;
        }
        let ranges = self.ranges;
        let newest = self
            .translations
            .iter_mut()
            .enumerate()
            .rev()
            .take(LOOK_BACK);
        for (at, kept) in newest {
            if merge(&mut kept.request, &request, ranges) {
                self.newest = Some(at);
                return;
            }
        }
        self.newest = Some(self.translations.len());
        self.keep(request, origin);
    }

    fn push_wide(&mut self, request: Invalidation, origin: u32) {
        if self
            .translations
            .iter()
            .any(|kept| covers(&kept.request, &request))
        {
            return;
        }
        self.translations
            .retain(|kept| !covers(&request, &kept.request));
        self.wide = true;
        self.keep(request, origin);
    }

    #[inline]
    fn keep(&mut self, request: Invalidation, origin: u32) {
        if let Some(first) = self.translations.first() {
            self.mixed |= first.request.vmid != request.vmid;
        }
        self.translations.push(Kept { request, origin });
    }

    /// Ends the window: from now on batches can be taken.
    pub fn finish(&mut self) {
        if self.mixed {
            // Stable, so requests of one VMID keep their order.
            self.translations.sort_by_key(|kept| kept.request.vmid);
        }
    }

    /// The next batch of translations, all of one VMID; false when there is none left.
    pub fn next_batch(&mut self, batch: &mut Batch) -> bool {
        let rest = &self.translations[self.taken..];
        let Some(first) = rest.first() else {
            return false;
        };
        let vmid = first.request.vmid;
        batch.restart(vmid);
        for kept in rest.iter().take_while(|kept| kept.request.vmid == vmid) {
            batch.push(self.affordable(kept.request), kept.origin);
        }
        self.taken += batch.len();
        true
    }

    /// The requests that name a stream and pass `mine`, in ring order; false if there are none.
    pub fn device_batch(&self, batch: &mut Batch, mine: impl Fn(StreamId) -> bool) -> bool {
        batch.restart(Vmid(0));
        for kept in &self.devices {
            if kept.request.stream().is_some_and(&mine) {
                batch.push(kept.request, kept.origin);
            }
        }
        !batch.is_empty()
    }

    /// Lets other instances take the same batches again.
    pub fn rewind(&mut self) {
        self.taken = 0;
    }

    fn affordable(&self, request: Invalidation) -> Invalidation {
        let Scope::Addresses { asid, range } = request.scope else {
            return request;
        };
        if range.bytes <= self.widen_above || request.stage != Stage::One {
            return request;
        }
        let scope = match asid {
            // law7a: an ASID alone, which leaves the globals that addresses would take.
            Some(asid) if cfg!(break_law7a) => Scope::Context(asid),
            Some(asid) => Scope::ContextAndGlobals(asid),
            None => Scope::Vmid,
        };
        Invalidation { scope, ..request }
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

/// Makes `kept` cover `new` as well, if one request of addresses can say both.
#[inline]
fn merge(kept: &mut Invalidation, new: &Invalidation, ranges: bool) -> bool {
    let (
        Scope::Addresses { asid, range: old },
        Scope::Addresses {
            asid: new_asid,
            range,
        },
    ) = (&mut kept.scope, &new.scope)
    else {
        return false;
    };
    let same = kept.vmid == new.vmid && kept.stage == new.stage && asid == new_asid;
    if !same || old.granule != range.granule {
        return false;
    }
    // law7b: neighbours of unknown granule become a range.
    let known = old.granule.is_some() || cfg!(break_law7b);
    // The very same addresses need neither a known granule nor a backend that knows ranges.
    let identical = old.addr == range.addr && old.bytes == range.bytes;
    if !identical && !(known && ranges && touch(old, range)) {
        return false;
    }
    let end = old.last().max(range.last());
    old.addr = old.addr.min(range.addr);
    old.bytes = (end - old.addr).saturating_add(1);
    old.ttl = if old.ttl == range.ttl { old.ttl } else { 0 };
    old.leaf &= range.leaf;
    true
}

/// Whether two ranges overlap or lie side by side, so that their union is a range.
#[inline]
fn touch(a: &TlbiRange, b: &TlbiRange) -> bool {
    let side_by_side = |low: &TlbiRange, high: &TlbiRange| {
        low.addr <= high.addr && high.addr <= low.last().saturating_add(1)
    };
    side_by_side(a, b) || side_by_side(b, a)
}
