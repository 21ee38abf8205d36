//! Guards, and answers of devices in other processes, that keep a SYNC waiting for too long: first the
//! device is told, later the VMM (law 3).
//!
//! Nothing else happens: the SYNC goes on waiting, because completing it would be a lie. A device
//! that is told ends its access or aborts it; a VMM that is told may reset the device.

use super::{Software, SoftwareSettings};
use crate::backend::WaiterId;
use smmu_core::guard::{Mark, Use};
use smmu_core::{StreamId, Vmid};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;

/// Told of a guard that a SYNC has waited for longer than the instance's limit.
pub trait Overdue: Send + Sync {
    /// `used` is what the guard says that it uses; `waited` how long the SYNC has waited. Called
    /// from a worker: must not block. It may end the access itself, and drop ports.
    fn overdue(&self, used: &Use, waited: Duration);
}

#[derive(Clone)]
struct Told {
    id: u64,
    stream: StreamId,
    tell: Arc<dyn Overdue>,
}

/// Who is told.
#[derive(Clone, Default)]
struct Registered {
    devices: Vec<Told>,
    host: Option<Arc<dyn Overdue>>,
}

/// Limits, and who is told when they are passed.
pub(super) struct Patience {
    device: Duration,
    host: Duration,
    /// How long a SYNC waits for a device's answer.
    atc: Duration,
    next: AtomicU64,
    registered: Snapshot<Registered>,
}

impl Patience {
    pub(super) fn new(settings: &SoftwareSettings) -> Self {
        let device = settings.guard_age;
        Self {
            device,
            host: settings.guard_age_host.max(device),
            atc: settings.atc_timeout,
            next: AtomicU64::new(0),
            registered: Snapshot::new(Registered::default()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Registered)) {
        let Ok(()) = self.registered.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }
}

/// A device's registration; ends when it is dropped.
pub(super) struct Complaint {
    core: Arc<Software>,
    id: u64,
}

impl Complaint {
    pub(super) fn new(core: &Arc<Software>, stream: StreamId, tell: Arc<dyn Overdue>) -> Self {
        let id = core.patience.next.fetch_add(1, Ordering::Relaxed);
        core.patience
            .change(|all| all.devices.push(Told { id, stream, tell }));
        Self {
            core: core.clone(),
            id,
        }
    }
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Complaint").field(&self.id).finish()
    }
}

impl Drop for Complaint {
    fn drop(&mut self) {
        let id = self.id;
        self.core
            .patience
            .change(|all| all.devices.retain(|told| told.id != id));
    }
}

impl Software {
    /// Registers the VMM, which is told of guards past the second limit. Control path.
    pub fn set_overdue_host(&self, host: Arc<dyn Overdue>) {
        self.patience.change(|all| all.host = Some(host));
    }

    /// See [`Backend::overdue`](crate::Backend::overdue).
    pub(super) fn tell_overdue(&self, waiter: WaiterId, waited: Duration) -> Option<Duration> {
        let Patience {
            device, host, atc, ..
        } = self.patience;
        let limits = [device, host, atc];
        let next = limits.into_iter().filter(|limit| *limit > waited).min();
        if waited >= device {
            self.atcs.tell_overdue(waiter, waited);
        }
        if waited >= atc {
            self.atcs.time_out(waiter);
        }
        if waited < device {
            return next;
        }
        let mut late: Vec<Use> = Vec::new();
        self.guards
            .overdue(Mark::of(waiter.0), |used| late.push(*used));
        let remotes = self.remotes.tell_overdue(waiter, waited);
        // A copy: whoever is told may change the register.
        let Registered { devices, host: vmm } = Registered::clone(&self.patience.registered.read());
        for used in &late {
            let concerned = |told: &&Told| told.stream == used.stream;
            for told in devices.iter().filter(concerned) {
                told.tell.overdue(used, waited);
            }
            if let Some(vmm) = vmm.as_ref().filter(|_| waited >= host) {
                vmm.overdue(used, waited);
            }
        }
        for stream in remotes {
            if let Some(vmm) = vmm.as_ref().filter(|_| waited >= host) {
                // What was lent may be anything of the stream's.
                vmm.overdue(&Use::anything(stream, Vmid::default()), waited);
            }
        }
        next
    }
}
