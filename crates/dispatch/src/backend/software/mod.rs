//! The software SMMU as a backend: batches act on its translation cache and on the caches of
//! the devices behind it, and device models translate through its [`Port`]s.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the backend: batches, configuration, memory |
//! | `port.rs` | a device's way in: guard, configuration, translation |
//! | `owned.rs` | a guard that can be kept and sent |
//! | `watch.rs` | a translation that is kept without a guard |
//! | `remote/` | translations lent to devices in other processes |
//! | `overdue.rs` | guards that are open for too long |
//! | `execute.rs` | which entries a batch takes |
//! | `costs.rs` | what its work costs |
//! | `port/ats.rs` | translations that a device keeps, and accesses by them |
//! | `atc.rs` | invalidations of what devices keep |
//! | `outstanding.rs` | which of those have not been answered |
//! | `context.rs` | the configuration that a port has read |
//! | `resolve.rs` | from there to an output: bypass, cache, walk |
//! | `nested.rs` | the same with a stage 2 of the guest's |
//! | `quiesce.rs` | which guards a SYNC has to wait for |

mod atc;
mod context;
mod costs;
mod execute;
mod nested;
mod output;
mod outstanding;
mod overdue;
mod owned;
mod port;
mod quiesce;
mod remote;
mod resolve;
mod watch;

pub use atc::{AtcAnswer, AtcMetrics, AtcTarget};
pub use output::Output;
pub use overdue::Overdue;
pub use owned::OwnedGuard;
pub use port::ats::{AtsGrant, TranslatedAccess};
pub use port::{Denied, Guarded, Port};
pub use remote::{
    IovaRange, Loan, NotLent, Notice, Notifier, Remote, RemoteHandle, RemoteMetrics,
    RemoteSettings, Wanted,
};
pub use watch::{Stale, Watched};

use super::{Backend, BackendCapabilities, Barrier, Rejected, Traffic, WaiterId, Wake};
use crate::batch::Batch;
use crate::costs::Costs;
use atc::Atcs;
use overdue::Patience;
use remote::Remotes;
use smmu_core::command::Cfgi;
use smmu_core::config::generation::ConfigGenerations;
use smmu_core::guard::{Earlier, Guards, Interest, Mark, Use};
use smmu_core::tlb::{Entry, FillTicket, Hit, Signature, Tlb, TlbSettings};
use smmu_core::translate::Setup;
use smmu_core::{Asid, GuestMemory, StreamId, SubstreamId, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::snapshot::Snapshot;
use vcmdq_sync::sync::{Mutex, MutexGuard};
use watch::Watches;

/// A device model that keeps translations of its own (an ATC, as ATS devices do).
pub trait DeviceCache: Send + Sync {
    /// Forgets `2^size` pages of 4 KiB from `addr` on (`size` 52 is everything), of one PASID,
    /// with `global` of all, with `None` of all and of requests without. When it returns `Ok`,
    /// they are no longer used. Called from a worker: must not block.
    fn invalidate(
        &self,
        pasid: Option<SubstreamId>,
        global: bool,
        addr: u64,
        size: u8,
    ) -> Result<(), DeviceTimeout>;
}

/// The device did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device did not answer the invalidation of its translation cache")]
pub struct DeviceTimeout;

type Devices = BTreeMap<StreamId, Arc<dyn DeviceCache>>;

/// Streams that may no longer translate.
#[derive(Clone, Debug, Default)]
struct Closed {
    all: bool,
    streams: BTreeSet<StreamId>,
}

/// What translations start from; exchanged whole.
#[derive(Clone, Default)]
struct World {
    memory: Option<Arc<dyn GuestMemory>>,
    traffic: Option<Traffic>,
}

/// Sizes of a software backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftwareSettings {
    /// The translation cache.
    pub tlb: TlbSettings,
    /// That of contexts of EL2, which few guests have. Default: 1,024 entries, some 50 KiB.
    pub el2: TlbSettings,
    /// Guards that can be open at the same time, 1 to 4096: a port takes one. 128 bytes each.
    pub guards: usize,
    /// How long a SYNC waits for a guard until the device is told ([`Port::on_overdue`]).
    pub guard_age: Duration,
    /// How long until the VMM is told, too ([`Software::set_overdue_host`]). Linux gives up a
    /// SYNC after one second of its own clock.
    pub guard_age_host: Duration,
    /// How long a SYNC waits for a device to answer an invalidation of its own cache
    /// ([`AtcTarget`]) until it fails (CERROR_ATC_INV).
    pub atc_timeout: Duration,
    /// How many invalidations a device may leave unanswered at a time; what is more fails at once.
    pub atc_depth: u32,
}

impl Default for SoftwareSettings {
    fn default() -> Self {
        Self {
            tlb: TlbSettings::default(),
            el2: TlbSettings {
                log2_entries: 10,
                log2_asids: 8,
            },
            guards: 256,
            guard_age: Duration::from_millis(100),
            guard_age_host: Duration::from_millis(500),
            atc_timeout: Duration::from_millis(500),
            atc_depth: 4096,
        }
    }
}

/// The software backend of one instance.
pub struct Software {
    tlb: Tlb,
    /// EL2 has no VMIDs, and shares its ASIDs with none.
    el2: Tlb,
    config: ConfigGenerations,
    guards: Guards,
    devices: Snapshot<Devices>,
    closed: Snapshot<Closed>,
    world: Snapshot<World>,
    /// Counts changes of `world` and `closed`; ports look whether it has moved.
    version: AtomicU64,
    /// Guards that were open when the registers were last exchanged.
    earlier: Mutex<Earlier>,
    watches: Watches,
    remotes: Remotes,
    atcs: Atcs,
    /// CR0.ATSCHK.
    ats_check: AtomicBool,
    patience: Patience,
    wake: OnceLock<Arc<dyn Wake>>,
}

impl fmt::Debug for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Software")
            .field("capacity", &self.tlb.capacity())
            .finish_non_exhaustive()
    }
}

impl Default for Software {
    fn default() -> Self {
        Self::with_settings(SoftwareSettings::default())
    }
}

impl Software {
    /// A translation core with an empty cache of the given size.
    #[must_use]
    pub fn new(tlb: TlbSettings) -> Self {
        Self::with_settings(SoftwareSettings {
            tlb,
            ..SoftwareSettings::default()
        })
    }

    /// A translation core of the given sizes.
    #[must_use]
    pub fn with_settings(settings: SoftwareSettings) -> Self {
        Self {
            tlb: Tlb::new(settings.tlb),
            el2: Tlb::new(settings.el2),
            config: ConfigGenerations::default(),
            guards: Guards::new(settings.guards),
            devices: Snapshot::new(Devices::new()),
            closed: Snapshot::new(Closed::default()),
            world: Snapshot::new(World::default()),
            version: AtomicU64::new(0),
            earlier: Mutex::new(Earlier::default()),
            watches: Watches::default(),
            remotes: Remotes::default(),
            atcs: Atcs::new(settings.atc_depth),
            ats_check: AtomicBool::new(false),
            patience: Patience::new(&settings),
            wake: OnceLock::new(),
        }
    }

    /// Sets what translation starts from: stream table, capabilities, CR2. With `None`, accesses
    /// abort. When it returns, no access that began before is under way. Control path: waits
    /// for open guards, and for what was lent to devices in other processes, so not a call for the
    /// owner of a [`Remote`]. [`Backend::traffic_changed`] does the same without waiting.
    pub fn set_up(&self, setup: Option<Setup>) {
        self.change_world(|world| world.traffic = setup.map(Traffic::Enabled));
    }

    fn change_world(&self, change: impl FnOnce(&mut World)) {
        let Ok(()) = self.world.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
        self.version_changed();
        self.wait_for_all_guards();
    }

    fn earlier(&self) -> MutexGuard<'_, Earlier> {
        self.earlier.lock().unwrap_or_else(|dead| dead.into_inner())
    }

    /// Ports read everything anew from here on; the fence in `Guards::open_now`, or in `mark`, orders
    /// this against their guards.
    fn version_changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    #[inline]
    fn version(&self) -> u64 {
        // Acquire: the world that goes with the version is there.
        self.version.load(Ordering::Acquire)
    }

    /// Registers a device's own cache. From then on ATC_INVs of the stream reach it; a stream
    /// without one answers "unsupported request", which counts as success (IHI 0070, 4.5.1).
    /// Control path: may wait for a batch under way.
    pub fn attach_device(&self, stream: StreamId, cache: Arc<dyn DeviceCache>) {
        self.change_devices(|devices| {
            devices.insert(stream, cache);
        });
    }

    /// Forgets a device's cache. When it returns, no batch calls it any more.
    pub fn detach_device(&self, stream: StreamId) {
        self.change_devices(|devices| {
            devices.remove(&stream);
        });
    }

    fn change_devices(&self, change: impl FnOnce(&mut Devices)) {
        let Ok(()) = self.devices.replace(|old| {
            let mut new = old.clone();
            change(&mut new);
            Ok::<_, Infallible>(new)
        });
    }

    /// Looks up what is cached for a stream's address. `None` is "not cached"; a closed stream
    /// never has anything.
    #[must_use]
    pub fn lookup(&self, stream: StreamId, vmid: Vmid, asid: Asid, va: u64) -> Option<Hit> {
        if self.is_closed(stream) {
            return None;
        }
        self.tlb.lookup(vmid, asid, va)
    }

    /// Whether the stream has been made to abort.
    #[must_use]
    pub fn is_closed(&self, stream: StreamId) -> bool {
        let closed = self.closed.read();
        closed.all || closed.streams.contains(&stream)
    }

    /// Before a walk; see [`Tlb::ticket`].
    #[must_use]
    pub fn ticket(&self, vmid: Vmid, asid: Asid) -> FillTicket {
        self.tlb.ticket(vmid, asid)
    }

    /// After a walk; see [`Tlb::fill`].
    pub fn fill(&self, entry: &Entry, ticket: &FillTicket) -> bool {
        self.tlb.fill(entry, ticket)
    }

    /// Bytes of memory that the translation caches hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tlb.bytes() + self.el2.bytes()
    }
}

impl Backend for Software {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            ranges_of_any_granule: true,
            caches_contexts: false,
            may_block: false,
            // A set holds eight pages.
            widen_above: (self.tlb.max_sets() * 8) << 12,
        }
    }

    fn costs(&self) -> Costs {
        costs::of(&self.tlb)
    }

    #[inline]
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let executed = self.execute(batch);
        self.mark_batch(batch);
        executed
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        self.barrier_of(waiter)
    }

    fn take_unanswered(&self, waiter: WaiterId) -> bool {
        self.atcs.take_unanswered(waiter)
    }

    fn forget(&self, waiter: WaiterId) {
        self.atcs.forget(waiter);
    }

    fn set_ats_check(&self, checks: bool) {
        // Release pairs with the acquire behind a guard's fence.
        self.ats_check.store(checks, Ordering::Release);
    }

    fn overdue(&self, waiter: WaiterId, waited: Duration) -> Option<Duration> {
        self.tell_overdue(waiter, waited)
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        self.atcs.attach(wake.clone());
        // A backend belongs to one engine; a second one would be woken by nobody.
        let _first_wins = self.wake.set(wake);
    }

    fn configuration_changed(&self, change: &Cfgi, waiter: WaiterId) {
        self.config.invalidate(change);
        self.mark_configuration(change, waiter);
    }

    fn memory_changed(&self, memory: Arc<dyn GuestMemory>) {
        self.change_world(|world| world.memory = Some(memory));
    }

    fn traffic_changed(&self, traffic: &Traffic) {
        let mut earlier = self.earlier();
        // Whoever still reads by the old one has its guard open, so nobody has to be waited for.
        let Ok(_) = self.world.publish(|old| {
            let mut new = old.clone();
            new.traffic = Some(*traffic);
            Ok::<_, Infallible>(new)
        });
        self.version_changed();
        // The fence in there orders the version against guards, and the watches' look behind it.
        // Guards of before that are still open are open now, so the list need not be added to.
        *earlier = self.guards.open_now();
        drop(earlier);
        self.watches.tell(|_| true);
        self.remotes.tell_everything(|_| true);
    }

    fn traffic_settled(&self) -> bool {
        self.guards.have_closed(&mut self.earlier()) && self.remotes.have_given_back()
    }

    fn fail_closed(&self, stream: Option<StreamId>) {
        let Ok(()) = self.closed.replace(|old| {
            let mut new = old.clone();
            match stream {
                Some(stream) => {
                    new.streams.insert(stream);
                }
                None => new.all = true,
            }
            Ok::<_, Infallible>(new)
        });
        self.tlb.sweep(Signature::default()).everything();
        self.el2.sweep(Signature::default()).everything();
        self.version_changed();
        let concerned = |used: &Use| stream.is_none_or(|s| s == used.stream);
        self.guards
            .mark(Mark::EVERYBODY, Interest::EVERYTHING, concerned);
        self.watches.tell(concerned);
        self.remotes
            .tell_everything(|lent_to| stream.is_none_or(|s| s == lent_to));
    }
}
