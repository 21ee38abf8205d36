//! A device model that accesses memory by translations of its own.

use super::atc::{Atc, Hit};
use crate::dma::device::Requester;
use crate::dma::error::DmaError;
use crate::dma::piece::{self, Target};
use crate::dma::sinks::{DeviceSeams, MmioSink, NoMmio};
use crate::dma::wiring::DeviceError;
use crate::frame::Frame;
use dispatch::backend::software::{Denied, Port};
use dispatch::backend::{AtcTarget, Software};
use smmu_core::Gpa;
use smmu_core::access::{Access, Operation};
use smmu_core::ats::{AtsRefusal, AtsRequest, AtsTranslation};
use smmu_core::fault::Fault;
use smmu_core::guard::NoSlot;
use std::sync::Arc;

/// How often a translation that is invalidated while it is fetched is fetched again, before the access
/// goes without one.
const TRIES: u32 = 8;

/// Why an access did not take place.
#[derive(Debug, thiserror::Error)]
pub enum AtsError {
    /// The SMMU answers no translation requests of the stream (UR). The event has been recorded if there
    /// is one; a device switches ATS off.
    #[error("the SMMU answers no ATS requests of the stream")]
    Unsupported,
    /// The stream's configuration is not such that anything can be translated (CA).
    #[error("the SMMU could not answer an ATS request: {0}")]
    Aborted(Fault),
    /// The answer gives no such right. A device with PRI asks the guest for the page and tries again.
    #[error("no right to access {0:#x}")]
    NoRight(u64),
    /// The access itself.
    #[error(transparent)]
    Dma(#[from] DmaError),
}

/// An access that ended early.
#[derive(Debug, thiserror::Error)]
#[error("after {done} bytes: {cause}")]
pub struct AtsIncomplete {
    /// Bytes that were transferred, from the beginning on.
    pub done: usize,
    /// Why not more.
    #[source]
    pub cause: AtsError,
}

/// What a device has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtsCounts {
    /// Pieces by a translation that was kept.
    pub hits: u64,
    /// Translation requests.
    pub requests: u64,
    /// Pieces without a translation of the device's own, because the answer said so or was
    /// invalidated again and again.
    pub untranslated: u64,
}

/// A device model's handle on its stream, with an [`Atc`]. One thread uses it at a time; a model with
/// several threads has one for each, and each has its own cache. Takes one guard slot.
#[derive(Debug)]
pub struct AtsDevice {
    port: Port,
    who: Requester,
    seams: DeviceSeams,
    atc: Atc,
    _registration: Registration,
    counts: AtsCounts,
}

/// The cache's registration; ends when it is dropped.
struct Registration {
    core: Arc<Software>,
    who: Requester,
    target: Arc<dyn AtcTarget>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registration")
            .field(&self.who.stream)
            .finish()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.core.detach_atc(self.who.stream, &self.target);
    }
}

impl Frame {
    /// A handle with a translation cache of `entries` for a device model behind `core`, one of the
    /// frame's instances, on a stream that is bound to it; with only RAM behind the SMMU. Control
    /// call, as [`device`](Self::device).
    pub fn ats_device(
        &self,
        core: &Arc<Software>,
        who: Requester,
        entries: usize,
    ) -> Result<AtsDevice, DeviceError> {
        self.check_device(core, who.stream)?;
        if !self.shared().settings.caps.idr0.ats() {
            return Err(DeviceError::NoAts);
        }
        let seams = self.device_seams(Arc::new(NoMmio));
        Ok(AtsDevice::new(core, who, seams, entries)?)
    }
}

impl AtsDevice {
    /// A handle with a cache of `entries` translations; see [`Atc::new`]. Fails if the instance has no
    /// more guards. Control path: may wait for a batch under way, as dropping it may.
    pub fn new(
        core: &Arc<Software>,
        who: Requester,
        seams: DeviceSeams,
        entries: usize,
    ) -> Result<Self, NoSlot> {
        let port = core.port(who.stream)?;
        let atc = Atc::new(entries);
        let target = atc.target();
        core.attach_atc(who.stream, target.clone());
        Ok(Self {
            port,
            who,
            seams,
            atc,
            _registration: Registration {
                core: core.clone(),
                who,
                target,
            },
            counts: AtsCounts::default(),
        })
    }

    /// Who it is.
    #[must_use]
    pub fn requester(&self) -> &Requester {
        &self.who
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> AtsCounts {
        self.counts
    }

    /// Reads. Never blocks.
    pub fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), AtsIncomplete> {
        let len = into.len();
        self.transfer(
            Operation::Read,
            iova,
            len,
            |who, mmio, target, from, bytes| {
                piece::read(who, mmio, &target, &mut into[from..from + bytes])
            },
        )
    }

    /// Writes. Never blocks.
    pub fn write(&mut self, iova: u64, from: &[u8]) -> Result<(), AtsIncomplete> {
        let len = from.len();
        self.transfer(
            Operation::Write,
            iova,
            len,
            |who, mmio, target, at, bytes| piece::write(who, mmio, &target, &from[at..at + bytes]),
        )
    }

    /// Page by page.
    fn transfer(
        &mut self,
        operation: Operation,
        iova: u64,
        len: usize,
        mut touch: impl FnMut(
            &Requester,
            &dyn MmioSink,
            Target<'_>,
            usize,
            usize,
        ) -> (usize, Result<(), DmaError>),
    ) -> Result<(), AtsIncomplete> {
        let mut done = 0;
        while done < len {
            let address = iova.wrapping_add(done as u64);
            let bytes = (len - done).min(piece::to_page_end(address));
            let access = self.who.access(address, operation);
            let (moved, result) = self.piece(access, bytes, |who, mmio, target, bytes| {
                touch(who, mmio, target, done, bytes)
            });
            done += moved;
            result.map_err(|cause| AtsIncomplete { done, cause })?;
        }
        Ok(())
    }

    /// What lies in one page: by a kept translation, or by one that is asked for now.
    fn piece(
        &mut self,
        access: Access,
        bytes: usize,
        mut touch: impl Touch,
    ) -> (usize, Result<(), AtsError>) {
        for _ in 0..TRIES {
            let hit = match self.find(&access) {
                Ok(Found::Kept(hit)) => hit,
                Ok(Found::Lost) => continue,
                Ok(Found::Untranslated) => break,
                Err(cause) => return (0, Err(cause)),
            };
            let Self {
                port,
                who,
                seams,
                atc,
                counts,
                ..
            } = self;
            let named = Access {
                address: hit.translation.output(access.address),
                ..access
            };
            let mut answer = None;
            let keeps = || atc.keeps(&hit);
            let begun = port.translated(access.address, named, bytes as u64, keeps, |failed| {
                answer = Some(seams.faults.fault(failed));
            });
            match begun {
                Ok(Some(guard)) => {
                    counts.hits += 1;
                    let bytes = usize::try_from(guard.bytes()).map_or(bytes, |b| b.min(bytes));
                    let target = Target::Memory(guard.memory(), Gpa(guard.address()));
                    let (moved, result) = touch(who, &*seams.mmio, target, bytes);
                    return (moved, result.map_err(AtsError::Dma));
                }
                Ok(None) => {}
                Err(denied) => return refused(denied, answer),
            }
        }
        self.untranslated(access, bytes, touch)
    }

    /// The translation for an access, which is asked for if it is not there.
    fn find(&mut self, access: &Access) -> Result<Found, AtsError> {
        let Access {
            address,
            operation,
            privileged,
        } = *access;
        let substream = self.who.substream;
        if let Some(hit) = self.atc.lookup(substream, privileged, address) {
            if hit.translation.allows(operation) {
                return Ok(Found::Kept(hit));
            }
            self.atc.drop_hit(&hit);
        }
        let request = AtsRequest {
            stream: self.who.stream,
            substream,
            address,
            no_write: operation != Operation::Write,
            execute: operation == Operation::Execute,
            privileged,
        };
        self.counts.requests += 1;
        let (ticket, faults) = (self.atc.ticket(), &self.seams.faults);
        let mut answer = [AtsTranslation::NOTHING];
        let grant = self.port.request(&request, &mut answer, |failed| {
            // An event and no more: the answer is UR whatever the verdict says.
            drop(faults.fault(failed));
        });
        let grant = grant.map_err(|refusal| match refusal {
            AtsRefusal::Unsupported(_) => AtsError::Unsupported,
            AtsRefusal::Abort(fault) => AtsError::Aborted(fault),
        })?;
        let [found] = answer;
        if found.untranslated_only {
            return Ok(Found::Untranslated);
        }
        if !found.allows(operation) {
            return Err(AtsError::NoRight(address));
        }
        // Before the grant ends: a SYNC that waits for it finds the translation kept.
        let kept = self.atc.fill(ticket, substream, address, &found);
        drop(grant);
        if !kept {
            return Ok(Found::Lost);
        }
        let hit = self.atc.lookup(substream, privileged, address);
        Ok(hit.map_or(Found::Lost, Found::Kept))
    }

    fn untranslated(
        &mut self,
        access: Access,
        bytes: usize,
        mut touch: impl Touch,
    ) -> (usize, Result<(), AtsError>) {
        self.counts.untranslated += 1;
        let Self {
            port, who, seams, ..
        } = self;
        let (moved, result) = piece::piece(port, who, seams, access, bytes, |target, bytes| {
            touch(who, &*seams.mmio, target, bytes)
        });
        (moved, result.map_err(AtsError::Dma))
    }
}

/// Works on what a piece of an access reaches, of so many bytes; says how many it has done and why not all.
trait Touch:
    FnMut(&Requester, &dyn MmioSink, Target<'_>, usize) -> (usize, Result<(), DmaError>)
{
}

impl<F> Touch for F where
    F: FnMut(&Requester, &dyn MmioSink, Target<'_>, usize) -> (usize, Result<(), DmaError>)
{
}

/// What there is for an access.
enum Found {
    /// A translation.
    Kept(Hit),
    /// One that has been invalidated meanwhile.
    Lost,
    /// None that a device may keep.
    Untranslated,
}

fn refused(denied: Denied, answer: Option<crate::events::Answer>) -> (usize, Result<(), AtsError>) {
    let cause = piece::refused(denied, answer).unwrap_or(DmaError::Aborted);
    (0, Err(cause.into()))
}
