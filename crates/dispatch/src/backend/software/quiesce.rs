//! Which guards an invalidation could match, and who waits for them (law 3).

use super::Software;
use crate::backend::{Barrier, WaiterId};
use crate::batch::Batch;
use crate::invalidation::{Invalidation, Scope, Stage};
use crate::packed::key;
use smmu_core::command::Cfgi;
use smmu_core::guard::{Interest, Mark, Use};

/// Whether a request could remove what a guard uses. Wider than what the translation cache
/// removes is allowed, narrower is not.
pub(super) fn could_match(request: &Invalidation, used: &Use) -> bool {
    if request.stage != Stage::One {
        // Entries that combine both stages do not say which intermediate addresses they used.
        return used.vmid == request.vmid || request.scope == Scope::All;
    }
    match request.scope {
        Scope::All => true,
        Scope::Vmid => used.vmid == request.vmid,
        Scope::Context(asid) => used.in_context(request.vmid, asid, false),
        Scope::ContextAndGlobals(asid) => used.in_context(request.vmid, asid, true),
        Scope::Addresses { asid, range } => used.touched_by(request.vmid, asid, &range),
        // An access by a translation that the device keeps says from which addresses.
        Scope::DeviceTlb {
            stream, addr, size, ..
        } => used.stream == stream && used.touches(addr, last_of(addr, size)),
        Scope::ContextTable { stream, .. } => used.stream == stream,
    }
}

/// The last address of an invalidation of a device's cache.
fn last_of(addr: u64, size: u8) -> u64 {
    match 4096u64.checked_shl(size.into()) {
        Some(bytes) if bytes != 0 && size < 52 => addr | (bytes - 1),
        _ => u64::MAX,
    }
}

/// Whose guards are to be looked at for a request: all that it [could match](could_match).
pub(super) fn interest(request: &Invalidation) -> Interest {
    if request.stage != Stage::One {
        return Interest::EVERYTHING;
    }
    let of = |asid| Interest::of(request.vmid, asid);
    match request.scope {
        Scope::Context(asid) => of(asid),
        Scope::ContextAndGlobals(asid) => of(asid).and_globals(),
        Scope::Addresses { asid, .. } => {
            asid.map_or(Interest::EVERYTHING, |asid| of(asid).and_globals())
        }
        Scope::All | Scope::Vmid | Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {
            Interest::EVERYTHING
        }
    }
}

/// Who has to wait for a guard, of several rings that share a batch: those whose requests could match
/// it, and nobody else.
#[cold]
fn marks(batch: &Batch, used: &Use) -> Option<Mark> {
    let matching = batch.requests().enumerate();
    let matching = matching.filter(|(_, request)| could_match(request, used));
    let waiters = matching.flat_map(|(index, _)| batch.waiters_of(index));
    waiters
        .map(|WaiterId(ring)| Mark::of(ring))
        .reduce(Mark::and)
}

impl Software {
    /// After a batch: marks the guards that its rings' next SYNCs have to wait for, and tells the
    /// watches.
    #[inline]
    pub(super) fn mark_batch(&self, batch: &Batch) {
        let interests = batch
            .packed()
            .iter()
            .map(|request| match request.asid_of_addresses() {
                Some(asid) => Interest::of(key::vmid(request.key), asid).and_globals(),
                None => interest(&batch.unpack(request)),
            });
        let whom = interests.fold(Interest::NOTHING, Interest::or);
        // Also if no guard was ever used: its fence is what orders the first one's look behind the
        // invalidation. Model: `law3_first_guard_against_sync`.
        if let &[WaiterId(ring)] = batch.waiters() {
            self.guards.mark(Mark::of(ring), whom, |used| {
                batch.requests().any(|r| could_match(&r, used))
            });
        } else {
            self.guards.mark_each(whom, |used| marks(batch, used));
        }
        // What is watched is the SMMU's translation, not one that a device keeps.
        let concerns = |r: &Invalidation, used: &Use| {
            !matches!(r.scope, Scope::DeviceTlb { .. }) && could_match(r, used)
        };
        self.watches
            .tell(|used| batch.requests().any(|r| concerns(&r, used)));
        self.remotes.tell_batch(batch, whom);
    }

    pub(super) fn mark_configuration(&self, change: &Cfgi, waiter: WaiterId) {
        self.guards
            .mark(Mark::of(waiter.0), Interest::EVERYTHING, |used| {
                change.concerns(used.stream)
            });
        self.watches.tell(|used| change.concerns(used.stream));
        self.remotes.tell_configuration(change, waiter);
    }

    pub(super) fn barrier_of(&self, waiter: WaiterId) -> Barrier {
        if !self.guards.is_unused() && !self.guards.quiesced(Mark::of(waiter.0)) {
            return Barrier::Pending;
        }
        if !self.remotes.are_quiet(waiter) {
            return Barrier::Pending;
        }
        self.atcs.barrier(waiter)
    }

    /// Waits until every guard that is open now has been closed, not for later ones, whatever SYNCs
    /// wait for them; and until remotes have given back what they were lent. Control paths only.
    pub(super) fn wait_for_all_guards(&self) {
        let mut earlier = self.guards.open_now();
        // Behind the fence in there, as a watch expects.
        self.watches.tell(|_| true);
        self.remotes.tell_everything(|_| true);
        while !(self.guards.have_closed(&mut earlier) && self.remotes.have_given_back()) {
            vcmdq_sync::thread::yield_now();
        }
    }

    pub(super) fn wake_waiters(&self) {
        if let Some(wake) = self.wake.get() {
            self.guards.wake(|ring| wake.wake(WaiterId(ring)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smmu_core::range::TlbiRange;
    use smmu_core::{Asid, StreamId, Vmid};

    fn any_use() -> impl Strategy<Value = Use> {
        let asid = proptest::option::of((0u16..4).prop_map(Asid));
        let pages = (0u64..4, 0u64..4);
        (0u32..3, 0u16..2, asid, any::<bool>(), pages).prop_map(
            |(stream, vmid, asid, global, (first, last))| Use {
                stream: StreamId(stream),
                vmid: Vmid(vmid),
                asid,
                global,
                first: first << 12,
                last: last << 12 | 0xFFF,
            },
        )
    }

    fn any_request() -> impl Strategy<Value = Invalidation> {
        let asid = || (0u16..4).prop_map(Asid);
        let range = |(first, pages): (u64, u64)| TlbiRange {
            addr: first << 12,
            bytes: pages << 12,
            granule: None,
            ttl: 0,
            leaf: true,
        };
        let pages = (0u64..4, 1u64..4).prop_map(range);
        let stream = || (0u32..3).prop_map(StreamId);
        let scope = prop_oneof![
            Just(Scope::All),
            Just(Scope::Vmid),
            asid().prop_map(Scope::Context),
            asid().prop_map(Scope::ContextAndGlobals),
            (proptest::option::of(asid()), pages)
                .prop_map(|(asid, range)| Scope::Addresses { asid, range }),
            stream().prop_map(|stream| Scope::DeviceTlb {
                stream,
                pasid: None,
                global: true,
                addr: 0,
                size: 52,
            }),
            stream().prop_map(|stream| Scope::ContextTable {
                stream,
                pasid: None,
                leaf: false,
            }),
        ];
        let stage = prop_oneof![Just(Stage::One), Just(Stage::Two), Just(Stage::Both)];
        (0u16..2, stage, scope).prop_map(|(vmid, stage, scope)| Invalidation {
            vmid: Vmid(vmid),
            stage,
            scope,
        })
    }

    proptest! {
        #[test]
        fn law3_what_a_request_could_match_is_looked_at(used in any_use(), request in any_request()) {
            if could_match(&request, &used) {
                prop_assert!(interest(&request).meets(used.interest()));
            }
        }
    }
}
