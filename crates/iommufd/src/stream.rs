//! One stream of the guest's behind a vIOMMU of the host: what its device is attached to.
//!
//! The device is attached to something at any moment: to the abort table, to the bypass table, or to
//! a table made from the guest's STE. A change makes the new one first, replaces, and then frees the old
//! one; what goes wrong ends at the abort table.

use crate::device::Device;
use crate::joint::{FailedClosed, ReadsContexts};
use crate::object::patiently;
use crate::uapi::Errno;
use crate::viommu::Viommu;
use crate::vste::{Vste, Wanted};
use dispatch::Traffic;
use smmu_core::StreamId;
use std::sync::Arc;

/// What a stream is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attachment {
    /// The abort table.
    Abort,
    /// Stage 2 alone.
    Bypass,
    /// The guest's stage 1.
    Stage1(Vste),
    /// Nothing: the device has gone, or could not be attached to the abort table. Its DMA is blocked.
    Nothing,
}

/// Why a stream is not attached to what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The host does not take the vSTE.
    Refused(Errno),
    /// The host could not do it now.
    Failed(Errno),
    /// There is no such device any more.
    Gone,
}

/// What a guest could have the VMM told of again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) gone: bool,
    pub(crate) stuck: bool,
}

/// See the [module](self). Behind a mutex: its calls are made one at a time.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) viommu: Arc<Viommu>,
    pub(crate) device: Device,
    pub(crate) vdevice: Option<u32>,
    /// What the frame's registers said last; nothing until the engine has said something.
    pub(crate) traffic: Option<Traffic>,
    /// Aborts for good: an invalidation that concerned it was not carried out.
    closed: bool,
    /// For whoever must not wait for the lock.
    pub(crate) reads: Arc<ReadsContexts>,
    pub(crate) failed: Arc<FailedClosed>,
    /// The VMM has been told that the device has gone, or is stuck, and nothing could be attached since.
    pub(crate) told: Told,
    attached: Attachment,
    /// The table of `Attachment::Stage1`.
    table: Option<u32>,
}

impl Stream {
    /// Of a device that is attached to the abort table.
    pub(crate) fn aborting(
        id: StreamId,
        viommu: Arc<Viommu>,
        device: Device,
        vdevice: u32,
    ) -> Self {
        Self {
            id,
            viommu,
            device,
            vdevice: Some(vdevice),
            traffic: None,
            closed: false,
            reads: Arc::default(),
            failed: Arc::default(),
            told: Told::default(),
            attached: Attachment::Abort,
            table: None,
        }
    }

    pub(crate) fn attachment(&self) -> Attachment {
        self.attached
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed || self.viommu.is_distrusted()
    }

    /// Whether that is so for itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.closed
    }

    /// It has failed closed, and has been made to abort if that could be done; or it goes on.
    pub(crate) fn set_failed(&mut self, closed: bool) {
        let aborts = matches!(self.attached, Attachment::Abort | Attachment::Nothing);
        self.closed = closed;
        self.failed.set(closed && aborts);
    }

    /// With SMMUEN=0 no access stays stalled.
    pub(crate) fn may_stall(&self) -> bool {
        self.traffic.as_ref().is_some_and(Traffic::is_enabled)
    }

    /// Attaches the stream to what is wanted. Whether anything changed. If it fails, the stream is attached as
    /// before, and the caller has it abort.
    pub(crate) fn settle(&mut self, wanted: Wanted) -> Result<bool, Trouble> {
        let next = match wanted {
            Wanted::Abort => Attachment::Abort,
            Wanted::Bypass => Attachment::Bypass,
            Wanted::Stage1(vste) => Attachment::Stage1(vste),
        };
        let table = match next {
            same if same == self.attached => {
                return self.refresh().map(|()| false).map_err(later);
            }
            Attachment::Stage1(vste) => {
                let made = self.viommu.alloc_nested(self.device.id, &vste);
                Some(made.map_err(refused)?)
            }
            _ => None,
        };
        let target = match (next, table) {
            (_, Some(table)) => table,
            (Attachment::Bypass, None) => self.viommu.bypass(),
            _ => self.viommu.abort(),
        };
        if table.is_some() {
            self.reads.begin();
        }
        if let Err(error) = self.attach(target) {
            if let Some(table) = table {
                self.viommu.destroy(table);
            }
            if !matches!(self.attached, Attachment::Stage1(_)) {
                self.reads.end();
            }
            return Err(later(error));
        }
        self.now_attached(next, table);
        Ok(true)
    }

    /// What the device has stalled ends with the table that it is attached to.
    fn attach(&self, table: u32) -> Result<(), Errno> {
        self.viommu.exchange(self.device.id, || {
            patiently(|| self.device.attach.attach(table))
        })
    }

    /// The STE is as it was, and a CFGI that names it has the host forget the contexts, too (IHI 0070, 4.3.1):
    /// the kernel does that only when its own STE changes.
    fn refresh(&self) -> Result<(), Errno> {
        match self.attached {
            Attachment::Stage1(_) => self.viommu.forget_contexts(self.id),
            _ => Ok(()),
        }
    }

    fn now_attached(&mut self, next: Attachment, table: Option<u32>) {
        self.attached = next;
        self.told.stuck = false;
        self.told.gone &= next == Attachment::Nothing;
        if table.is_none() {
            self.reads.end();
        }
        if let Some(old) = std::mem::replace(&mut self.table, table) {
            self.viommu.destroy(old);
        }
    }

    /// Attaches the stream to the abort table. If even that cannot be done, the device loses its page
    /// table, which blocks it as well; of a device that has gone nothing is left to block. Fails if the device
    /// is still attached to something else.
    pub(crate) fn abort(&mut self) -> Result<(), Errno> {
        if matches!(self.attached, Attachment::Abort | Attachment::Nothing) {
            return Ok(());
        }
        match self.attach(self.viommu.abort()) {
            Ok(()) => {
                self.now_attached(Attachment::Abort, None);
                Ok(())
            }
            Err(_) => self.detach(),
        }
    }

    /// Takes the device's page table away. Fails if the device keeps it; then it is not freed either.
    pub(crate) fn detach(&mut self) -> Result<(), Errno> {
        let detached = self
            .viommu
            .exchange(self.device.id, || patiently(|| self.device.attach.detach()));
        match detached {
            Err(error) if !is_gone(error) => Err(error),
            _ => {
                self.now_attached(Attachment::Nothing, None);
                Ok(())
            }
        }
    }

    /// The host does not know its vSID any more. It aborts, or is detached.
    pub(crate) fn give_up_vdevice(&mut self) {
        if let Some(vdevice) = self.vdevice.take() {
            self.viommu.destroy(vdevice);
        }
    }

    /// Goes over to another vIOMMU, from the abort table of the old one, or from no table, to the abort table of the
    /// new one. Whether it could; if not, it is detached, or aborts without a vdevice. Fails if it is stuck on the
    /// old one.
    pub(crate) fn move_to(&mut self, next: &Arc<Viommu>) -> Result<bool, Errno> {
        if !matches!(self.attached, Attachment::Abort | Attachment::Nothing) {
            self.detach()?;
        }
        self.give_up_vdevice();
        let vdevice = next.alloc_vdevice(self.device.id, self.id).ok();
        // Attached even without one, unless nothing is: nothing may stay on the old stage 2.
        if vdevice.is_some() || self.attached == Attachment::Abort {
            match self.attach(next.abort()) {
                Ok(()) => self.now_attached(Attachment::Abort, None),
                Err(_) => self.detach().inspect_err(|_| {
                    if let Some(vdevice) = vdevice {
                        next.destroy(vdevice);
                    }
                })?,
            }
        }
        // Not before nothing of the old one is in use: it goes with its last stream.
        self.viommu = next.clone();
        self.vdevice = vdevice;
        Ok(vdevice.is_some() && self.attached == Attachment::Abort)
    }
}

impl Drop for Stream {
    /// A device that could not be detached keeps its table: it is destroyed when nothing is attached to it any more.
    fn drop(&mut self) {
        if let Some(table) = self.table.take() {
            self.viommu.destroy(table);
        }
        self.give_up_vdevice();
    }
}

pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::NOENT | Errno::NXIO)
}

/// What the allocation of a nested table says about the vSTE.
fn refused(error: Errno) -> Trouble {
    match error {
        Errno::IO | Errno::INVAL | Errno::OPNOTSUPP => Trouble::Refused(error),
        other => later(other),
    }
}

fn later(error: Errno) -> Trouble {
    if is_gone(error) {
        Trouble::Gone
    } else {
        Trouble::Failed(error)
    }
}
