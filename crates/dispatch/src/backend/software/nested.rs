//! Translations in which the guest's own stage 2 has a part, through the translation cache.
//!
//! | what is cached | under | goes with |
//! |---|---|---|
//! | a page of stage 2: also those in which tables of stage 1 lie, so a walk of stage 1 mostly reads its own descriptors only | VMID, intermediate address | TLBI_S2_IPA, S12_VMALL, NSNH_ALL |
//! | a page of stage 1 that stage 2 maps whole: the output of both and the rights of each | VMID, ASID, address | NH_*, S12_VMALL, NSNH_ALL |
//! | a page of stage 1 of which stage 2 maps pieces: its intermediate address, stage 2 is looked up behind it | the same | the same |
//!
//! So each entry has the size and level of one descriptor, by which the guest invalidates it: an NH_VA
//! inside a block takes all of it, and a TLBI_S2_IPA never has to know who combined what.
//! An entry of both stages outlives the TLBI_S2_IPA of what it was made from, as the architecture has
//! it (4.4.3): the guest asks for that VMID's stage 1 next.

use super::Software;
use super::context::{Kept, Route};
use super::output::Output;
use super::resolve::entry;
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::config::{Context, Stage2Config};
use smmu_core::fault::{Fault, Place};
use smmu_core::guard::Use;
use smmu_core::spec::event::Class;
use smmu_core::tlb::{Entry, FillTicket, PageClass, Space, View};
use smmu_core::walk::{IpaSpace, Leaf, Stage2, bypass_stage1, translate as walk_stage1};
use smmu_core::{Asid, Gpa, GuestMemory, SubstreamId, Vmid};

/// A stage 2 whose pages are cached.
struct CachedStage2<'a> {
    core: &'a Software,
    memory: &'a dyn GuestMemory,
    config: &'a Stage2Config,
    vmid: Vmid,
    ticket: FillTicket,
    /// The configuration that has led here was still true when the ticket had been taken.
    may_stay: bool,
}

impl CachedStage2<'_> {
    fn leaf(&self, ipa: u64, class: Class, access: &Access) -> Result<Leaf, Fault> {
        self.config.admit(ipa, class)?;
        let hit = self.core.tlb.lookup_stage2(self.vmid, ipa);
        if let Some(leaf) = hit.and_then(|hit| Leaf::unpack(hit.payload)) {
            let passed = self.config.pass(&leaf, ipa, class, access);
            if passed.is_ok() || !leaf.asks_again(access) {
                return passed.map(|()| leaf);
            }
        }
        let leaf = Stage2::new(self.memory, self.config).leaf(ipa, class, access)?;
        if let (true, Some(class)) = (self.may_stay, PageClass::of(leaf.granule, leaf.level)) {
            let entry = Entry {
                vmid: self.vmid,
                space: Space::Stage2,
                va: ipa,
                class,
                payload: leaf.pack(),
            };
            self.core.tlb.fill(&entry, &self.ticket);
        }
        Ok(leaf)
    }

    /// Where an access goes on.
    fn input(&self, ipa: u64, access: &Access) -> Result<Leaf, Fault> {
        self.leaf(ipa, Class::Input, access)
    }
}

impl IpaSpace for CachedStage2<'_> {
    fn physical(&self, ipa: u64, class: Class) -> Result<Gpa, Fault> {
        let leaf = self.leaf(ipa, class, &Access::of_smmu(ipa, Operation::Read))?;
        Ok(Gpa(leaf.output(ipa)))
    }

    fn for_update(&self, ipa: u64) -> Result<Gpa, Fault> {
        let write = Access::of_smmu(ipa, Operation::Write);
        let leaf = self.leaf(ipa, Class::TranslationTable, &write)?;
        Ok(Gpa(leaf.output(ipa)))
    }
}

impl Kept {
    fn cached_stage2<'a>(
        &'a self,
        core: &'a Software,
        config: &'a Stage2Config,
        asid: Asid,
        transaction: &Transaction,
    ) -> CachedStage2<'a> {
        let vmid = self.vmid();
        CachedStage2 {
            core,
            memory: self.memory(),
            config,
            vmid,
            ticket: core.tlb.ticket(vmid, asid),
            // Behind the ticket, as for stage 1 alone.
            may_stay: self.is_true(core, transaction.stream, transaction.substream),
        }
    }

    /// Both stages. The leaf, and log2 of the size of the page of stage 1, which is what is in use.
    #[inline(never)]
    pub(super) fn both(
        &self,
        core: &Software,
        (context, view): (&Context, &View),
        stage2: &Stage2Config,
        transaction: &Transaction,
    ) -> Result<(Leaf, u32), Fault> {
        let access = &transaction.access;
        context.admit(access)?;
        let hit = core.tlb.lookup_in(view, access.address);
        if let Some(leaf) = hit.and_then(|hit| Leaf::unpack(hit.payload)) {
            if leaf.permissions.allow(access) {
                return Ok((leaf, leaf.shift));
            }
            let refused = !leaf.stage1.allow(access);
            if refused && !leaf.asks_again(access) {
                return Err(Fault::Permission(Place::Stage1));
            }
            if leaf.is_before_stage2() && !refused {
                let ipas = self.cached_stage2(core, stage2, context.asid, transaction);
                return through(&ipas, &leaf, access).map(|both| (both, leaf.shift));
            }
            // Stage 2 refuses, and its fault has to say the intermediate address; or a page is to become
            // dirty. So everything is walked.
        }
        let ipas = self.cached_stage2(core, stage2, context.asid, transaction);
        let first = walk_stage1(self.memory(), &ipas, context, access)?;
        let both = through(&ipas, &first, access)?;
        let kept = if both.shift < first.shift {
            first.before_stage2()
        } else {
            both
        };
        if let (true, Some(entry)) = (
            ipas.may_stay,
            entry(ipas.vmid, context.asid, access.address, &kept),
        ) {
            core.tlb.fill_nested(&entry, &ipas.ticket);
        }
        Ok((both, first.shift))
    }

    /// Stage 2 alone; `bits` is how wide an address a bypassed stage 1 hands on.
    #[inline(never)]
    pub(super) fn second(
        &self,
        core: &Software,
        bits: u32,
        transaction: &Transaction,
    ) -> Result<Leaf, Fault> {
        let access = &transaction.access;
        let ipa = bypass_stage1(access.address, bits)?;
        // Every route here was made with a stage 2.
        let stage2 = self.stage2().ok_or(Fault::BadSte)?;
        let ipas = self.cached_stage2(core, stage2, Asid(0), transaction);
        ipas.input(ipa, access)
    }

    /// [`hit`](Self::hit) of stage 2 alone.
    #[inline(never)]
    pub(super) fn hit_stage2(
        &self,
        core: &Software,
        substream: Option<SubstreamId>,
        said: &Use,
        access: Access,
        bytes: u64,
    ) -> Option<Output> {
        let Route::Stage2(bits) = *self.route() else {
            return None;
        };
        if !self.is_true(core, said.stream, substream) {
            return None;
        }
        let access = self.attributes()?.apply(access);
        let ipa = bypass_stage1(access.address, bits).ok()?;
        self.stage2()?.admit(ipa, Class::Input).ok()?;
        let hit = core.tlb.lookup_stage2(self.vmid(), ipa)?;
        let leaf = Leaf::unpack(hit.payload)?;
        leaf.permissions
            .allow(&access)
            .then(|| self.output(&leaf, ipa, bytes))
    }
}

/// What stage 1 has found, on through stage 2.
fn through(ipas: &CachedStage2<'_>, first: &Leaf, access: &Access) -> Result<Leaf, Fault> {
    let second = ipas.input(first.output(access.address), access)?;
    let first = Leaf {
        permissions: first.stage1,
        ..*first
    };
    Ok(first.combined(&second, access.address))
}
