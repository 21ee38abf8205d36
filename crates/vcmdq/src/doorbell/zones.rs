//! The zones of a frame: what a guest wrote there comes before what it does elsewhere.

use crate::seams::CoalescedZone;
use std::convert::Infallible;
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicBool, Ordering};
use vcmdq_sync::snapshot::Snapshot;

/// See the [module](self).
pub(crate) struct Zones {
    /// Whether there is any; only ever set.
    any: AtomicBool,
    zones: Snapshot<Vec<Arc<dyn CoalescedZone>>>,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            zones: Snapshot::new(Vec::new()),
        }
    }
}

impl Zones {
    /// Control path.
    pub(crate) fn add(&self, zone: &Arc<dyn CoalescedZone>) {
        let added = self.zones.replace(|zones| {
            let mut zones = zones.clone();
            zones.push(zone.clone());
            Ok::<_, Infallible>(zones)
        });
        match added {
            Ok(()) => self.any.store(true, Ordering::Release),
            Err(never) => match never {},
        }
    }

    /// Control path. When it returns, nobody calls the zone from here.
    pub(crate) fn remove(&self, zone: &Arc<dyn CoalescedZone>) {
        let Ok(()) = self.zones.replace(|zones| {
            let mut zones = zones.clone();
            zones.retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(zone)));
            Ok::<_, Infallible>(zones)
        });
    }

    /// Before anything that the guest could tell from a PROD that it wrote earlier.
    #[inline]
    pub(crate) fn drain(&self) {
        if self.any.load(Ordering::Acquire) {
            self.zones.read().iter().for_each(|zone| zone.drain());
        }
    }
}
