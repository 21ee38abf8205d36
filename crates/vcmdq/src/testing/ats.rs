//! A witness between a device with a translation cache and its port, and a device that it can be tried on.
//!
//! The witness sees what a root complex would: which translations were granted, which invalidations the
//! device was told, which translated accesses it makes. The test says when a SYNC is complete. An access by
//! a translation that was invalidated before a SYNC that is complete is reported, with what and when.

use crate::dma::Requester;
use dispatch::backend::software::{Denied, Port};
use dispatch::backend::{AtcAnswer, AtcTarget, Software};
use smmu_core::SubstreamId;
use smmu_core::access::{Access, Operation};
use smmu_core::ats::{AtsRefusal, AtsRequest, AtsTranslation};
use smmu_core::command::AtcInv;
use smmu_core::guard::NoSlot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A translated access that should not have been made. The numbers are places in the order of all that the
/// witness has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleUse {
    /// Who.
    pub who: Requester,
    /// The untranslated address that the access stands for.
    pub from: u64,
    /// The address that it names.
    pub to: u64,
    /// When the newest grant of that translation was; `None` if it was never granted.
    pub granted: Option<u64>,
    /// When the device was told to forget it.
    pub invalidated: Option<u64>,
    /// When the SYNC behind that was complete.
    pub synced: Option<u64>,
    /// When it was used.
    pub used: u64,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    substream: Option<SubstreamId>,
    translation: AtsTranslation,
    at: u64,
    invalidated: Option<u64>,
    synced: Option<u64>,
}

#[derive(Debug, Default)]
struct Ledger {
    seen: u64,
    grants: Vec<Grant>,
    stale: Vec<StaleUse>,
}

impl Ledger {
    fn next(&mut self) -> u64 {
        self.seen += 1;
        self.seen
    }
}

/// See the [module](self). From any thread.
#[derive(Debug)]
pub struct AtsWitness {
    who: Requester,
    ledger: Mutex<Ledger>,
}

impl AtsWitness {
    /// A witness of one device that has seen nothing.
    #[must_use]
    pub fn new(who: Requester) -> Arc<Self> {
        Arc::new(Self {
            who,
            ledger: Mutex::default(),
        })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A translation has been granted. To be called while the grant is held.
    pub fn granted(&self, substream: Option<SubstreamId>, translation: AtsTranslation) {
        let mut ledger = self.ledger();
        let at = ledger.next();
        ledger.grants.push(Grant {
            substream,
            translation,
            at,
            invalidated: None,
            synced: None,
        });
    }

    /// A device in whose place the witness is told what to forget, and passes it on.
    #[must_use]
    pub fn watch(self: &Arc<Self>, device: Arc<dyn AtcTarget>) -> Arc<dyn AtcTarget> {
        let witness = self.clone();
        Arc::new(Watched { witness, device })
    }

    fn told(&self, what: &AtcInv) {
        let mut ledger = self.ledger();
        let at = ledger.next();
        let every = what.global || what.substream.is_none();
        for grant in &mut ledger.grants {
            let own = &grant.translation;
            let covered = own.from <= what.last() && what.addr <= own.last();
            if covered && (every || grant.substream == what.substream) {
                grant.invalidated.get_or_insert(at);
            }
        }
    }

    /// A SYNC is complete, as the guest sees it: what was invalidated before may not be used any more.
    pub fn synced(&self) {
        let mut ledger = self.ledger();
        let at = ledger.next();
        for grant in &mut ledger.grants {
            if grant.invalidated.is_some() {
                grant.synced.get_or_insert(at);
            }
        }
    }

    /// The device accesses `to`, which stands for `from`. To be called under the access's guard.
    pub fn used(&self, substream: Option<SubstreamId>, from: u64, to: u64) {
        let mut ledger = self.ledger();
        let used = ledger.next();
        let of = |grant: &&Grant| {
            let own = &grant.translation;
            let inside = (own.from..=own.last()).contains(&from);
            grant.substream == substream && inside && own.output(from) == to
        };
        let newest = ledger.grants.iter().rev().find(of).copied();
        if newest.is_some_and(|grant| grant.synced.is_none()) {
            return;
        }
        let who = self.who;
        ledger.stale.push(StaleUse {
            who,
            from,
            to,
            granted: newest.map(|grant| grant.at),
            invalidated: newest.and_then(|grant| grant.invalidated),
            synced: newest.and_then(|grant| grant.synced),
            used,
        });
    }

    /// What should not have been.
    #[must_use]
    pub fn stale_uses(&self) -> Vec<StaleUse> {
        self.ledger().stale.clone()
    }
}

struct Watched {
    witness: Arc<AtsWitness>,
    device: Arc<dyn AtcTarget>,
}

impl AtcTarget for Watched {
    fn invalidate(&self, what: &AtcInv, answer: AtcAnswer) {
        self.witness.told(what);
        self.device.invalidate(what, answer);
    }
}

/// What the device keeps.
#[derive(Debug, Default)]
struct Kept {
    translations: Mutex<Vec<AtsTranslation>>,
    forgets: bool,
}

impl Kept {
    fn all(&self) -> MutexGuard<'_, Vec<AtsTranslation>> {
        let all = self.translations.lock();
        all.unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtcTarget for Kept {
    fn invalidate(&self, what: &AtcInv, answer: AtcAnswer) {
        if self.forgets {
            self.all()
                .retain(|own| !(own.from <= what.last() && what.addr <= own.last()));
        }
        answer.complete();
    }
}

/// A device that reads words by translations that it keeps, under a witness. One that does not forget says
/// that it has, and goes on using what it has.
#[derive(Debug)]
pub struct WitnessedDevice {
    port: Port,
    witness: Arc<AtsWitness>,
    kept: Arc<Kept>,
    who: Requester,
}

impl WitnessedDevice {
    /// A device on a stream of `core`, whose cache is registered there. Fails if there are no more guards.
    pub fn new(core: &Arc<Software>, who: Requester, forgets: bool) -> Result<Self, NoSlot> {
        let port = core.port(who.stream)?;
        let witness = AtsWitness::new(who);
        let kept = Arc::new(Kept {
            translations: Mutex::default(),
            forgets,
        });
        core.attach_atc(who.stream, witness.watch(kept.clone()));
        Ok(Self {
            port,
            witness,
            kept,
            who,
        })
    }

    /// Its witness.
    #[must_use]
    pub fn witness(&self) -> &Arc<AtsWitness> {
        &self.witness
    }

    /// Asks for the translation of an address and keeps it. Whether it gives a right to read.
    pub fn fetch(&mut self, address: u64) -> Result<bool, AtsRefusal> {
        let request = AtsRequest {
            stream: self.who.stream,
            substream: self.who.substream,
            address,
            no_write: true,
            execute: false,
            privileged: self.who.privileged,
        };
        let mut answer = [AtsTranslation::NOTHING];
        let grant = self.port.request(&request, &mut answer, |_| ())?;
        let [found] = answer;
        if found.allows(Operation::Read) {
            self.witness.granted(self.who.substream, found);
            self.kept.all().push(found);
        }
        drop(grant);
        Ok(found.allows(Operation::Read))
    }

    /// Reads a word by a translation that it keeps; `None` if it keeps none.
    pub fn read(&mut self, from: u64) -> Result<Option<u64>, Denied> {
        let inside = |own: &&AtsTranslation| (own.from..=own.last()).contains(&from);
        let found = self.kept.all().iter().rev().find(inside).copied();
        let Some(found) = found else {
            return Ok(None);
        };
        let (address, operation) = (found.output(from), Operation::Read);
        let access = Access {
            address,
            operation,
            privileged: self.who.privileged,
        };
        let (kept, witness, substream) = (&self.kept, &self.witness, self.who.substream);
        let keeps = || {
            let still = kept.all().contains(&found);
            if still {
                witness.used(substream, from, address);
            }
            still
        };
        let begun = self.port.translated(from, access, 8, keeps, |_| ())?;
        Ok(begun.and_then(|access| {
            let words = access.memory().words(smmu_core::Gpa(access.address()), 1);
            let first = words.ok()?.first()?;
            Some(smmu_core::guest_memory::load_le(
                first,
                vcmdq_sync::atomic::Ordering::Acquire,
            ))
        }))
    }
}
