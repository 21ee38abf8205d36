//! Which stages and address spaces the guest's invalidations name.

use dispatch::{Batch, Invalidation, Scope, Stage};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests of one VMID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfVmid {
    /// By address in stage 2 (TLBI_S2_IPA).
    pub by_ipa: u64,
    /// Everything (TLBI_S12_VMALL).
    pub both: u64,
    /// All of stage 1 (TLBI_NH_ALL).
    pub stage_one: u64,
    /// In stage 1, by ASID: alone or with an address.
    pub by_asid: BTreeMap<u16, u64>,
    /// In stage 1, by address in every ASID.
    pub by_address: u64,
}

/// Counts by VMID. What names a stream, or everything there is, is left out.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<u16, OfVmid>>);

impl Seen {
    /// What has been seen so far.
    #[must_use]
    pub fn by_vmid(&self) -> BTreeMap<u16, OfVmid> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, OfVmid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, batch: &Batch) {
        let mut all = self.lock();
        for request in batch.requests() {
            if request.stream().is_none() && request.scope != Scope::All {
                all.entry(request.vmid.0).or_default().note(&request);
            }
        }
    }
}

impl OfVmid {
    fn note(&mut self, request: &Invalidation) {
        let count = match (request.stage, request.scope) {
            // Not offered to the guests here.
            (Stage::El2, _) => return,
            (Stage::Two, _) => &mut self.by_ipa,
            (Stage::Both, _) => &mut self.both,
            (
                Stage::One,
                Scope::Context(asid)
                | Scope::ContextAndGlobals(asid)
                | Scope::Addresses {
                    asid: Some(asid), ..
                },
            ) => self.by_asid.entry(asid.0).or_default(),
            (Stage::One, Scope::Addresses { asid: None, .. }) => &mut self.by_address,
            (Stage::One, _) => &mut self.stage_one,
        };
        *count += 1;
    }

    /// Requests of stage 1 alone.
    #[must_use]
    pub fn of_stage_one(&self) -> u64 {
        self.stage_one + self.by_address + self.by_asid.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmu_core::command::Tlbi;
    use smmu_core::{Asid, Vmid};

    #[test]
    fn each_kind_is_counted_for_its_vmid() {
        let seen = Seen::default();
        let kinds = [
            (3, Tlbi::NhAll { vmid: Vmid(3) }),
            (3, Tlbi::S12VmAll { vmid: Vmid(3) }),
            (
                4,
                Tlbi::NhAsid {
                    vmid: Vmid(4),
                    asid: Asid(9),
                },
            ),
            (0, Tlbi::NsnhAll),
        ];
        for (vmid, tlbi) in kinds {
            let mut batch = Batch::new();
            batch.restart(Vmid(vmid));
            batch.push(Invalidation::from_tlbi(tlbi), 0);
            seen.note(&batch);
        }
        let all = seen.by_vmid();
        let (third, fourth) = (&all[&3], &all[&4]);
        assert_eq!(
            (third.both, third.stage_one, third.of_stage_one()),
            (1, 1, 1)
        );
        assert_eq!((fourth.by_asid[&9], fourth.of_stage_one()), (1, 1));
        assert_eq!(all.len(), 2, "everything is of no VMID");
    }
}
