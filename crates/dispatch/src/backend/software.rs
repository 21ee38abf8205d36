//! The software SMMU as a backend: batches act on its translation cache and on the caches of
//! the devices behind it.

use super::{Backend, BackendCapabilities, Barrier, Cause, Rejected, WaiterId, Wake};
use crate::batch::Batch;
use crate::invalidation::{Invalidation, Scope, Stage};
use smmu_core::tlb::{Entry, FillTicket, Hit, Signature, Sweep, Tlb, TlbSettings};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::snapshot::Snapshot;

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

/// The software backend of one instance.
pub struct Software {
    tlb: Tlb,
    devices: Snapshot<Devices>,
    closed: Snapshot<Closed>,
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
        Self::new(TlbSettings::default())
    }
}

impl Software {
    /// A translation core with an empty cache of the given size.
    #[must_use]
    pub fn new(settings: TlbSettings) -> Self {
        Self {
            tlb: Tlb::new(settings),
            devices: Snapshot::new(Devices::new()),
            closed: Snapshot::new(Closed::default()),
        }
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

    /// Bytes of memory that the translation cache holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tlb.bytes()
    }

    fn invalidate_device(&self, request: &Invalidation) -> Result<(), DeviceTimeout> {
        let Scope::DeviceTlb {
            stream,
            pasid,
            global,
            addr,
            size,
        } = request.scope
        else {
            return Ok(());
        };
        match self.devices.read().get(&stream) {
            Some(cache) => cache.invalidate(pasid, global, addr, size),
            None => Ok(()),
        }
    }
}

fn signature(batch: &Batch) -> Signature {
    let mut signature = Signature::default();
    for request in batch.requests() {
        if let Scope::Addresses { asid, .. } = request.scope {
            signature.add(asid);
        }
    }
    signature
}

#[inline]
fn sweep_translations(sweep: &Sweep<'_>, request: &Invalidation) {
    let vmid = request.vmid;
    if request.stage == Stage::Two {
        // No entries of stage 2 alone are kept; entries that combine both may stay (4.4.3), but
        // a VMID's all is what the guest asks for next.
        return;
    }
    match request.scope {
        Scope::Addresses { asid, ref range } => sweep.addresses(vmid, asid, range),
        Scope::Context(asid) => sweep.asid(vmid, asid),
        Scope::ContextAndGlobals(asid) => sweep.asid_and_globals(vmid, asid),
        Scope::Vmid => sweep.vmid(vmid),
        Scope::All => sweep.everything(),
        Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {}
    }
}

impl Backend for Software {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities {
            ranges: true,
            caches_contexts: false,
            may_block: false,
            // A set holds eight pages; reading as many sets as one bank has is where one
            // addition becomes cheaper.
            widen_above: (self.tlb.capacity() as u64 / 16) << 12,
        }
    }

    #[inline]
    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let sweep = self.tlb.sweep(signature(batch));
        for (index, request) in batch.requests().iter().enumerate() {
            if request.stream().is_none() {
                sweep_translations(&sweep, request);
            } else if self.invalidate_device(request).is_err() {
                return Err(Rejected {
                    accepted: index,
                    cause: Cause::DeviceTimedOut,
                });
            }
        }
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

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
    }
}
