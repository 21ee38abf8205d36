//! Requests of one VMID that go to a backend in one call.

use crate::backend::WaiterId;
use crate::invalidation::Invalidation;
use crate::packed::{Packed, key};
use arrayvec::ArrayVec;
use smmu_core::range::TlbiRange;
use smmu_core::{Asid, StreamId, Vmid};
use std::ops::Range;

/// The most requests in a batch; also the most commands that a window looks at. As many as a host takes in
/// one call: sixteen blocks of 63, for each of which Linux's SMMUv3 driver waits once.
#[cfg(not(loom))]
pub const MAX_BATCH: usize = 1008;
/// Small enough for the stacks and the state space of a model.
#[cfg(loom)]
pub const MAX_BATCH: usize = 4;

/// The most rings that share a batch.
pub const MAX_WAITERS: usize = 16;

/// Which of the rings that share a batch need a request: bit `n` stands for the `n`th.
pub type Rings = u16;

/// One call's worth of work. Reused: room for [`MAX_BATCH`] requests is allocated once, and not on the stack.
#[derive(Clone, Debug)]
pub struct Batch {
    vmid: Vmid,
    waiters: ArrayVec<WaiterId, MAX_WAITERS>,
    requests: Vec<Packed>,
    /// Those requests that name a stream.
    devices: Vec<Invalidation>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            vmid: Vmid::default(),
            waiters: ArrayVec::from_iter([WaiterId::default()]),
            requests: Vec::with_capacity(MAX_BATCH),
            devices: Vec::with_capacity(MAX_BATCH),
        }
    }
}

impl Batch {
    /// An empty batch, of waiter zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch of the same VMID and waiters. Allocates when it is filled.
    #[must_use]
    pub fn like(other: &Self) -> Self {
        Self {
            vmid: other.vmid,
            waiters: other.waiters.clone(),
            requests: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// Empties the batch and gives it a VMID.
    pub fn restart(&mut self, vmid: Vmid) {
        self.vmid = vmid;
        self.requests.clear();
        self.devices.clear();
    }

    /// Says whose next barrier covers the batch. Kept by [`restart`](Self::restart).
    pub fn set_waiter(&mut self, waiter: WaiterId) {
        self.set_waiters([waiter]);
    }

    /// The same of several rings, at most [`MAX_WAITERS`]; more are not kept.
    pub fn set_waiters(&mut self, waiters: impl IntoIterator<Item = WaiterId>) {
        self.waiters.clear();
        self.waiters.extend(waiters.into_iter().take(MAX_WAITERS));
    }

    /// Whose next barriers cover the batch: a backend that keeps accesses apart by who has to wait
    /// for them heeds all of them.
    #[must_use]
    pub fn waiters(&self) -> &[WaiterId] {
        &self.waiters
    }

    /// Those of the [`waiters`](Self::waiters) that request `index` is done for; the barriers of the
    /// others need not wait for accesses that it alone concerns.
    pub fn waiters_of(&self, index: usize) -> impl Iterator<Item = WaiterId> + '_ {
        let rings = self.rings_of(index);
        let waiters = self.waiters.iter().enumerate();
        waiters.filter_map(move |(n, waiter)| (rings >> n & 1 != 0).then_some(*waiter))
    }

    /// Which rings need request `index`, by their places among the [`waiters`](Self::waiters).
    #[must_use]
    #[inline]
    pub fn rings_of(&self, index: usize) -> Rings {
        self.requests[index].rings
    }

    /// Adds a request of the batch's VMID, for every waiter. `origin` is the earliest command that it
    /// serves, as a position in the window: a failure is charged to that one.
    ///
    /// # Panics
    ///
    /// If the batch is full: a window has no more commands than a batch has room.
    #[inline]
    pub fn push(&mut self, request: Invalidation, origin: u32) {
        self.push_for(Rings::MAX, request, origin);
    }

    /// [`push`](Self::push) for some of the waiters only.
    ///
    /// # Panics
    ///
    /// If the batch is full.
    pub fn push_for(&mut self, rings: Rings, request: Invalidation, origin: u32) {
        if request.stream().is_none() {
            return self.push_packed(Packed::of(&request, origin, rings));
        }
        let addr = self.devices.len() as u64;
        self.devices.push(request);
        self.push_packed(Packed {
            key: key::ELSEWHERE,
            addr,
            bytes: 0,
            origin,
            rings,
        });
    }

    #[inline(always)]
    pub(crate) fn push_packed(&mut self, request: Packed) {
        assert!(self.requests.len() < MAX_BATCH, "the batch is full");
        self.requests.push(request);
    }

    /// What names a stream is [elsewhere](key::ELSEWHERE).
    #[inline]
    pub(crate) fn packed(&self) -> &[Packed] {
        &self.requests
    }

    #[inline]
    pub(crate) fn unpack(&self, request: &Packed) -> Invalidation {
        if request.key & key::KIND == key::ELSEWHERE {
            self.devices[request.addr as usize]
        } else {
            request.unpack()
        }
    }

    /// The VMID of every request.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        self.vmid
    }

    /// The requests, in ring order of what they serve.
    #[must_use]
    pub fn requests(
        &self,
    ) -> impl ExactSizeIterator<Item = Invalidation> + DoubleEndedIterator + Clone + '_ {
        self.requests.iter().map(|request| self.unpack(request))
    }

    /// Request `index` of [`requests`](Self::requests).
    ///
    /// # Panics
    ///
    /// If there are no so many.
    #[must_use]
    #[inline]
    pub fn request(&self, index: usize) -> Invalidation {
        self.unpack(&self.requests[index])
    }

    /// The requests of a part of the batch, as far as they are there, each if it is of stage 1's addresses: the
    /// ASID, if it is of one, and the range. For who encodes many: what [`request`](Self::request) returns is
    /// written field by field, and moving it at once makes the processor wait for that.
    #[inline(always)]
    pub fn stage_one_addresses(
        &self,
        part: Range<usize>,
    ) -> impl Iterator<Item = Option<(Option<Asid>, TlbiRange)>> + '_ {
        let requests = self.requests.get(part).unwrap_or_default();
        requests.iter().map(|request| {
            let plain = request.key & (key::KIND | key::STAGE) == key::ADDRESSES;
            plain.then(|| request.asid_and_range())
        })
    }

    /// Where request `index` comes from.
    #[must_use]
    pub fn origin(&self, index: usize) -> u32 {
        self.requests[index].origin
    }

    /// Drops the first `count` requests: they are done.
    pub fn retire(&mut self, count: usize) {
        self.requests.drain(..count);
    }

    /// Drops the requests that name `stream`, or all: nothing of it is used any more. Tells which rings needed
    /// each.
    pub(crate) fn retire_of(&mut self, stream: Option<StreamId>, mut tell: impl FnMut(Rings)) {
        let devices = &self.devices;
        self.requests.retain(|request| {
            let named = (request.key & key::KIND == key::ELSEWHERE)
                .then(|| devices[request.addr as usize].stream())
                .flatten();
            let is_dropped = stream.is_none() || named == stream;
            if is_dropped {
                tell(request.rings);
            }
            !is_dropped
        });
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::invalidation::{Scope, Stage};
    use smmu_core::range::Granule;

    fn all() -> Invalidation {
        Invalidation {
            vmid: Vmid(0),
            stage: Stage::Both,
            scope: Scope::All,
        }
    }

    fn waiters(batch: &Batch, index: usize) -> Vec<u32> {
        batch.waiters_of(index).map(|waiter| waiter.0).collect()
    }

    #[test]
    fn law3_every_request_says_whose_it_is() {
        let mut batch = Batch::new();
        batch.set_waiters([7, 8, 9].map(WaiterId));
        batch.push(all(), 0);
        batch.push_for(0b101, all(), 1);
        batch.push(all(), 2);
        assert_eq!(waiters(&batch, 0), [7, 8, 9]);
        assert_eq!(waiters(&batch, 1), [7, 9]);
        batch.retire(1);
        assert_eq!(waiters(&batch, 0), [7, 9]);
        assert_eq!(waiters(&batch, 1), [7, 8, 9]);
        assert_eq!(Batch::like(&batch).waiters(), batch.waiters());
    }

    #[test]
    fn addresses_in_registers_are_those_of_the_request() {
        let range = TlbiRange {
            addr: 0x7000,
            bytes: 0x2000,
            granule: Some(Granule::K4),
            ttl: 3,
            leaf: true,
        };
        for asid in [None, Some(Asid(0xFFFF))] {
            for stage in [Stage::One, Stage::Two, Stage::El2] {
                let mut batch = Batch::new();
                let vmid = Vmid(0);
                let scope = Scope::Addresses { asid, range };
                batch.push(Invalidation { vmid, stage, scope }, 0);
                batch.push(all(), 1);
                let seen = |part| -> Vec<_> { batch.stage_one_addresses(part).collect() };
                let first = (stage == Stage::One).then_some((asid, range));
                assert_eq!(seen(0..2), [first, None]);
                assert_eq!(seen(1..2), [None]);
                assert_eq!(seen(1..3), [], "there are no so many");
            }
        }
    }
}
