//! What becomes of the traffic of a frame's streams, and who has been told.
//!
//! A register write tells the backends, which must not wait, and leaves it to the worker of the
//! frame's own command queue to tell the VMM about every bound stream, in ring order with the CFGI
//! commands that come through it. The acknowledge register follows when both are done.

use crate::seams::StreamHost;
use crate::streams::Streams;
use dispatch::{Backend, Traffic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;

#[derive(Default)]
struct Present {
    /// Nothing until a register frame says something: then the VMM sets its backends up itself.
    traffic: Option<Traffic>,
    backends: Vec<Arc<dyn Backend>>,
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
        if let Some(traffic) = &present.traffic {
            backend.traffic_changed(traffic);
        }
        present.backends.push(backend);
    }

    pub(crate) fn now(&self) -> Option<Traffic> {
        self.present().traffic
    }

    /// Tells every backend. The caller has the VMM told.
    pub(crate) fn change(&self, traffic: Traffic) {
        let mut present = self.present();
        present.traffic = Some(traffic);
        for backend in &present.backends {
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
        let settled = |b: &Arc<dyn Backend>| b.traffic_settled() || cfg!(break_law3f);
        told && self.present().backends.iter().all(settled)
    }

    /// Whether the VMM has been told about every change.
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) == self.changes.load(Ordering::Acquire)
    }

    /// Tells the VMM about every stream, if there is anything to tell. Called by one worker.
    #[inline]
    pub(crate) fn tell(&self, streams: &Snapshot<Streams>, host: &dyn StreamHost) {
        let changes = self.changes.load(Ordering::Acquire);
        if self.told.load(Ordering::Relaxed) != changes {
            self.tell_changes(changes, &streams.read(), host);
        }
    }

    #[cold]
    fn tell_changes(&self, changes: u64, streams: &Streams, host: &dyn StreamHost) {
        // At least as new as `changes`; if it is newer, it is told once more.
        let traffic = self.present().traffic;
        if let Some(traffic) = traffic {
            for stream in streams.iter() {
                host.traffic_changed(stream, &traffic);
            }
        }
        self.told.store(changes, Ordering::Release);
    }
}
