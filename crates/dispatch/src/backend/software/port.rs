//! A device's way through the software SMMU: guard, configuration, translation.
//!
//! A [`Port`] belongs to one stream and is used by one thread at a time. It keeps what it has
//! read of the stream's configuration, and a slot for its guard, so a translation that is
//! cached writes nothing that another thread reads often, but for the guard itself.
//!
//! The order of a translation:
//!
//! 1. open the guard, saying what is going to be used as far as that is known;
//! 2. look whether the kept configuration is still true, else read it anew and, now that more is
//!    known, go back to 1;
//! 3. look up, or walk and fill;
//! 4. if what was found is more than the guard says (a global entry, a larger page, another
//!    ASID; a fault, which could be any of these), say so and go back to 2.

pub(super) mod ats;
mod guarded;
mod said;

use super::Software;
use super::context::{Kept, Nowhere};
use super::output::Output;
use super::overdue::{Complaint, Overdue};
use super::resolve::Looked;
pub use guarded::Guarded;
use said::expected;
pub(super) use said::union;
use smmu_core::access::{Access, Transaction};
use smmu_core::attributes::MemoryAttributes;
use smmu_core::fault::{Fault, FaultPolicy};
use smmu_core::guard::{NoSlot, Slot, Use};
use smmu_core::translate::Failed;
use smmu_core::walk::WalkCache;
use smmu_core::{GuestMemory, StreamId, SubstreamId};
use std::sync::Arc;
use sync_wrapper::SyncWrapper;
use vcmdq_sync::weak::{Site, taken};

/// Why an access may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Aborted without a record: by the STE, or because the stream has been failed closed, or
    /// because the SMMU is set to abort.
    Aborted,
    /// It faulted; the verdict says what the device gets.
    Fault(Failed),
}

/// How often a translation is begun anew because what it uses has changed.
const MAX_TRIES: u32 = 16;
/// How often a guard tries to say exactly what it uses, before it says "anything".
const NARROWED: u32 = 4;

/// See the head of this file.
#[derive(Debug)]
pub struct Port {
    core: Arc<Software>,
    stream: StreamId,
    slot: Option<Slot>,
    kept: Option<Kept>,
    /// Tables that walks by `kept` have come to. Wrapped, so that what holds a port can be looked at by several
    /// threads: only who has it for itself translates.
    tables: Box<SyncWrapper<WalkCache>>,
    complaint: Option<Complaint>,
    incoming: MemoryAttributes,
    /// What accesses by translations of the device's own go by.
    direct: Option<ats::Direct>,
}

/// When a guard no longer says that tables are read for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// When the page is found.
    AtPage,
    /// As long as it is open.
    Never,
}

impl Software {
    /// A way in for one stream, for one thread at a time. Fails if the instance has no more guards.
    pub fn port(self: &Arc<Self>, stream: StreamId) -> Result<Port, NoSlot> {
        let slot = Some(self.guards.lease()?);
        Ok(Port {
            core: self.clone(),
            stream,
            slot,
            kept: None,
            tables: Box::new(SyncWrapper::new(WalkCache::default())),
            complaint: None,
            incoming: MemoryAttributes::CACHED,
            direct: None,
        })
    }
}

impl Port {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The core that this is a port of.
    #[must_use]
    pub fn core(&self) -> &Arc<Software> {
        &self.core
    }

    /// Registers who is told when a guard of this stream has kept a SYNC waiting for too long; in
    /// the place of whoever was registered through this port before. Control path.
    pub fn on_overdue(&mut self, tell: Arc<dyn Overdue>) {
        self.complaint = Some(Complaint::new(&self.core, self.stream, tell));
    }

    /// What the device's accesses from here on come in with, before any override:
    /// [`MemoryAttributes::CACHED`] unless this has been called. Changes nothing but
    /// [`Output::attributes`]. Control path.
    pub fn set_incoming(&mut self, incoming: MemoryAttributes) {
        self.incoming = incoming;
        self.kept = None;
    }

    /// Translates an access of up to `bytes` from its address on, and holds the translation until
    /// the guard is dropped. `faulted` is told of a fault *while the guard is open*, so that the
    /// event is visible before a SYNC that waits for this access completes (law 3).
    ///
    /// Never blocks. Reads a bounded number of structures.
    #[inline]
    pub fn translate(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
        faulted: impl FnOnce(&Failed),
    ) -> Result<Guarded<'_>, Denied> {
        match self.enter(substream, &access, bytes) {
            Looked::Found(output) => return Ok(Guarded { port: self, output }),
            Looked::NotCached => {
                if let Some(output) = self.enter_uncached(substream, &access, bytes) {
                    return Ok(Guarded { port: self, output });
                }
            }
            Looked::Otherwise => {}
        }
        self.find(substream, &access, bytes, Ends::AtPage, faulted)
    }

    /// The same under a guard that goes on to say that tables are read: for who looks up
    /// [again](Guarded::resolve) under it.
    pub(super) fn translate_and_go_on(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
        faulted: impl FnOnce(&Failed),
    ) -> Result<Guarded<'_>, Denied> {
        if let Some(slot) = &self.slot {
            let said = self.opened_with(substream, &access, Ends::Never);
            self.core.guards.open(slot, &said);
        }
        self.find(substream, &access, bytes, Ends::Never, faulted)
    }

    fn find(
        &mut self,
        substream: Option<SubstreamId>,
        access: &Access,
        bytes: u64,
        ends: Ends,
        faulted: impl FnOnce(&Failed),
    ) -> Result<Guarded<'_>, Denied> {
        match self.enter_slowly(substream, access, bytes, ends) {
            Ok(output) => Ok(Guarded { port: self, output }),
            Err(denied) => {
                if let Denied::Fault(failed) = &denied {
                    faulted(failed);
                }
                self.close();
                Err(denied)
            }
        }
    }

    /// Opens the guard, and finds the output if it is cached and no more than the guard says.
    #[inline]
    fn enter(&self, substream: Option<SubstreamId>, access: &Access, bytes: u64) -> Looked {
        let Some(slot) = &self.slot else {
            return Looked::Otherwise;
        };
        let said = expected(self.stream, self.kept.as_ref(), substream, access);
        self.core.guards.open(slot, &said);
        let Some(kept) = &self.kept else {
            return Looked::Otherwise;
        };
        kept.hit(&self.core, substream, &said, access, bytes)
    }

    /// Finds the output of a page of which [`enter`](Self::enter) has said that it is not cached. `None`
    /// if that has to be looked at in full, or ends in a fault. Without a loop around it, so that what is
    /// found stays in registers.
    #[inline(never)]
    fn enter_uncached(
        &mut self,
        substream: Option<SubstreamId>,
        access: &Access,
        bytes: u64,
    ) -> Option<Output> {
        let (slot, kept) = (self.slot.as_ref()?, self.kept.as_ref()?);
        let said = expected(self.stream, Some(kept), substream, access).walked();
        // law3m: only what is translated is said, not which tables are read for it.
        if taken(Site::PortSaysWalk) && !vcmdq_sync::broken!(break_law3m) {
            self.core.guards.restate(slot, &said);
        }
        let with = (&*self.core, &*self.tables.get_mut());
        let (output, used) = kept.uncached(with, (self.stream, substream), access, bytes)?;
        said.covers(&used).then(|| {
            self.core.guards.narrow(slot, &used);
            output
        })
    }

    /// What the guard was opened with, as long as nothing has been read anew since.
    fn opened_with(&self, substream: Option<SubstreamId>, access: &Access, ends: Ends) -> Use {
        let page = expected(self.stream, self.kept.as_ref(), substream, access);
        match ends {
            Ends::AtPage => page,
            Ends::Never => page.walked(),
        }
    }

    /// Whether what is kept is true, and of this substream.
    fn keeps_the_truth(&self, substream: Option<SubstreamId>) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| kept.is_true(&self.core, self.stream, substream))
    }

    /// Finds the output however long it takes. The guard has been opened with what was
    /// [`expected`], and is open afterwards, whatever the result.
    #[inline(never)]
    fn enter_slowly(
        &mut self,
        substream: Option<SubstreamId>,
        access: &Access,
        bytes: u64,
        ends: Ends,
    ) -> Result<Output, Denied> {
        let Some(slot) = &self.slot else {
            return Err(Denied::Aborted);
        };
        let core = &self.core;
        let mut said = self.opened_with(substream, access, ends);
        let mut tries = 0;
        loop {
            if !self.keeps_the_truth(substream) {
                self.kept = Kept::read(core, self.stream, substream, self.incoming)
                    .map_err(|fault| unreadable(self.stream, substream, *access, fault))?;
                // law7g: tables are kept that another configuration has led to.
                if !vcmdq_sync::broken!(break_law7g) {
                    self.tables.get_mut().forget();
                }
                tries += 1;
                let exact = expected(self.stream, self.kept.as_ref(), substream, access);
                if exact != said && tries < NARROWED {
                    // Now it is known what is going to be used: SYNCs of others need not wait. A
                    // guard that is open is never narrowed, so it is opened anew.
                    self.close();
                    said = exact;
                    self.core.guards.open(slot, &said);
                    continue;
                }
            }
            let Some(kept) = &self.kept else {
                return Err(Denied::Aborted);
            };
            // law3m: only what is translated is said, not which tables are read for it.
            if !said.is_walked() && taken(Site::PortSaysWalk) && !vcmdq_sync::broken!(break_law3m) {
                said = said.walked();
                core.guards.restate(slot, &said);
            }
            let with = (&**core, &*self.tables.get_mut());
            let result = kept.resolve(with, (self.stream, substream), access, bytes);
            let used = match &result {
                Ok((_, used)) => *used,
                // By whatever it was: a global page, a block, a table on the way.
                Err(Denied::Fault(_)) => Use::anything(self.stream, kept.vmid()),
                Err(Denied::Aborted) => return Err(Denied::Aborted),
            };
            if said.covers(&used) {
                // A fault is a use of whatever it was found by, until its event is there.
                if ends == Ends::AtPage && result.is_ok() && !used.is_nothing() {
                    core.guards.narrow(slot, &used);
                }
                return result.map(|(output, _)| output);
            }
            tries += 1;
            if tries > MAX_TRIES {
                // Every round is a change of the stream's VMID under its traffic.
                return Err(Denied::Aborted);
            }
            said = if tries < NARROWED {
                union(&said, &used)
            } else {
                Use::anything(used.stream, used.vmid)
            };
            core.guards.restate(slot, &said);
            // Around once more: what was found was found under a guard that did not say so.
            if !taken(Site::PortLooksAgain) {
                return result.map(|(output, _)| output);
            }
        }
    }

    /// The map of guest memory by which the open guard has translated.
    #[inline]
    pub(super) fn memory(&self) -> &dyn GuestMemory {
        self.kept.as_ref().map_or(&Nowhere, Kept::memory)
    }

    /// Looks up once more, under the open guard: the output, and what it uses.
    pub(super) fn resolve(
        &mut self,
        substream: Option<SubstreamId>,
        access: Access,
        bytes: u64,
    ) -> Result<(Output, Use), Denied> {
        let kept = self.kept.as_ref().ok_or(Denied::Aborted)?;
        let with = (&*self.core, &*self.tables.get_mut());
        kept.resolve(with, (self.stream, substream), &access, bytes)
    }

    /// Ends the use, if there is one.
    #[inline]
    pub(super) fn close(&self) {
        if let Some(slot) = &self.slot {
            if self.core.guards.close(slot) {
                self.core.wake_waiters();
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // A guard that was leaked must not keep SYNCs waiting for ever.
        self.close();
        if let Some(slot) = self.slot.take() {
            self.core.guards.give_back(slot);
        }
    }
}

/// A structure that could not be fetched: F_STE_FETCH or F_CD_FETCH, always an abort.
#[cold]
fn unreadable(
    stream: StreamId,
    substream: Option<SubstreamId>,
    access: Access,
    fault: Fault,
) -> Denied {
    let verdict = FaultPolicy::ABORT.verdict();
    Denied::Fault(Failed {
        fault,
        transaction: Transaction {
            stream,
            substream,
            access,
        },
        verdict,
    })
}
