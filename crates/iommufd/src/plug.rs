//! Devices come and go: a stream is a vSID, a vdevice of the host's that has it, and a place in the frame.
//!
//! | plugging in | taking away |
//! |---|---|
//! | 1. what its SMMU has is compared with what the frame advertises | 1. the frame unbinds it: no batch that names it is under way |
//! | 2. vdevice: from here on the host knows the vSID | 2. the device aborts, its stalled accesses are answered |
//! | 3. the device aborts | 3. the device loses its page table |
//! | 4. the frame binds it: from here on commands that name it reach the host | 4. vdevice and nested table are destroyed |
//! | 5. what the guest's registers and STE say | |
//!
//! So no command that names a vSID reaches the host before its vdevice is there, nor after it has gone.

use crate::device::Device;
use crate::faults::FaultCounts;
use crate::hw_info::HwInfoError;
use crate::instance::HostInstance;
use crate::object::patiently;
use crate::offer::{Lack, admits};
use crate::stream::{Stream, is_gone};
use crate::streams::{NestedStreams, Plugged, locked};
use crate::uapi::Errno;
use smmu_core::StreamId;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq::{BindError, Binding, Frame};

/// A device could not be plugged in. It is attached to what it was attached to before; but if the frame did not bind
/// it ([`Bind`](Self::Bind)) it has no page table, so its DMA is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlugError {
    /// No frame is known.
    #[error("the streams know no frame: NestedStreams::connect comes first")]
    NoFrame,
    /// The vSID is taken.
    #[error("stream {0} is plugged in: unplug it first, or choose another StreamID")]
    Taken(StreamId),
    /// The device is plugged in as another stream.
    #[error("device {device} is plugged in as stream {stream}: unplug that, or rebind it")]
    DeviceTaken {
        /// The device's ID in the iommufd.
        device: u32,
        /// What it is.
        stream: StreamId,
    },
    /// The device's SMMU could not be asked what it is.
    #[error(transparent)]
    HwInfo(#[from] HwInfoError),
    /// The device's SMMU has less than the frame advertises.
    #[error("stream {stream}: {lack}")]
    Lacks {
        /// The stream.
        stream: StreamId,
        /// What it lacks.
        #[source]
        lack: Lack,
    },
    /// The device is behind another physical SMMU than the instance (law 1).
    #[error(
        "stream {stream}: the device is behind another physical SMMU than its instance; put it \
         behind an instance of its own SMMU"
    )]
    OtherSmmu {
        /// The stream.
        stream: StreamId,
    },
    /// The host has a vdevice for the device, or for this vSID.
    #[error("stream {stream}: the host has a vdevice of this device, or with this vSID, already")]
    VdeviceTaken {
        /// The stream.
        stream: StreamId,
    },
    /// The device has several StreamIDs, which the host does not support.
    #[error("stream {stream}: the host supports no device with several StreamIDs")]
    SeveralStreams {
        /// The stream.
        stream: StreamId,
    },
    /// The device has gone.
    #[error("stream {stream}: there is no such device any more ({error})")]
    Gone {
        /// The stream.
        stream: StreamId,
        /// What the kernel says.
        error: Errno,
    },
    /// The kernel did not do it.
    #[error("stream {stream}: the host could not take it ({error})")]
    Host {
        /// The stream.
        stream: StreamId,
        /// What the kernel says.
        error: Errno,
    },
    /// The frame did not bind it.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A stream could not be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnplugError {
    /// It is not there.
    #[error("stream {0} is not plugged in")]
    NotPlugged(StreamId),
}

/// A stream could not get another vSID. It has its old one again and is attached as before, unless the
/// kernel did not take it back either: then it is not plugged in any more, and the device's DMA is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebindError {
    /// It is not there.
    #[error(transparent)]
    Unplug(#[from] UnplugError),
    /// The new place does not take it.
    #[error(transparent)]
    Plug(#[from] PlugError),
}

/// What the refusal of a vdevice means.
fn vdevice_error(stream: StreamId, error: Errno) -> PlugError {
    match error {
        Errno::INVAL => PlugError::OtherSmmu { stream },
        Errno::EXIST => PlugError::VdeviceTaken { stream },
        Errno::OPNOTSUPP => PlugError::SeveralStreams { stream },
        error if is_gone(error) => PlugError::Gone { stream, error },
        error => PlugError::Host { stream, error },
    }
}

/// Hot-plug. Control calls: from any thread, one at a time (they exclude each other), not inside a callback;
/// they wait for workers' slices and for the kernel.
impl NestedStreams {
    /// Gives a device to the guest as `stream`, behind `instance`, which is `binding.instance` in the frame.
    /// The VMM has bound the device to the iommufd; whatever it is attached to is replaced. When
    /// this returns it is attached to what the guest's registers and STE say; if the host could not do that, it aborts
    /// until its STE is told anew, which is counted ([`StreamMetrics::failed`](crate::StreamMetrics)).
    pub fn plug(
        &self,
        frame: &Frame,
        stream: StreamId,
        device: Device,
        instance: &Arc<HostInstance>,
        binding: Binding,
    ) -> Result<(), PlugError> {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plugged(stream).is_some() {
            return Err(PlugError::Taken(stream));
        }
        let front = self.front.get().ok_or(PlugError::NoFrame)?;
        if let Some(other) = self.stream_of(instance, device.id) {
            let (device, stream) = (device.id, other);
            return Err(PlugError::DeviceTaken { device, stream });
        }
        let features = instance.flavour.features(&*instance.iommufd, device.id)?;
        admits(&features, &front.caps).map_err(|lack| PlugError::Lacks { stream, lack })?;
        let own = self.enter(stream, device, instance)?;
        self.bind(frame, own, instance, binding)
    }

    /// Which stream a device is. The host's vdevice does not tell: one that was left behind by a replaced
    /// stage 2 has none.
    fn stream_of(&self, instance: &HostInstance, device: u32) -> Option<StreamId> {
        let all = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.values().cloned().collect::<Vec<_>>()
        };
        all.iter()
            .filter(|plugged| Arc::ptr_eq(&plugged.instance.iommufd, &instance.iommufd))
            .map(|plugged| locked(&plugged.stream))
            .find_map(|own| (own.device.id == device).then_some(own.id))
    }

    /// Steps 2 and 3.
    fn enter(
        &self,
        stream: StreamId,
        device: Device,
        instance: &Arc<HostInstance>,
    ) -> Result<Stream, PlugError> {
        let viommu = instance.viommu();
        let vdevice = viommu
            .alloc_vdevice(device.id, stream)
            .map_err(|error| vdevice_error(stream, error))?;
        if let Err(error) = patiently(|| device.attach.attach(viommu.abort())) {
            viommu.destroy(vdevice);
            return Err(match error {
                error if is_gone(error) => PlugError::Gone { stream, error },
                error => PlugError::Host { stream, error },
            });
        }
        self.counters.attached.add(1);
        Ok(Stream::aborting(stream, viommu, device, vdevice))
    }

    /// Steps 4 and 5, of a stream that aborts.
    fn bind(
        &self,
        frame: &Frame,
        own: Stream,
        instance: &Arc<HostInstance>,
        binding: Binding,
    ) -> Result<(), PlugError> {
        let id = own.id;
        let plugged = Plugged {
            instance: instance.clone(),
            reads: own.reads.clone(),
            closed: own.failed.clone(),
            stream: Arc::new(Mutex::new(own)),
        };
        self.table_mut().insert(id, plugged.clone());
        if let Err(error) = frame.bind(id, binding) {
            self.table_mut().remove(&id);
            self.leave(&mut locked(&plugged.stream));
            return Err(error.into());
        }
        // Behind the binding and before the lock: what changes from here on a worker tells us, and what it has
        // told us is newer than this. (The worker waits for the lock while it holds what this takes.)
        let now = frame.traffic();
        let mut own = locked(&plugged.stream);
        if own.traffic.is_none() {
            own.traffic = now;
        }
        self.follow(instance, &mut own);
        Ok(())
    }

    /// Takes a device away from the guest; also one that has gone. When this returns, no command that names
    /// the stream reaches the host, and the device has no page table: its DMA is blocked, unless the VMM was told that
    /// it is [stuck](crate::StreamObserver::stuck).
    pub fn unplug(&self, frame: &Frame, stream: StreamId) -> Result<(), UnplugError> {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let plugged = self.withdraw(frame, stream)?;
        self.leave(&mut locked(&plugged.stream));
        Ok(())
    }

    /// Gives a device another vSID: a guest that renumbers its buses. The device aborts meanwhile; it is without
    /// a page table only if the new place refuses it.
    pub fn rebind(
        &self,
        frame: &Frame,
        from: StreamId,
        to: StreamId,
        binding: Binding,
    ) -> Result<(), RebindError> {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plugged(to).is_some() {
            return Err(PlugError::Taken(to).into());
        }
        let plugged = self.withdraw(frame, from)?;
        let device = {
            let mut own = locked(&plugged.stream);
            own.give_up_vdevice();
            own.device.clone()
        };
        let enter = |stream: StreamId, device: Device| {
            let own = self.enter(stream, device, &plugged.instance)?;
            self.bind(frame, own, &plugged.instance, binding)
        };
        let Err(refused) = enter(to, device.clone()) else {
            return Ok(());
        };
        if let Err(error) = enter(from, device) {
            tracing::error!(stream = %from, %error, "the stream could not be given its StreamID back");
            self.leave(&mut locked(&plugged.stream));
        }
        Err(refused.into())
    }

    /// Out of the frame and out of the table, aborting.
    fn withdraw(&self, frame: &Frame, stream: StreamId) -> Result<Plugged, UnplugError> {
        let plugged = self
            .plugged(stream)
            .ok_or(UnplugError::NotPlugged(stream))?;
        if let Err(error) = frame.unbind(stream) {
            // The VMM has unbound it by itself: what follows is the same.
            tracing::debug!(%stream, %error, "the stream was not bound");
        }
        self.table_mut().remove(&stream);
        self.abort(&mut locked(&plugged.stream));
        if let Some(faults) = plugged.instance.faults() {
            let mut counts = FaultCounts::default();
            faults.terminate(stream, &mut counts);
            self.counters.faults(counts);
        }
        Ok(plugged)
    }

    /// The device is the guest's no longer.
    fn leave(&self, own: &mut Stream) {
        if let Err(error) = own.detach() {
            self.stuck(own, error);
        }
        own.give_up_vdevice();
    }

    fn table_mut(
        &self,
    ) -> std::sync::RwLockWriteGuard<'_, std::collections::BTreeMap<StreamId, Plugged>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
