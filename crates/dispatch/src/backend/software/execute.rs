//! A batch on the translation caches: whose entries each request takes.

use super::atc::Waiters;
use super::{DeviceTimeout, Software};
use crate::backend::{Cause, Rejected};
use crate::batch::Batch;
use crate::invalidation::{Invalidation, Scope, Stage};
use crate::packed::{Packed, key};
use smmu_core::Vmid;
use smmu_core::tlb::{Signature, Sweep};

impl Software {
    #[inline]
    pub(super) fn execute(&self, batch: &Batch) -> Result<(), Rejected> {
        let sweep = self.tlb.sweep(signature(batch));
        for (begin, some) in (0..).step_by(AHEAD).zip(batch.packed().chunks(AHEAD)) {
            touch(&sweep, some);
            for (index, request) in (begin..).zip(some) {
                if request.is_page() {
                    let (vmid, asid) = (key::vmid(request.key), key::asid(request.key));
                    sweep.page_of_4k(vmid, asid, request.addr);
                    continue;
                }
                let request = batch.unpack(request);
                if request.stream().is_none() {
                    let el2 = request.stage == Stage::El2 && !vcmdq_sync::broken!(break_law7e);
                    if el2 || request.scope == Scope::All {
                        self.sweep_el2(&request);
                    }
                    sweep_translations(&sweep, &request);
                    continue;
                }
                let waiters = batch.waiters_of(index);
                self.invalidate_atcs(&request, &waiters.collect::<Waiters>());
                if self.invalidate_device(&request).is_err() {
                    return Err(Rejected {
                        accepted: index,
                        cause: Cause::DeviceTimedOut,
                    });
                }
            }
        }
        Ok(())
    }

    /// What a request takes of EL2.
    #[cold]
    fn sweep_el2(&self, request: &Invalidation) {
        let mut signature = Signature::default();
        if let Scope::Addresses { asid, range } = request.scope {
            signature.add(asid);
            if takes_tables(range.leaf) {
                // Without E2H there are no ASIDs, whatever the command says.
                signature.add_tables(None);
            }
        }
        let sweep = self.el2.sweep(signature);
        match request.scope {
            Scope::Addresses { asid, ref range } => sweep.addresses(Vmid(0), asid, range),
            Scope::Context(asid) => sweep.asid(Vmid(0), asid),
            Scope::ContextAndGlobals(asid) => sweep.asid_and_globals(Vmid(0), asid),
            Scope::Vmid | Scope::All => sweep.everything(),
            Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {}
        }
    }

    fn invalidate_device(&self, request: &Invalidation) -> Result<(), DeviceTimeout> {
        let Scope::DeviceTlb {
            stream,
            pasid,
            global,
            addr,
            size,
        } = request.scope
        else {
            return Ok(());
        };
        match self.devices.read().get(&stream) {
            Some(cache) => cache.invalidate(pasid, global, addr, size),
            None => Ok(()),
        }
    }
}

/// How many requests' sets are fetched at the same time.
const AHEAD: usize = 16;

/// Requests at random addresses would wait for one set after the other.
#[inline]
fn touch(sweep: &Sweep<'_>, requests: &[Packed]) {
    if let [_, _, ..] = requests {
        for request in requests {
            if let Some(asid) = request.asid_of_addresses() {
                sweep.touch(key::vmid(request.key), asid, request.addr);
            }
        }
    }
}

/// Whether the addresses of a request stand for the tables on the way to them, too (Leaf=0).
#[inline]
fn takes_tables(leaf_only: bool) -> bool {
    // law7f: what is kept of tables is forgotten for nothing that names an address.
    !leaf_only && !vcmdq_sync::broken!(break_law7f)
}

fn signature(batch: &Batch) -> Signature {
    let mut signature = Signature::default();
    for request in batch.packed() {
        if request.key & key::KIND != key::ADDRESSES {
            continue;
        }
        let leaf_only = request.key & key::LEAF != 0;
        match key::stage(request.key) {
            Stage::One => {
                let any = request.key & key::ANY_ASID != 0;
                let asid = (!any).then(|| key::asid(request.key));
                signature.add(asid);
                if takes_tables(leaf_only) {
                    signature.add_tables(asid);
                }
            }
            Stage::Two | Stage::Both => signature.add_stage2(!takes_tables(leaf_only)),
            // Of another cache.
            Stage::El2 => {}
        }
    }
    signature
}

#[inline]
fn sweep_translations(sweep: &Sweep<'_>, request: &Invalidation) {
    let vmid = request.vmid;
    // law7e: EL2's translations are looked for where VMID 0 has its own.
    if request.stage == Stage::El2 && !vcmdq_sync::broken!(break_law7e) {
        return;
    }
    // law7c: what the guest asks of its own stage 2 is not heard, as where none is cached.
    if request.stage != Stage::One && !vcmdq_sync::broken!(break_law7c) {
        sweep_stage2(sweep, request);
    }
    if request.stage == Stage::Two {
        return;
    }
    match request.scope {
        Scope::Addresses { asid, ref range } => sweep.addresses(vmid, asid, range),
        Scope::Context(asid) => sweep.asid(vmid, asid),
        Scope::ContextAndGlobals(asid) => sweep.asid_and_globals(vmid, asid),
        Scope::Vmid => sweep.vmid(vmid),
        Scope::All => sweep.everything(),
        Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {}
    }
}

#[cold]
fn sweep_stage2(sweep: &Sweep<'_>, request: &Invalidation) {
    match request.scope {
        Scope::Addresses { ref range, .. } => sweep.intermediate(request.vmid, range),
        // law7d: S12_VMALL is taken for NH_ALL, which leaves stage 2.
        Scope::Vmid if vcmdq_sync::broken!(break_law7d) => {}
        Scope::Vmid | Scope::Context(_) | Scope::ContextAndGlobals(_) => {
            sweep.stage2(request.vmid);
        }
        // With everything else.
        Scope::All | Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => {}
    }
}
