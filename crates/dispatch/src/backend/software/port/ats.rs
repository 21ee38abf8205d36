//! A device with a translation cache of its own: what it asks for, and accesses by what it was
//! answered (IHI 0070, 3.9).
//!
//! Both hold the port's guard. While a grant is held, a SYNC behind an invalidation that concerns it
//! waits: a device that puts the answer into its cache before it lets go of the grant finds it there
//! when the ATC_INV comes that the guest sends behind that SYNC. An access by a translation that the
//! device keeps says which untranslated addresses it stands for, and a SYNC behind an ATC_INV of them
//! waits for it.
//!
//! The stream table, contexts and tables are walked for each request: the device's cache is the
//! cache.

use super::{Denied, Port};
use crate::backend::Traffic;
use smmu_core::access::{Access, Transaction};
use smmu_core::ats::{Admitted, AtsRefusal, AtsRequest, AtsTranslation, rejected};
use smmu_core::fault::Fault;
use smmu_core::guard::Use;
use smmu_core::translate::{Failed, Setup};
use smmu_core::{Asid, Gpa, GuestMemory, Vmid};
use std::sync::Arc;
use vcmdq_sync::atomic::Ordering;

/// Memory and registers as of one version.
pub(in super::super) struct Direct {
    version: u64,
    memory: Arc<dyn GuestMemory>,
    /// Nothing while SMMUEN is 0.
    setup: Option<Setup>,
    /// The stream has been failed closed.
    closed: bool,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// An answer, held until the device has put it into its cache.
#[derive(Debug)]
pub struct AtsGrant<'p> {
    port: &'p mut Port,
    count: usize,
}

impl AtsGrant<'_> {
    /// How many translations there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for AtsGrant<'_> {
    fn drop(&mut self) {
        self.port.close();
    }
}

/// An access by a translation that the device keeps; as [`Guarded`](super::Guarded).
#[derive(Debug)]
pub struct TranslatedAccess<'p> {
    port: &'p mut Port,
    address: u64,
    bytes: u64,
}

impl TranslatedAccess<'_> {
    /// Where it goes: the address that it named, or what the guest's stage 2 makes of it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes from there on that go the same way, up to the end of the page.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The map of guest memory. Nothing of it may be used when the guard is closed (law 9).
    #[must_use]
    pub fn memory(&self) -> &dyn GuestMemory {
        self.port
            .direct
            .as_ref()
            .map_or(&super::Nowhere, |direct| &*direct.memory)
    }
}

impl Drop for TranslatedAccess<'_> {
    fn drop(&mut self) {
        self.port.close();
    }
}

/// What an access by a kept translation says that it uses: addresses, whatever translated them.
fn kept(stream: smmu_core::StreamId, from: u64) -> Use {
    Use {
        stream,
        vmid: Vmid(0),
        asid: Some(Asid(0)),
        global: false,
        first: from & !0xFFF,
        last: from | 0xFFF,
    }
}

impl Port {
    /// Asks for translations of as many pages as `into` has room for, from the request's address on.
    /// Those of the answer come one behind the other in untranslated addresses; only the first may be
    /// without any right, and at least one is there. A refusal's event goes to `faulted`, under the
    /// guard. Never blocks.
    pub fn request(
        &mut self,
        request: &AtsRequest,
        into: &mut [AtsTranslation],
        faulted: impl FnOnce(&Failed),
    ) -> Result<AtsGrant<'_>, AtsRefusal> {
        let request = AtsRequest {
            stream: self.stream,
            ..*request
        };
        self.say(&Use::anything(self.stream, Vmid(0)));
        match self.answers(&request, into) {
            Ok(count) => Ok(AtsGrant { port: self, count }),
            Err(refusal) => {
                if let AtsRefusal::Unsupported(Some(failed)) = &refusal {
                    faulted(failed);
                }
                self.close();
                Err(refusal)
            }
        }
    }

    fn answers(
        &mut self,
        first: &AtsRequest,
        into: &mut [AtsTranslation],
    ) -> Result<usize, AtsRefusal> {
        let mut request = *first;
        for (index, place) in into.iter_mut().enumerate() {
            let found = match self.answer(&request) {
                Ok(found) => found,
                Err(_) if index > 0 => return Ok(index),
                Err(refusal) => return Err(refusal),
            };
            if index > 0 && !found.is_allowed() {
                return Ok(index);
            }
            *place = found;
            match found.last().checked_add(1) {
                Some(next) => request.address = next,
                None => return Ok(index + 1),
            }
        }
        Ok(into.len())
    }

    /// One translation. The guard is open; what was said covers every VMID that can be found only if it
    /// is the one that was said.
    fn answer(&mut self, request: &AtsRequest) -> Result<AtsTranslation, AtsRefusal> {
        let Some(direct) = self.directly() else {
            return Err(request.unsupported(false));
        };
        let Some(setup) = &direct.setup else {
            return Err(request.unsupported(false));
        };
        if direct.closed {
            return Err(AtsRefusal::Unsupported(None));
        }
        let (memory, setup) = (direct.memory.clone(), *setup);
        self.say_vmid(&*memory, &setup);
        let mut found = setup.answer_ats(&*memory, request, self.checks())?;
        // What is no RAM (a doorbell, another device) is not for a device to reach by itself.
        found.untranslated_only =
            found.is_allowed() && memory.words(Gpa(found.to & !7), 1).is_err();
        Ok(found)
    }

    /// Begins an access by a translation that the device keeps: it stands for the untranslated address
    /// `from`, and names `access.address` to the SMMU. `keeps` is asked under the guard whether the
    /// device still has that translation; if not, nothing is accessed. Faults go to `faulted`.
    ///
    /// Never blocks.
    pub fn translated(
        &mut self,
        from: u64,
        access: Access,
        bytes: u64,
        keeps: impl FnOnce() -> bool,
        faulted: impl FnOnce(&Failed),
    ) -> Result<Option<TranslatedAccess<'_>>, Denied> {
        self.say(&kept(self.stream, from));
        if !keeps() {
            self.close();
            return Ok(None);
        }
        let room = 0x1000 - (access.address & 0xFFF);
        match self.admit(access) {
            Ok(address) => Ok(Some(TranslatedAccess {
                port: self,
                address,
                bytes: bytes.min(room),
            })),
            Err(denied) => {
                if let Denied::Fault(failed) = &denied {
                    faulted(failed);
                }
                self.close();
                Err(denied)
            }
        }
    }

    fn admit(&mut self, access: Access) -> Result<u64, Denied> {
        let transaction = Transaction {
            stream: self.stream,
            substream: None,
            access,
        };
        let checks = self.checks();
        let direct = self.directly().ok_or(Denied::Aborted)?;
        if direct.closed {
            return Err(Denied::Aborted);
        }
        let Some(setup) = direct.setup else {
            let failed = rejected(Fault::TranslationForbidden, transaction, false);
            return Err(Denied::Fault(failed));
        };
        let memory = direct.memory.clone();
        if checks {
            // EATS=2: the access uses the guest's stage 2.
            self.say_vmid(&*memory, &setup);
        }
        match setup.admit_translated(&*memory, &transaction, checks) {
            Ok(Admitted::AsIs) => Ok(access.address),
            Ok(Admitted::Stage2(_, leaf)) => Ok(leaf.output(access.address)),
            Err(None) => Err(Denied::Aborted),
            Err(Some(failed)) => Err(Denied::Fault(failed)),
        }
    }

    /// CR0.ATSCHK. Acquire behind the guard's fence: who sees this access's guard closed, or never sees
    /// it, knows that it goes by the new value.
    fn checks(&self) -> bool {
        self.core.ats_check.load(Ordering::Acquire)
    }

    fn say(&self, used: &Use) {
        if let Some(slot) = &self.slot {
            self.core.guards.open(slot, used);
        }
    }

    /// Says the stream's VMID, by which invalidations name what is going to be used, before it is used.
    fn say_vmid(&self, memory: &dyn GuestMemory, setup: &Setup) {
        if !setup.caps.idr0.s2p() {
            return;
        }
        let config = setup.streams.ste(memory, self.stream, &setup.caps);
        let attributes = config.as_ref().ok().and_then(|config| config.attributes());
        let (Some(slot), Some(attributes)) = (&self.slot, attributes) else {
            return;
        };
        if attributes.vmid != Vmid(0) {
            let used = Use::anything(self.stream, attributes.vmid);
            self.core.guards.restate(slot, &used);
        }
    }

    /// Memory and registers, as they are now. Nothing before they are there.
    fn directly(&mut self) -> Option<&Direct> {
        let version = self.core.version();
        if self.direct.as_ref().is_none_or(|d| d.version != version) {
            let world = self.core.world.read();
            let (Some(traffic), Some(memory)) = (world.traffic, world.memory.clone()) else {
                self.direct = None;
                return None;
            };
            let setup = match traffic {
                Traffic::Enabled(setup) => Some(setup),
                Traffic::Disabled(..) => None,
            };
            let closed = self.core.is_closed(self.stream);
            self.direct = Some(Direct {
                version,
                memory,
                setup,
                closed,
            });
        }
        self.direct.as_ref()
    }
}
