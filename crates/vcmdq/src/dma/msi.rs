//! Interrupt messages that the host's kernel sends without asking.

use super::device::Device;
use super::error::DmaError;
use super::piece;
use dispatch::backend::software::{Stale, Watched};
use smmu_core::Gpa;
use smmu_core::access::Operation;
use std::sync::Arc;

/// What a VMM puts into an irqfd route (KVM_IRQ_ROUTING_MSI) for a message of a device: address,
/// data, DeviceID. It holds no guard; instead whoever asked is told when the translation may not be
/// true any more. Dropping it ends that.
#[derive(Debug)]
pub struct MsiRoute {
    /// Guest-physical address of the doorbell.
    pub at: Gpa,
    /// The message.
    pub data: u32,
    /// DeviceID, for an ITS.
    pub device_id: u32,
    watched: Watched,
}

impl MsiRoute {
    /// Whether the translation may not be true any more. To be asked once after the route has been
    /// installed: the call that tells may have come before.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.watched.is_stale()
    }
}

impl Device {
    /// Translates the address of a message, which is a write of four bytes. `tell` is called before
    /// a SYNC completes behind whatever may have changed the result, and must take the route out of
    /// use: see [`Stale::stale`]. An access that is to be ignored has no route: `None`. Control
    /// path.
    pub fn translate_msi(
        &mut self,
        iova: u64,
        data: u32,
        tell: &Arc<dyn Stale>,
    ) -> Result<Option<MsiRoute>, DmaError> {
        if iova % 4 != 0 {
            return Err(DmaError::Misaligned(iova, 4));
        }
        let access = self.who.access(iova, Operation::Write);
        let faults = &self.seams.faults;
        let mut answer = None;
        let watched = self
            .port
            .watch(self.who.substream, access, 4, tell, |failed| {
                answer = Some(faults.fault(failed));
            });
        match watched {
            Ok(watched) => Ok(Some(MsiRoute {
                at: Gpa(watched.output().address),
                data,
                device_id: self.who.device_id,
                watched,
            })),
            Err(denied) => piece::refused(denied, answer).map_or(Ok(None), Err),
        }
    }
}
