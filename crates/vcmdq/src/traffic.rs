//! What becomes of the traffic of a frame's streams, and who has been told.
//!
//! A register write tells the backends, which must not wait, and leaves it to the worker of the
//! frame's own command queue to tell the VMM about every bound stream, in ring order with the CFGI
//! commands that come through it. The acknowledge register follows when both are done.

use crate::budget::{self, Budget};
use crate::seams::StreamHost;
use crate::streams::Streams;
use dispatch::{Backend, Traffic};
use smmu_core::StreamId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;

#[derive(Default)]
struct Present {
    /// Nothing until a register frame says something: then the VMM sets its backends up itself.
    traffic: Option<Traffic>,
    /// CR0.ATSCHK.
    ats_check: bool,
    backends: Vec<Arc<dyn Backend>>,
}

/// How far the VMM has been told: thousands of streams take more than a slice (law 8).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Telling {
    changes: u64,
    from: StreamId,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct FrameTraffic {
    present: Mutex<Present>,
    /// Counts changes.
    changes: AtomicU64,
    /// As many of them as the VMM has been told.
    told: AtomicU64,
}

impl FrameTraffic {
    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new instance: it goes by what is present now.
    pub(crate) fn add(&self, backend: Arc<dyn Backend>) {
        let mut present = self.present();
        backend.set_ats_check(present.ats_check);
        if let Some(traffic) = &present.traffic {
            backend.traffic_changed(traffic);
        }
        present.backends.push(backend);
    }

    pub(crate) fn now(&self) -> Option<Traffic> {
        self.present().traffic
    }

    /// Tells every backend. The caller has the VMM told.
    pub(crate) fn change(&self, traffic: Traffic, ats_check: bool) {
        let mut present = self.present();
        present.traffic = Some(traffic);
        present.ats_check = ats_check;
        for backend in &present.backends {
            backend.set_ats_check(ats_check);
            backend.traffic_changed(&traffic);
        }
        // Release pairs with the acquire in `tell`.
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether the VMM has been told and no access goes on by anything older.
    pub(crate) fn is_settled(&self) -> bool {
        // Acquire: what the VMM did when it was told has happened.
        let told = self.told.load(Ordering::Acquire) == self.changes.load(Ordering::Acquire);
        // law3f: an exchange is acknowledged while accesses go on by what was there before.
        let settled =
            |b: &Arc<dyn Backend>| b.traffic_settled() || vcmdq_sync::broken!(break_law3f);
        told && self.present().backends.iter().all(settled)
    }

    /// Whether the VMM has been told about every change.
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) == self.changes.load(Ordering::Acquire)
    }

    /// Tells the VMM about every stream, if there is anything to tell, as far as the budget lasts; `at`
    /// is kept from one time to the next. Whether nothing is left to tell. Called by one worker.
    #[inline]
    pub(crate) fn tell(
        &self,
        at: &mut Telling,
        streams: &Snapshot<Streams>,
        host: &dyn StreamHost,
        budget: &mut Budget,
    ) -> bool {
        let changes = self.changes.load(Ordering::Acquire);
        self.told.load(Ordering::Relaxed) == changes
            || self.tell_changes(changes, at, &streams.read(), host, budget)
    }

    #[cold]
    fn tell_changes(
        &self,
        changes: u64,
        at: &mut Telling,
        streams: &Streams,
        host: &dyn StreamHost,
        budget: &mut Budget,
    ) -> bool {
        if at.changes != changes {
            let from = StreamId(0);
            *at = Telling { changes, from };
        }
        // At least as new as `changes`; if it is newer, it is told once more. The lock is given up before
        // anybody is told: a VMM that takes long must not hold up the register write of a vCPU.
        let traffic = self.now();
        if let Some(traffic) = traffic {
            for stream in streams.within(at.from..=StreamId(u32::MAX)) {
                if budget.is_spent() {
                    at.from = stream;
                    return false;
                }
                host.traffic_changed(stream, &traffic);
                budget.spend(budget::STREAM + budget::CALLBACK);
            }
        }
        self.told.store(changes, Ordering::Release);
        true
    }
}
