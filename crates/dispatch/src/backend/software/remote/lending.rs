//! The owner's half of a remote: what is lent.

use super::super::Software;
use super::super::port::{Denied, Guarded, Port, union};
use super::notice::Unanswered;
use super::registry::RemoteHandle;
use super::shared::{Notifier, Shared, count};
use smmu_core::access::{Access, Operation};
use smmu_core::guard::{NoSlot, Use};
use smmu_core::translate::Failed;
use smmu_core::{Gpa, StreamId, SubstreamId};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use vcmdq_sync::weak::{Site, taken};

/// How often a translation is looked up anew because more has to be said about it.
const MAX_TRIES: usize = 8;
/// What is lent of a stream whose addresses are not translated, if memory has as much in one piece.
const UNTRANSLATED: u64 = 2 << 20;
/// The least that is lent. Models have less memory than a page.
const LEAST: u64 = if cfg!(loom) { 64 } else { 4096 };

/// Sizes of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// The most translations that can be lent at the same time; at least 1. Linux's vhost keeps 2048.
    pub loans: usize,
    /// Places for invalidations that the owner has not taken yet. When they are full, everything that
    /// is lent is taken back.
    pub places: usize,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            loans: 2048,
            places: 256,
        }
    }
}

/// What a device asks a translation for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Both.
    ReadWrite,
}

impl Wanted {
    fn operations(self) -> &'static [Operation] {
        match self {
            Self::Read => &[Operation::Read],
            Self::Write => &[Operation::Write],
            Self::ReadWrite => &[Operation::Read, Operation::Write],
        }
    }
}

/// A translation that the device may use until it has answered the notice that takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loan {
    /// First input address: that of a page or block, or of the part of it around the address that
    /// was asked for that lies in one piece of host memory.
    pub iova: u64,
    /// How many bytes, a power of two.
    pub bytes: u64,
    /// Where the first one goes, guest-physical.
    pub address: Gpa,
    /// Where that lies in this process. True as long as the loan.
    pub host: usize,
    /// What it was asked for, and may be used for.
    pub wanted: Wanted,
}

/// Why nothing was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLent {
    /// The access was aborted or has faulted; whoever asked has been told of a fault.
    #[error("the access may not go on")]
    Denied(Denied),
    /// The output address is not memory of the guest's (a doorbell of an interrupt controller, a
    /// device's register), or can only be read and was wanted to be written.
    #[error("{0} is not memory, or not to be written")]
    NotMemory(Gpa),
    /// As much is lent as [`RemoteSettings::loans`] says: [`Remote::recall`] makes room.
    #[error("no room for more loans")]
    Full,
    /// The peer is gone.
    #[error("the peer is gone")]
    Gone,
}

/// The owner's half of a device in another process. One thread at a time has it.
///
/// Dropping it is no proof that the device has dropped what it was lent: SYNCs go on waiting, until
/// [`RemoteHandle::gone`] says so.
pub struct Remote {
    port: Port,
    substream: Option<SubstreamId>,
    most: usize,
    pub(super) places: usize,
    pub(super) shared: Arc<Shared>,
    /// By first input address and bytes: what the device may have and has not been told to drop.
    pub(super) lent: BTreeMap<(u64, u64), (Loan, Use)>,
    pub(super) unanswered: VecDeque<Unanswered>,
    pub(super) number: u64,
}

impl Software {
    /// Registers a device in another process, which is lent translations of one stream and
    /// substream. `tell` is told when some have to be given back. Fails if the instance has no more
    /// guards. Control path.
    pub fn remote(
        self: &Arc<Self>,
        stream: StreamId,
        substream: Option<SubstreamId>,
        settings: RemoteSettings,
        tell: Box<dyn Notifier>,
    ) -> Result<Remote, NoSlot> {
        let port = self.port(stream)?;
        let places = settings.places.max(1);
        let shared = Arc::new(Shared::new(stream, places, tell));
        self.remotes.enter(&shared);
        Ok(Remote {
            port,
            substream,
            most: settings.loans.max(1),
            places,
            shared,
            lent: BTreeMap::new(),
            unanswered: VecDeque::new(),
            number: 0,
        })
    }
}

impl Remote {
    pub(super) fn core(&self) -> &Arc<Software> {
        self.port.core()
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.port.stream()
    }

    /// For the VMM, which may learn that the peer is gone.
    #[must_use]
    pub fn handle(&self) -> RemoteHandle {
        RemoteHandle {
            core: self.core().clone(),
            shared: self.shared.clone(),
        }
    }

    /// How many translations are lent.
    #[must_use]
    pub fn loans(&self) -> usize {
        self.lent.len()
    }

    /// Translates, under a guard, an address that the device has missed, and lends the page or
    /// block. The device must be sent it before anything that a later [`take`](Self::take) says.
    /// `faulted` is told of a fault while the guard is open, so that its event is visible before a SYNC
    /// that waits for this access completes. The owner's thread; never blocks.
    pub fn lend(
        &mut self,
        iova: u64,
        wanted: Wanted,
        faulted: impl FnMut(&Failed),
    ) -> Result<Loan, NotLent> {
        if self.shared.is_gone() {
            return Err(NotLent::Gone);
        }
        if self.lent.len() >= self.most {
            return Err(NotLent::Full);
        }
        let found = self.find(iova, wanted, faulted);
        let found = found.and_then(
            |(loan, used)| match self.lent.get(&(loan.iova, loan.bytes)) {
                // The stream has got another VMID, and what it was lent with the old one is on its way back.
                Some((_, before)) if before.vmid != used.vmid => {
                    Err(NotLent::Denied(Denied::Aborted))
                }
                _ => Ok((loan, used)),
            },
        );
        let counters = &self.shared.counters;
        match found {
            Ok((loan, used)) => {
                count(&counters.loans, 1);
                self.note(loan, used);
                Ok(loan)
            }
            Err(refused) => {
                count(&counters.refused, 1);
                Err(refused)
            }
        }
    }

    /// The device may still have what it was lent there before, which another invalidation may take.
    fn note(&mut self, loan: Loan, used: Use) {
        let place = (loan.iova, loan.bytes);
        let before = self.lent.get(&place);
        let used = before.map_or(used, |(_, before)| union(before, &used));
        self.lent.insert(place, (loan, used));
    }

    fn find(
        &mut self,
        iova: u64,
        wanted: Wanted,
        mut faulted: impl FnMut(&Failed),
    ) -> Result<(Loan, Use), NotLent> {
        for _ in 0..MAX_TRIES {
            let (loan, used) = self.look(iova, wanted, &mut faulted)?;
            let said = self.shared.interest();
            if said.contains(used.interest()) {
                return Ok((loan, used));
            }
            self.shared.say(said.or(used.interest()));
            // Around once more: what was found was found before it was said.
            if !taken(Site::RemoteLooksAgain) {
                return Ok((loan, used));
            }
        }
        // The guest changes the mapping faster than it can be read.
        Err(NotLent::Denied(Denied::Aborted))
    }

    fn look(
        &mut self,
        iova: u64,
        wanted: Wanted,
        faulted: &mut impl FnMut(&Failed),
    ) -> Result<(Loan, Use), NotLent> {
        let mut found: Option<(Loan, Use)> = None;
        for &operation in wanted.operations() {
            let access = Access {
                address: iova,
                operation,
                privileged: false,
            };
            let mut guard = self
                .port
                .translate_and_go_on(self.substream, access, 1, &mut *faulted)
                .map_err(NotLent::Denied)?;
            // What the guard found is at least as old; both halves must be of one look.
            let (output, used) = guard
                .resolve(self.substream, access, 1)
                .map_err(NotLent::Denied)?;
            let mut whole = Whole {
                guard: &mut guard,
                substream: self.substream,
                access,
                output: output.address,
                used,
            };
            let loan = whole.loan(wanted)?;
            if found.is_some_and(|before| before != (loan, used)) {
                // Changed in between: neither is to be lent.
                return Err(NotLent::Denied(Denied::Aborted));
            }
            found = Some((loan, used));
        }
        found.ok_or(NotLent::Denied(Denied::Aborted))
    }

    /// Ends the registration of a peer that *has no mapping of guest memory any more*; see
    /// [`RemoteHandle::gone`].
    pub fn close(self) {
        self.handle().gone();
    }
}

/// The page or block around an address that has been translated.
struct Whole<'w, 'g> {
    guard: &'w mut Guarded<'g>,
    substream: Option<SubstreamId>,
    access: Access,
    output: u64,
    used: Use,
}

impl Whole<'_, '_> {
    /// As much of it as one translation covers and lies in one piece of host memory.
    fn loan(&mut self, wanted: Wanted) -> Result<Loan, NotLent> {
        let said = self.used.last.checked_sub(self.used.first);
        let said = said.and_then(|last| last.checked_add(1));
        let mut bytes = said.unwrap_or(UNTRANSLATED);
        loop {
            let offset = self.access.address & (bytes - 1);
            // In front of the first address, if that is not one translation; then it is not used.
            let address = Gpa(self.output.wrapping_sub(offset));
            let is_least = bytes <= LEAST;
            if is_least || self.is_one(offset, bytes) {
                let words = usize::try_from(bytes / 8).unwrap_or(usize::MAX);
                let memory = self.guard.memory();
                let run = match wanted {
                    Wanted::Read => memory.words(address, words),
                    Wanted::Write | Wanted::ReadWrite => memory.words_to_write(address, words),
                };
                match run {
                    Ok(run) if run.len() == words => {
                        return Ok(Loan {
                            iova: self.access.address - offset,
                            bytes,
                            address,
                            host: run.as_ptr().addr(),
                            wanted,
                        });
                    }
                    _ if is_least => return Err(NotLent::NotMemory(address)),
                    _ => {}
                }
            }
            bytes /= 2;
        }
    }

    /// Whether all of a block has this one translation. What a guard says may be more: a block of
    /// stage 1 over pages of stage 2, or nothing of addresses at all.
    fn is_one(&mut self, offset: u64, bytes: u64) -> bool {
        let access = Access {
            address: self.access.address - offset,
            ..self.access
        };
        let first = self.guard.resolve(self.substream, access, bytes);
        first.is_ok_and(|(first, used)| {
            first.bytes == bytes && first.address + offset == self.output && used == self.used
        })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("stream", &self.stream())
            .field("loans", &self.lent.len())
            .field("unanswered", &self.unanswered.len())
            .finish_non_exhaustive()
    }
}
