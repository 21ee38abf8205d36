//! What stands for a frame's instance in the host: a vIOMMU on one physical SMMU with one stage 2 (law 1),
//! and the files by which the host tells of events and faults.

use crate::faults::FaultQueue;
use crate::flavour::Flavour;
use crate::hw_info::{HostFeatures, HwInfoError};
use crate::offer::{Lack, admits};
use crate::target::Target;
use crate::uapi::{Errno, Iommufd};
use crate::viommu::{Viommu, ViommuError};
use rustix::event::epoll;
use smmu_core::Capabilities;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An instance could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostInstanceError {
    /// The SMMU could not be asked what it is.
    #[error(transparent)]
    HwInfo(#[from] HwInfoError),
    /// The SMMU has less than the frame advertises.
    #[error(transparent)]
    Lacks(#[from] Lack),
    /// The kernel did not make the objects.
    #[error(transparent)]
    Viommu(#[from] ViommuError),
    /// The kernel did not make a queue for page faults.
    #[error("no queue for page faults, which a frame with IDR0.STALL_MODEL=0 needs ({0})")]
    Faults(#[source] Errno),
    /// The files could not be watched.
    #[error("the host's events cannot be watched ({0})")]
    Watch(#[source] Errno),
}

/// A vIOMMU on one physical SMMU with one stage 2 (law 1), for an instance of a frame. Control calls from any
/// thread; they block.
///
/// Its file descriptor becomes readable when the host has events or page faults
/// ([`NestedStreams::drain`](crate::NestedStreams::drain)); it stays the same when the stage 2 is replaced.
pub struct HostInstance {
    pub(crate) iommufd: Arc<dyn Iommufd>,
    pub(crate) flavour: Arc<dyn Flavour>,
    pub(crate) features: HostFeatures,
    target: Target,
    ready: OwnedFd,
    /// Exchanged with the locks of all streams of the instance held.
    viommu: Mutex<Arc<Viommu>>,
    faults: Option<Arc<FaultQueue>>,
    /// Held by who reads what the host tells, so that nothing is read from a vIOMMU that is being replaced.
    pub(crate) reading: Mutex<()>,
}

impl HostInstance {
    /// On the physical SMMU of `device` (its ID in the iommufd), with what the IOAS maps as stage 2. `frame` is
    /// what the frame advertises. Nothing is left behind if it fails.
    pub fn new(
        iommufd: Arc<dyn Iommufd>,
        flavour: Arc<dyn Flavour>,
        device: u32,
        ioas: u32,
        frame: &Capabilities,
    ) -> Result<Arc<Self>, HostInstanceError> {
        let features = flavour.features(&*iommufd, device)?;
        admits(&features, frame)?;
        let faults = frame.stalls().then(|| FaultQueue::new(&iommufd));
        let faults = faults.transpose().map_err(HostInstanceError::Faults)?;
        let faults = faults.map(Arc::new);
        let viommu = Viommu::new(&iommufd, &flavour, device, ioas, faults.clone())?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(HostInstanceError::Watch)?;
        let instance = Self {
            iommufd,
            flavour,
            features,
            target: Target::from(viommu.id()),
            ready,
            viommu: Mutex::new(Arc::new(viommu)),
            faults,
            reading: Mutex::default(),
        };
        instance
            .watch(&instance.viommu())
            .map_err(HostInstanceError::Watch)?;
        if let Some(faults) = &instance.faults {
            instance
                .add(faults.file().as_fd())
                .map_err(HostInstanceError::Watch)?;
        }
        Ok(Arc::new(instance))
    }

    /// Where invalidations go: what the instance's backend is made with.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target.clone()
    }

    /// What its SMMU can do for a guest.
    #[must_use]
    pub fn features(&self) -> &HostFeatures {
        &self.features
    }

    pub(crate) fn faults(&self) -> Option<&FaultQueue> {
        self.faults.as_deref()
    }

    pub(crate) fn viommu(&self) -> Arc<Viommu> {
        self.present().clone()
    }

    /// What its TLB holds is not to be used any more.
    /// Whether it was until now.
    pub(crate) fn distrust(&self) -> bool {
        let present = self.present();
        present.distrust(self.target.generation())
    }

    /// Its backend has been reopened: what failed before that is not in its TLB any more.
    pub(crate) fn trust(&self) {
        let present = self.present();
        present.trust(self.target.generation());
    }

    fn present(&self) -> MutexGuard<'_, Arc<Viommu>> {
        self.viommu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vIOMMU with another stage 2 that nothing uses yet, and whose events are watched.
    pub(crate) fn prepare(&self, device: u32, ioas: u32) -> Result<Arc<Viommu>, ViommuError> {
        let faults = self.faults.clone();
        let viommu = Viommu::new(&self.iommufd, &self.flavour, device, ioas, faults)?;
        self.watch(&viommu).map_err(ViommuError::Events)?;
        Ok(Arc::new(viommu))
    }

    /// Streams that are plugged in from now on are on this one. The old one stays alive as long as somebody
    /// holds it.
    pub(crate) fn exchange(&self, viommu: &Arc<Viommu>) -> Arc<Viommu> {
        std::mem::replace(&mut *self.present(), viommu.clone())
    }

    fn watch(&self, viommu: &Viommu) -> Result<(), Errno> {
        match viommu.events() {
            Some(events) => self.add(events.file().as_fd()),
            None => Ok(()),
        }
    }

    /// What a vIOMMU that has been replaced tells from now on is nobody's: it is there as long as a device is stuck on
    /// it, and would keep the instance's file readable.
    pub(crate) fn forget(&self, old: &Viommu) {
        let Some(events) = old.events() else { return };
        if let Err(error) = epoll::delete(&self.ready, events.file()) {
            tracing::warn!(%error, "the events of a replaced vIOMMU are watched still");
        }
    }

    /// A file that is closed leaves by itself.
    fn add(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.ready, file, data, epoll::EventFlags::IN)
    }
}

impl AsFd for HostInstance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

impl fmt::Debug for HostInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostInstance")
            .field("viommu", &*self.present())
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}
