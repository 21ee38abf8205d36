//! A vIOMMU on one physical SMMU: the stage 2, what stands for the guest's SMMU on top of it, and the two
//! page tables that need no STE of the guest.

use crate::events::EventFile;
use crate::faults::FaultQueue;
use crate::flavour::Flavour;
use crate::object::{Object, destroy, patiently};
use crate::uapi::{Errno, HwptAlloc, Invalidate, Iommufd, kind, raw};
use crate::vste::Vste;
use smmu_core::StreamId;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Room for events in a vEVENTQ. A guest's own queue has at most 2^19; a host that has more than this to
/// say before anybody reads says LOST_EVENTS.
const EVENT_DEPTH: u32 = 4096;

/// An object could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViommuError {
    /// The stage 2.
    #[error(
        "no stage 2 for the device ({0}): its SMMU must have stage 2 and the address space must fit it"
    )]
    Parent(#[source] Errno),
    /// The vIOMMU.
    #[error(
        "no vIOMMU on the device's SMMU ({0}): the kernel needs nesting there, and either S2FWB or a \
         device whose accesses are coherent (CANWBS)"
    )]
    Viommu(#[source] Errno),
    /// The abort or the bypass table.
    #[error("no page table for streams that abort or bypass ({0})")]
    Fixed(#[source] Errno),
    /// The queue of the host's events, or it cannot be watched.
    #[error("no queue for the host's events that can be watched ({0})")]
    Events(#[source] Errno),
}

/// See the [module](self). Its objects are destroyed with it, in the order of the fields: none is in use
/// then. The queue is as long as its file is open.
pub(crate) struct Viommu {
    events: Option<EventFile>,
    _veventq: Option<Object>,
    bypass: Object,
    abort: Object,
    viommu: Object,
    _parent: Object,
    iommufd: Arc<dyn Iommufd>,
    flavour: Arc<dyn Flavour>,
    /// Where page faults of its streams go; behind the tables, which use it.
    faults: Option<Arc<FaultQueue>>,
    /// What the kernel would not destroy yet.
    orphans: Mutex<Vec<u32>>,
    /// The last generation of its target in which an invalidation was not carried out, so that what its TLB holds
    /// is not to be believed; or 0.
    stale: AtomicU64,
}

impl Viommu {
    /// On the SMMU of `device`, with what the IOAS maps as stage 2. `faults` is where page faults of the
    /// streams go. Nothing is left behind if it fails. Control path; blocks.
    pub(crate) fn new(
        iommufd: &Arc<dyn Iommufd>,
        flavour: &Arc<dyn Flavour>,
        device: u32,
        ioas: u32,
        faults: Option<Arc<FaultQueue>>,
    ) -> Result<Self, ViommuError> {
        let own = |id| Object::new(iommufd, id);
        let parent = HwptAlloc {
            flags: raw::iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT,
            device,
            parent: ioas,
            data_type: kind::HWPT_NONE,
            data: &[],
            fault_queue: None,
        };
        let parent = patiently(|| iommufd.alloc_hwpt(&parent)).map_err(ViommuError::Parent)?;
        let parent = own(parent);
        let viommu = patiently(|| iommufd.alloc_viommu(flavour.viommu_type(), device, parent.id));
        let viommu = own(viommu.map_err(ViommuError::Viommu)?);
        let fixed = |vste| {
            let id = nested(&**iommufd, &**flavour, device, viommu.id, None, vste);
            id.map(own).map_err(ViommuError::Fixed)
        };
        let (abort, bypass) = (fixed(&Vste::ABORT)?, fixed(&Vste::BYPASS)?);
        let (veventq, events) = match flavour.event_type() {
            None => (None, None),
            Some(kind) => {
                let queue = patiently(|| iommufd.alloc_veventq(viommu.id, kind, EVENT_DEPTH));
                let (id, file) = queue.map_err(ViommuError::Events)?;
                (Some(own(id)), Some(EventFile::new(file)))
            }
        };
        Ok(Self {
            events,
            _veventq: veventq,
            bypass,
            abort,
            viommu,
            _parent: parent,
            iommufd: iommufd.clone(),
            flavour: flavour.clone(),
            faults,
            orphans: Mutex::default(),
            stale: AtomicU64::new(0),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.viommu.id
    }

    pub(crate) fn abort(&self) -> u32 {
        self.abort.id
    }

    pub(crate) fn bypass(&self) -> u32 {
        self.bypass.id
    }

    pub(crate) fn events(&self) -> Option<&EventFile> {
        self.events.as_ref()
    }

    /// A page table for a vSTE.
    pub(crate) fn alloc_nested(&self, device: u32, vste: &Vste) -> Result<u32, Errno> {
        self.clear_orphans();
        let (iommufd, flavour) = (&*self.iommufd, &*self.flavour);
        let faults = self.faults.as_ref().map(|faults| faults.id());
        nested(iommufd, flavour, device, self.viommu.id, faults, vste)
    }

    /// Attaches a device of its streams to something else by `change`: what was stalled has ended then.
    pub(crate) fn exchange<R>(&self, device: u32, change: impl FnOnce() -> R) -> R {
        match &self.faults {
            Some(faults) => faults.exchange(device, change),
            None => change(),
        }
    }

    fn orphans(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear_orphans(&self) {
        let iommufd = &*self.iommufd;
        self.orphans().retain(|id| destroy(iommufd, *id).is_err());
    }

    pub(crate) fn alloc_vdevice(&self, device: u32, stream: StreamId) -> Result<u32, Errno> {
        // One that is left over may be this device's.
        self.clear_orphans();
        patiently(|| {
            self.iommufd
                .alloc_vdevice(self.viommu.id, device, stream.0.into())
        })
    }

    /// Destroys a vdevice, or a page table that nothing is attached to; what cannot be destroyed now is later.
    pub(crate) fn destroy(&self, id: u32) {
        if let Err(error) = destroy(&*self.iommufd, id) {
            tracing::warn!(id, %error, "an iommufd object could not be destroyed yet");
            self.orphans().push(id);
        }
    }

    /// Makes the host forget a stream's contexts.
    pub(crate) fn forget_contexts(&self, stream: StreamId) -> Result<(), Errno> {
        let Some(entry) = self.flavour.forget_contexts(stream) else {
            return Ok(());
        };
        let call = Invalidate {
            target: self.viommu.id,
            data_type: entry.data_type,
            entry_len: entry.bytes.len() as u32,
            entries: &entry.bytes,
        };
        patiently(|| self.iommufd.invalidate(&call).map_err(|error| error.errno))
    }

    /// Nothing that its TLB holds may be used any more. Whether it might until now.
    pub(crate) fn distrust(&self, generation: u64) -> bool {
        self.stale.fetch_max(generation, Ordering::Relaxed) == 0
    }

    /// Its TLB has been emptied when `generation` began; what failed since then counts.
    pub(crate) fn trust(&self, generation: u64) {
        let over = |stale: u64| (stale < generation).then_some(0);
        let _later = self
            .stale
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, over);
    }

    /// Relaxed: who sets it takes the lock of each stream afterwards, and who reads it holds one.
    pub(crate) fn is_distrusted(&self) -> bool {
        self.stale.load(Ordering::Relaxed) != 0
    }
}

fn nested(
    iommufd: &dyn Iommufd,
    flavour: &dyn Flavour,
    device: u32,
    viommu: u32,
    fault_queue: Option<u32>,
    vste: &Vste,
) -> Result<u32, Errno> {
    let (data_type, data) = flavour.nested(vste);
    let call = HwptAlloc {
        flags: 0,
        device,
        parent: viommu,
        data_type,
        data: &data,
        fault_queue,
    };
    patiently(|| iommufd.alloc_hwpt(&call))
}

impl Drop for Viommu {
    fn drop(&mut self) {
        self.clear_orphans();
        let left = self.orphans().len();
        if left != 0 {
            tracing::warn!(viommu = self.id(), left, "objects stay behind");
        }
    }
}

impl fmt::Debug for Viommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viommu")
            .field("id", &self.id())
            .field("abort", &self.abort.id)
            .field("bypass", &self.bypass.id)
            .finish_non_exhaustive()
    }
}
