//! Invalidations of what devices keep (ATC_INV): told to the device, answered later, from any
//! thread (IHI 0070, 3.9 and 4.5.1).
//!
//! | device | seam |
//! |---|---|
//! | forgets at once, inside the call | [`DeviceCache`](super::DeviceCache) |
//! | answers when its own accesses have ended | [`AtcTarget`] |
//!
//! A SYNC waits for the answers that its ring's ATC_INVs need. After
//! [`SoftwareSettings::atc_timeout`](super::SoftwareSettings) it fails: CERROR_ATC_INV at the SYNC,
//! and the guest goes on by acknowledging the error.

use super::Software;
use super::outstanding::{Due, Ended, Outstanding};
use crate::backend::{Barrier, Traffic, WaiterId, Wake};
use crate::batch::MAX_WAITERS;
use crate::invalidation::{Invalidation, Scope};
use arrayvec::ArrayVec;
use smmu_core::StreamId;
use smmu_core::command::AtcInv;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;

/// A device, or a part of one, with a cache of translations of its own.
///
/// The device's duty, as PCIe has it: when it answers, no access uses what was to be forgotten, and
/// no translation that it asked for before is put into the cache behind the answer.
pub trait AtcTarget: Send + Sync {
    /// Forget what `what` covers: addresses of one PASID; with `global`, or without a substream, of
    /// all. Called from a worker: must not block, nor call the engine. May answer before it returns,
    /// or hand the answer on to another thread.
    fn invalidate(&self, what: &AtcInv, answer: AtcAnswer);

    /// A SYNC has waited for `waited` for this device, which has not answered everything. Called
    /// from a worker: must not block.
    fn overdue(&self, waited: Duration) {
        let _ = waited;
    }
}

/// What became of a device's invalidations. All counts but `missing` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtcMetrics {
    /// Told to the device.
    pub told: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not going to be answered: the device said so, or dropped the answer.
    pub failed: u64,
    /// Answered when no SYNC waited for it any more.
    pub late: u64,
    /// Of the failed ones: not even told, because the device had left too many unanswered.
    pub refused: u64,
    /// Not answered so far.
    pub missing: u64,
}

#[derive(Debug, Default)]
struct Counters {
    told: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    /// Behind everything else in its target: bounds what a guest can have a device keep (law 8).
    missing: AtomicU64,
}

/// Relaxed, as all counts here: they order nothing.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Target {
    device: Arc<dyn AtcTarget>,
    counters: Arc<Counters>,
}

impl Clone for Target {
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            counters: self.counters.clone(),
        }
    }
}

/// The rings that share a request.
pub(super) type Waiters = ArrayVec<WaiterId, MAX_WAITERS>;

type Targets = BTreeMap<StreamId, Vec<Target>>;

/// What answers need, however long they take.
#[derive(Default)]
struct Shared {
    /// Allocated with the first device.
    outstanding: OnceLock<Outstanding>,
    wake: OnceLock<Arc<dyn Wake>>,
}

impl Shared {
    fn end(&self, due: Due, answered: bool) -> Ended {
        let Some(outstanding) = self.outstanding.get() else {
            return Ended::Late;
        };
        let ended = outstanding.end(due, answered);
        if let (Ended::Wakes(ring), Some(wake)) = (ended, self.wake.get()) {
            wake.wake(ring);
        }
        ended
    }
}

/// The devices' caches of one instance.
pub(super) struct Atcs {
    shared: Arc<Shared>,
    targets: Snapshot<Targets>,
    depth: u64,
}

/// A device's answer to one invalidation: [`complete`](Self::complete) it when nothing uses the
/// translations any more, on any thread. Never blocks. An answer that is dropped says that there
/// will be none.
#[must_use = "an answer that is dropped fails the guest's SYNC"]
pub struct AtcAnswer {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    due: ArrayVec<Due, MAX_WAITERS>,
    answered: bool,
}

impl fmt::Debug for AtcAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtcAnswer").field("due", &self.due).finish()
    }
}

impl AtcAnswer {
    /// The device has forgotten the translations and nothing uses them.
    pub fn complete(mut self) {
        self.answered = true;
    }

    /// The device cannot say so: the SYNC behind fails.
    pub fn fail(self) {
        drop(self);
    }
}

impl Drop for AtcAnswer {
    fn drop(&mut self) {
        self.counters.missing.fetch_sub(1, Ordering::Relaxed);
        let mut counted = false;
        for due in &self.due {
            counted |= self.shared.end(*due, self.answered) != Ended::Late;
        }
        let Counters {
            answered,
            failed,
            late,
            ..
        } = &*self.counters;
        count(match (counted, self.answered) {
            (false, _) => late,
            (true, true) => answered,
            (true, false) => failed,
        });
    }
}

impl Atcs {
    pub(super) fn new(depth: u32) -> Self {
        Self {
            shared: Arc::default(),
            targets: Snapshot::new(Targets::new()),
            depth: depth.into(),
        }
    }

    pub(super) fn attach(&self, wake: Arc<dyn Wake>) {
        let _first_wins = self.shared.wake.set(wake);
    }

    fn change(&self, change: impl FnOnce(&mut Targets)) {
        let Ok(()) = self.targets.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }

    /// Tells the stream's devices, and notes for whom they answer.
    fn tell(&self, what: &AtcInv, waiters: &[WaiterId]) {
        let Some(outstanding) = self.shared.outstanding.get() else {
            return;
        };
        for target in self.targets.read().get(&what.stream).into_iter().flatten() {
            let answer = AtcAnswer {
                shared: self.shared.clone(),
                counters: target.counters.clone(),
                due: waiters
                    .iter()
                    .map(|ring| outstanding.begin(*ring))
                    .collect(),
                answered: false,
            };
            let missing = target.counters.missing.fetch_add(1, Ordering::Relaxed);
            if missing >= self.depth {
                count(&target.counters.refused);
                answer.fail();
                continue;
            }
            count(&target.counters.told);
            target.device.invalidate(what, answer);
        }
    }

    #[inline]
    pub(super) fn barrier(&self, waiter: WaiterId) -> Barrier {
        match self.shared.outstanding.get() {
            None => Barrier::Done,
            Some(outstanding) => outstanding.barrier(waiter),
        }
    }

    #[inline]
    pub(super) fn take_unanswered(&self, waiter: WaiterId) -> bool {
        let outstanding = self.shared.outstanding.get();
        outstanding.is_some_and(|all| all.take_failed(waiter))
    }

    pub(super) fn forget(&self, waiter: WaiterId) {
        if let Some(outstanding) = self.shared.outstanding.get() {
            outstanding.forget(waiter);
        }
    }

    /// The ring does not wait any longer.
    pub(super) fn time_out(&self, waiter: WaiterId) {
        let Some(outstanding) = self.shared.outstanding.get() else {
            return;
        };
        if let ((1.., true), Some(wake)) = (outstanding.time_out(waiter), self.shared.wake.get()) {
            wake.wake(waiter);
        }
    }

    /// Tells the devices that have something left to answer. `waiter` waits for one of them.
    pub(super) fn tell_overdue(&self, waiter: WaiterId, waited: Duration) {
        if self.barrier(waiter) == Barrier::Done {
            return;
        }
        // A copy: whoever is told may change the register.
        let targets = Targets::clone(&self.targets.read());
        for target in targets.values().flatten() {
            if target.counters.missing.load(Ordering::Relaxed) != 0 {
                target.device.overdue(waited);
            }
        }
    }
}

impl Software {
    /// Registers a device's cache beside those that the stream has already. From then on ATC_INVs of
    /// the stream reach it. Control path: may wait for a batch under way.
    pub fn attach_atc(&self, stream: StreamId, device: Arc<dyn AtcTarget>) {
        self.atcs.shared.outstanding.get_or_init(Outstanding::new);
        self.atcs.change(|targets| {
            targets.entry(stream).or_default().push(Target {
                device,
                counters: Arc::default(),
            });
        });
    }

    /// Forgets the stream's caches that are this device's. When it returns no batch calls it any more;
    /// what it has not answered by then is still its to answer. Control path.
    pub fn detach_atc(&self, stream: StreamId, device: &Arc<dyn AtcTarget>) {
        self.atcs.change(|targets| {
            if let Some(own) = targets.get_mut(&stream) {
                own.retain(|target| !Arc::ptr_eq(&target.device, device));
            }
            targets.retain(|_, own| !own.is_empty());
        });
    }

    /// What became of the invalidations of a stream's [`AtcTarget`]s that are attached now. From any
    /// thread.
    #[must_use]
    pub fn atc_metrics(&self, stream: StreamId) -> AtcMetrics {
        let targets = self.atcs.targets.read();
        let mut sum = AtcMetrics::default();
        for Target { counters, .. } in targets.get(&stream).into_iter().flatten() {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            sum.told += read(&counters.told);
            sum.answered += read(&counters.answered);
            sum.failed += read(&counters.failed);
            sum.late += read(&counters.late);
            sum.refused += read(&counters.refused);
            sum.missing += read(&counters.missing);
        }
        sum
    }

    /// Tells those who keep translations. With SMMUEN=0 the command is ignored (4.5.1).
    pub(super) fn invalidate_atcs(&self, request: &Invalidation, waiters: &[WaiterId]) {
        let Scope::DeviceTlb {
            stream,
            pasid: substream,
            global,
            addr,
            size,
        } = request.scope
        else {
            return;
        };
        if matches!(self.world.read().traffic, Some(Traffic::Disabled(..))) {
            return;
        }
        let what = AtcInv {
            stream,
            substream,
            global,
            addr,
            size,
        };
        self.atcs.tell(&what, waiters);
    }
}
