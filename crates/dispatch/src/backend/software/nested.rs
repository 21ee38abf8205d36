//! Translations in which the guest's own stage 2 has a part, through the translation cache.
//!
//! | what is cached | under | goes with |
//! |---|---|---|
//! | a page of stage 2, unless what combines it with stage 1 says as much | VMID, intermediate address | TLBI_S2_IPA, S12_VMALL, NSNH_ALL |
//! | a page of stage 1 that stage 2 maps whole: the output of both and the rights of each | VMID, ASID, address | NH_*, S12_VMALL, NSNH_ALL |
//! | a page of stage 1 of which stage 2 maps pieces: its intermediate address, stage 2 is looked up behind it | the same | the same |
//!
//! Tables, and where those of stage 1 lie, are in each port's [`WalkCache`].
//! So each entry has the size and level of one descriptor, by which the guest invalidates it: an NH_VA
//! inside a block takes all of it, and a TLBI_S2_IPA never has to know who combined what.
//! An entry of both stages outlives the TLBI_S2_IPA of what it was made from, as the architecture has
//! it (4.4.3): the guest asks for that VMID's stage 1 next.

use super::Software;
use super::context::{Kept, Route};
use super::output::Output;
use super::resolve::{Who, With, entry};
use smmu_core::access::Access;
use smmu_core::config::{Context, Stage2Config};
use smmu_core::fault::{Fault, Place};
use smmu_core::guard::Use;
use smmu_core::spec::event::Class;
use smmu_core::tlb::{Entry, FillTicket, PageClass, Space, View};
use smmu_core::walk::{
    IpaSpace, Leaf, Stage2, WalkCache, bypass_stage1, translate_from as walk_stage1,
};
use smmu_core::{Asid, Gpa, GuestMemory, SubstreamId, Vmid};

/// A stage 2 whose pages are cached.
struct CachedStage2<'a> {
    core: &'a Software,
    tables: &'a WalkCache,
    memory: &'a dyn GuestMemory,
    config: &'a Stage2Config,
    vmid: Vmid,
    ticket: FillTicket,
    /// The configuration that has led here was still true when the ticket had been taken.
    may_stay: bool,
}

/// What stage 2 says of an intermediate address.
struct Second {
    leaf: Leaf,
    /// It was walked, so it is not cached.
    walked: bool,
}

impl<'a> CachedStage2<'a> {
    #[inline]
    fn stage2(&self) -> Stage2<'a, dyn GuestMemory + 'a> {
        Stage2::new(self.memory, self.config).starting_from(self.tables.stage2())
    }

    /// Where an access goes on.
    #[inline(always)]
    fn input(&self, ipa: u64, access: &Access) -> Result<Second, Fault> {
        let class = Class::Input;
        self.config.admit(ipa, class)?;
        let hit = self.core.tlb.lookup_stage2(self.vmid, ipa);
        if let Some(leaf) = hit.and_then(|hit| Leaf::unpack(hit.payload)) {
            let passed = self.config.pass(&leaf, ipa, class, access);
            if passed.is_ok() || !leaf.asks_again(access) {
                let walked = false;
                return passed.map(|()| Second { leaf, walked });
            }
        }
        let leaf = self.stage2().leaf(ipa, class, access)?;
        Ok(Second { leaf, walked: true })
    }

    /// Caches what has been walked.
    #[inline(never)]
    fn fill(&self, ipa: u64, second: &Second) {
        let Second { leaf, walked } = second;
        let class = PageClass::of(leaf.granule, leaf.level);
        if let (true, Some(class)) = (*walked && self.may_stay, class) {
            let entry = Entry {
                vmid: self.vmid,
                space: Space::Stage2,
                va: ipa,
                class,
                payload: leaf.pack(),
            };
            self.core.tlb.fill(&entry, &self.ticket);
        }
    }
}

impl IpaSpace for CachedStage2<'_> {
    fn located(&self, ipa: u64, class: Class) -> Result<(Gpa, u32), Fault> {
        self.stage2().located(ipa, class)
    }

    fn for_update(&self, ipa: u64) -> Result<Gpa, Fault> {
        self.stage2().for_update(ipa)
    }
}

impl Kept {
    #[inline(always)]
    fn cached_stage2<'a>(
        &'a self,
        (core, tables): With<'a>,
        (stream, substream): Who,
        config: &'a Stage2Config,
        asid: Asid,
    ) -> CachedStage2<'a> {
        let vmid = self.vmid();
        let ticket = core.tlb.ticket(vmid, asid);
        tables.renew(&ticket, true);
        CachedStage2 {
            core,
            tables,
            memory: self.memory(),
            config,
            vmid,
            ticket,
            // Behind the ticket, as for stage 1 alone.
            may_stay: self.is_true(core, stream, substream),
        }
    }

    /// Both stages. The leaf, and log2 of the size of the page of stage 1, which is what is in use.
    #[inline(never)]
    pub(super) fn both(
        &self,
        with: With<'_>,
        who: Who,
        (context, view): (&Context, &View),
        (stage2, access): (&Stage2Config, &Access),
    ) -> Result<(Leaf, u32), Fault> {
        context.admit(access)?;
        let hit = with.0.tlb.lookup_in(view, access.address);
        if let Some(leaf) = hit.and_then(|hit| Leaf::unpack(hit.payload)) {
            if leaf.permissions.allow(access) {
                return Ok((leaf, leaf.shift));
            }
            let refused = !leaf.stage1.allow(access);
            if refused && !leaf.asks_again(access) {
                return Err(Fault::Permission(Place::Stage1));
            }
            if leaf.is_before_stage2() && !refused {
                let ipas = self.cached_stage2(with, who, stage2, context.asid);
                return through(&ipas, &leaf, access).map(|both| (both, leaf.shift));
            }
            // Stage 2 refuses, and its fault has to say the intermediate address; or a page is to become
            // dirty. So everything is walked.
        }
        self.walk_both(with, who, context, (stage2, access))
    }

    /// Both stages, stage 1 through its tables.
    #[inline(always)]
    pub(super) fn walk_both(
        &self,
        with: With<'_>,
        who: Who,
        context: &Context,
        (stage2, access): (&Stage2Config, &Access),
    ) -> Result<(Leaf, u32), Fault> {
        let ipas = self.cached_stage2(with, who, stage2, context.asid);
        let known = Some(with.1.stage1());
        let first = walk_stage1(self.memory(), &ipas, context, access, known)?;
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
            ipas.core.tlb.fill_nested(&entry, &ipas.ticket);
        }
        Ok((both, first.shift))
    }

    /// Stage 2 alone; `bits` is how wide an address a bypassed stage 1 hands on.
    #[inline(never)]
    pub(super) fn second(
        &self,
        with: With<'_>,
        who: Who,
        bits: u32,
        access: &Access,
    ) -> Result<Leaf, Fault> {
        let ipa = bypass_stage1(access.address, bits)?;
        // Every route here was made with a stage 2.
        let stage2 = self.stage2().ok_or(Fault::BadSte)?;
        let ipas = self.cached_stage2(with, who, stage2, Asid(0));
        let second = ipas.input(ipa, access)?;
        ipas.fill(ipa, &second);
        Ok(second.leaf)
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
#[inline(always)]
fn through(ipas: &CachedStage2<'_>, first: &Leaf, access: &Access) -> Result<Leaf, Fault> {
    let ipa = first.output(access.address);
    let second = ipas.input(ipa, access)?;
    // Of the same size it is part of the combined entry, and no other page of stage 1 asks for it.
    if second.leaf.shift != first.shift {
        ipas.fill(ipa, &second);
    }
    let first = Leaf {
        permissions: first.stage1,
        ..*first
    };
    Ok(first.combined(&second.leaf, access.address))
}
