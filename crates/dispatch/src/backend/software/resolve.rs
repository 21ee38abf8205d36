//! From a kept configuration and an address to an output: bypass, cache, walk.

use super::Software;
use super::context::{Kept, Route};
use super::output::Output;
use super::port::Denied;
use smmu_core::access::{Access, Transaction};
use smmu_core::attributes::StageAttributes;
use smmu_core::config::{Context, World};
use smmu_core::fault::{Fault, FaultPolicy, FaultRules, Place};
use smmu_core::guard::Use;
use smmu_core::tlb::{Entry, PageClass, Space, Tlb, View};
use smmu_core::translate::Failed;
use smmu_core::walk::{Leaf, NoStage2, WalkCache, bypass_stage1, translate_from as walk_stage1};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};

/// What the look at a cache has come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked {
    /// Here it goes.
    Found(Output),
    /// What is kept of the configuration is true, and there is no entry.
    NotCached,
    /// What has to be looked at in full.
    Otherwise,
}

/// What a translation is found with: caches, and tables that are known.
pub(super) type With<'a> = (&'a Software, &'a WalkCache);
/// Whose it is.
pub(super) type Who = (StreamId, Option<SubstreamId>);

impl Kept {
    /// Where an access goes, and what it uses for that.
    #[inline]
    pub(super) fn resolve(
        &self,
        with: With<'_>,
        who: Who,
        asked: &Access,
        bytes: u64,
    ) -> Result<(Output, Use), Denied> {
        let access = self
            .attributes()
            .map_or(*asked, |attributes| attributes.apply(*asked));
        let (stream, substream) = who;
        let denied = |fault, policy| {
            let transaction = Transaction {
                stream,
                substream,
                access,
            };
            self.denied(fault, transaction, policy)
        };
        let vmid = self.vmid();
        match self.route() {
            Route::Abort => Err(Denied::Aborted),
            Route::Fault(fault, policy) => Err(denied(*fault, *policy)),
            Route::Bypass(bits) => {
                let address = bypass_stage1(access.address, *bits)
                    .map_err(|fault| denied(fault, FaultPolicy::ABORT))?;
                let bytes = bytes.min(room(address, *bits));
                Ok((
                    self.straight(address, bytes),
                    Use::untranslated(stream, vmid),
                ))
            }
            Route::Disabled(bits) => {
                let address = bypass_stage1(access.address, *bits).map_err(|_| Denied::Aborted)?;
                let bytes = bytes.min(room(address, *bits));
                Ok((
                    self.straight(address, bytes),
                    Use::untranslated(stream, vmid),
                ))
            }
            Route::Stage1(context, view) | Route::El2(context, view) => {
                let (leaf, shift) = match self.stage2() {
                    None => self
                        .stage1(with, who, (context, view), &access)
                        .map(|leaf| (leaf, leaf.shift)),
                    Some(stage2) => self.both(with, who, (context, view), (stage2, &access)),
                }
                .map_err(|fault| denied(fault, context.policy))?;
                let used = self.used(stream, context, (&leaf, shift), access.address);
                Ok((self.output(&leaf, access.address, bytes), used))
            }
            Route::Stage2(bits) => {
                let leaf = self
                    .second(with, who, *bits, &access)
                    .map_err(|fault| denied(fault, FaultPolicy::ABORT))?;
                let used = Use::untranslated(stream, vmid);
                Ok((self.output(&leaf, access.address, bytes), used))
            }
        }
    }

    /// The way of nearly all accesses: stage 1, cached, allowed, and no more than the open guard
    /// says. Any other has to be looked at in full, by [`resolve`](Self::resolve).
    #[inline]
    pub(super) fn hit(
        &self,
        core: &Software,
        substream: Option<SubstreamId>,
        said: &Use,
        access: &Access,
        bytes: u64,
    ) -> Looked {
        let Route::Stage1(context, view) = self.route() else {
            return self
                .hit_stage2(core, substream, said, *access, bytes)
                .map_or(Looked::Otherwise, Looked::Found);
        };
        if !self.is_true(core, said.stream, substream) {
            return Looked::Otherwise;
        }
        let Some(attributes) = self.attributes() else {
            return Looked::Otherwise;
        };
        let access = attributes.apply(*access);
        if context.admit(&access).is_err() {
            return Looked::Otherwise;
        }
        let Some(hit) = core.tlb.lookup_in(view, access.address) else {
            return Looked::NotCached;
        };
        let Some(leaf) = Leaf::unpack(hit.payload) else {
            return Looked::Otherwise;
        };
        let within = (1u64 << leaf.shift) - 1;
        let is_said = said.first <= access.address & !within
            && access.address | within <= said.last
            && (said.global || !leaf.global);
        if is_said && leaf.permissions.allow(&access) {
            Looked::Found(self.output(&leaf, access.address, bytes))
        } else {
            Looked::Otherwise
        }
    }

    /// What [`hit`](Self::hit) has not found in the cache: where it goes, and what it uses. `None` if
    /// there is more to say than that.
    #[inline(always)]
    pub(super) fn uncached(
        &self,
        with: With<'_>,
        who: Who,
        asked: &Access,
        bytes: u64,
    ) -> Option<(Output, Use)> {
        let Route::Stage1(context, _) = self.route() else {
            return None;
        };
        let access = self.attributes()?.apply(*asked);
        let (leaf, shift) = match self.stage2() {
            None => {
                let leaf = self.walk_stage1(with, who, context, &access).ok()?;
                (leaf, leaf.shift)
            }
            Some(stage2) => self.walk_both(with, who, context, (stage2, &access)).ok()?,
        };
        let used = self.used(who.0, context, (&leaf, shift), access.address);
        Some((self.output(&leaf, access.address, bytes), used))
    }

    /// What an access by a `leaf` uses, that of stage 1 being of `shift` bits.
    #[inline(always)]
    fn used(
        &self,
        stream: StreamId,
        context: &Context,
        (leaf, shift): (&Leaf, u32),
        address: u64,
    ) -> Use {
        Use {
            stream,
            vmid: self.vmid(),
            asid: Some(context.asid),
            global: leaf.global,
            first: address & !((1u64 << shift) - 1),
            last: address | ((1u64 << shift) - 1),
        }
    }

    /// Where an access to a page goes.
    #[inline]
    pub(super) fn output(&self, leaf: &Leaf, address: u64, bytes: u64) -> Output {
        let offset = address & ((1u64 << leaf.shift) - 1);
        Output {
            address: leaf.output(address),
            bytes: bytes.min((1u64 << leaf.shift) - offset),
            memory: leaf.memory,
            input: self.input(),
        }
    }

    /// Where an access goes that no stage translates.
    fn straight(&self, address: u64, bytes: u64) -> Output {
        Output {
            address,
            bytes,
            memory: StageAttributes::default(),
            input: self.input(),
        }
    }

    #[cold]
    fn denied(&self, fault: Fault, transaction: Transaction, policy: FaultPolicy) -> Denied {
        let rules = FaultRules {
            stage1: policy,
            stage2: self.stage2().map_or(FaultPolicy::ABORT, |own| own.policy),
            record_bad_stream_id: self.setup().is_some_and(|setup| setup.record_bad_stream_id),
            merge: self.attributes().is_some_and(|a| a.merge_events),
        };
        Denied::Fault(Failed {
            fault,
            transaction,
            verdict: fault.verdict(&rules),
        })
    }

    /// Stage 1 alone, through the translation cache.
    #[inline(never)]
    fn stage1(
        &self,
        with: With<'_>,
        who: Who,
        (context, view): (&Context, &View),
        access: &Access,
    ) -> Result<Leaf, Fault> {
        context.admit(access)?;
        let hit = tlb_of(with.0, context).lookup_in(view, access.address);
        if let Some(leaf) = hit.and_then(|hit| Leaf::unpack(hit.payload)) {
            if leaf.permissions.allow(access) {
                return Ok(leaf);
            }
            // A write may make a clean page dirty: only the walk can say, and the table must.
            if !leaf.asks_again(access) {
                return Err(Fault::Permission(Place::Stage1));
            }
        }
        self.walk_stage1(with, who, context, access)
    }

    /// Stage 1 alone, through its tables.
    #[inline(always)]
    fn walk_stage1(
        &self,
        (core, tables): With<'_>,
        (stream, substream): Who,
        context: &Context,
        access: &Access,
    ) -> Result<Leaf, Fault> {
        let (tlb, vmid) = (tlb_of(core, context), self.vmid());
        let ticket = tlb.ticket(vmid, context.asid);
        // A CFGI, and a TLBI behind it, may have come since the context was read: that TLBI is older
        // than the ticket, so nothing would take away again what the old context leads to. The
        // ticket acquires: who has seen the TLBI sees the CFGI.
        let may_stay = self.is_true(core, stream, substream);
        tables.renew(&ticket, false);
        let known = Some(tables.stage1());
        let leaf = walk_stage1(self.memory(), &NoStage2, context, access, known)?;
        if may_stay {
            if let Some(entry) = entry(vmid, context.asid, access.address, &leaf) {
                tlb.fill(&entry, &ticket);
            }
        }
        Ok(leaf)
    }
}

/// The translation cache of a context's world.
#[inline]
fn tlb_of<'a>(core: &'a Software, context: &Context) -> &'a Tlb {
    match context.world {
        World::El1 => &core.tlb,
        World::El2 | World::El2E2h => &core.el2,
    }
}

/// What to cache of what stage 1 has said about an address, alone or with stage 2.
#[inline(always)]
pub(super) fn entry(vmid: Vmid, asid: Asid, va: u64, leaf: &Leaf) -> Option<Entry> {
    let space = if leaf.global {
        Space::Global
    } else {
        Space::Asid(asid)
    };
    Some(Entry {
        vmid,
        space,
        va,
        class: PageClass::of(leaf.granule, leaf.level)?,
        payload: leaf.pack(),
    })
}

/// Bytes from a bypassed address on that fit as it does: what lies beyond faults on its own.
#[inline]
fn room(address: u64, bits: u32) -> u64 {
    1u64.checked_shl(bits)
        .map_or(u64::MAX, |end| end.saturating_sub(address).max(1))
}
