//! What a port has read of its stream's configuration, and whether it is still true.

use super::Software;
use crate::backend::Traffic;
use smmu_core::attributes::{InputOverride, MemoryAttributes};
use smmu_core::config::context::{ContextLookup, lookup};
use smmu_core::config::{
    Context, Stage1Config, Stage2Config, StreamAttributes, StreamConfig, World,
};
use smmu_core::fault::{Fault, FaultPolicy, Place};
use smmu_core::tlb::View;
use smmu_core::translate::Setup;
use smmu_core::walk::{IpaSpace, NoStage2, Stage2};
use smmu_core::{Gpa, GuestMemory, MemoryError, StreamId, SubstreamId, Vmid};
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// How a stream's transactions go, with or without a given substream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// Nowhere, silently.
    Abort,
    /// Nowhere, with an event.
    Fault(Fault, FaultPolicy),
    /// Straight on, if the address has no more bits than this.
    Bypass(u32),
    /// The same with SMMUEN=0: what has more bits is aborted without an event.
    Disabled(u32),
    /// Through stage 1, and stage 2 if there is one, with the context's part of the translation cache.
    Stage1(Context, View),
    /// Through stage 1 of EL2, which has a translation cache of its own.
    El2(Context, View),
    /// Through the guest's own stage 2 only, if the address has no more bits than this.
    Stage2(u32),
}

/// A private copy of configuration. Faults are kept, too: what an STE or a CD says is cached even
/// when it is invalid (4.3); a failed *fetch* is not.
pub(super) struct Kept {
    substream: Option<SubstreamId>,
    stamp: u64,
    version: u64,
    setup: Option<Setup>,
    /// The guest's own stage 2, where there is one.
    stage2: Option<Stage2Config>,
    memory: Arc<dyn GuestMemory>,
    attributes: Option<StreamAttributes>,
    /// The device's memory attributes, after the overrides.
    input: MemoryAttributes,
    route: Route,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl Kept {
    /// Reads a stream's configuration for a substream. `Ok(None)` if there is nothing to read: the
    /// SMMU has not been set up. The error is a structure that could not be fetched, which is not
    /// kept; everything else that is wrong with a structure is.
    #[inline(never)]
    pub(super) fn read(
        core: &Software,
        stream: StreamId,
        substream: Option<SubstreamId>,
        incoming: MemoryAttributes,
    ) -> Result<Option<Self>, Fault> {
        let version = core.version();
        let world = core.world.read();
        let (Some(traffic), Some(memory)) = (world.traffic, world.memory.clone()) else {
            return Ok(None);
        };
        let setup = match traffic {
            Traffic::Enabled(setup) => Some(setup),
            Traffic::Disabled(..) => None,
        };
        // Before the first word is read: a CFGI that comes meanwhile makes the copy stale.
        let stamp = core.config.context(stream, substream.unwrap_or_default());
        let (attributes, route) = (None, Route::Abort);
        let mut kept = Self {
            substream,
            stamp,
            version,
            setup,
            stage2: None,
            memory,
            attributes,
            input: incoming,
            route,
        };
        if !core.is_closed(stream) {
            match kept.find_route(core, stream, &traffic) {
                Ok(()) => {}
                Err(fault @ (Fault::SteFetch(_) | Fault::CdFetch(_))) => return Err(fault),
                Err(fault) => {
                    if is_of_walk(&fault) {
                        // What translation has said about the place of a CD is no configuration.
                        kept.version = NEVER;
                    }
                    kept.route = Route::Fault(fault, FaultPolicy::ABORT);
                }
            }
        }
        Ok(Some(kept))
    }

    fn find_route(
        &mut self,
        core: &Software,
        stream: StreamId,
        traffic: &Traffic,
    ) -> Result<(), Fault> {
        let setup = match traffic {
            Traffic::Enabled(setup) => setup,
            Traffic::Disabled(gbpa, _) if gbpa.abort() => return Ok(()),
            Traffic::Disabled(gbpa, caps) => {
                self.input = InputOverride::of_gbpa(*gbpa, caps).apply(self.input);
                self.route = Route::Disabled(caps.oas_bits());
                return Ok(());
            }
        };
        let config = setup.streams.ste(&*self.memory, stream, &setup.caps)?;
        config.check_substream(self.substream)?;
        self.attributes = config.attributes().copied();
        if let Some(attributes) = &self.attributes {
            self.input = attributes.memory.apply(self.input);
        }
        self.stage2 = config.stage2().copied();
        self.route = match &config {
            StreamConfig::Abort => Route::Abort,
            StreamConfig::Bypass(_) => Route::Bypass(setup.caps.oas_bits()),
            StreamConfig::Stage1(attributes, stage1) => {
                self.stage1_route(core, setup, attributes, (stage1, &NoStage2))?
            }
            StreamConfig::Stage2(..) => Route::Stage2(setup.caps.ias_bits()),
            StreamConfig::Nested(attributes, stage1, stage2) => {
                let ipas = Stage2::new(&*self.memory, stage2);
                self.stage1_route(core, setup, attributes, (stage1, &ipas))?
            }
        };
        Ok(())
    }

    /// `ipas` says where CDs lie: a walk each time, since they are kept.
    fn stage1_route<S: IpaSpace>(
        &self,
        core: &Software,
        setup: &Setup,
        attributes: &StreamAttributes,
        (stage1, ipas): (&Stage1Config, &S),
    ) -> Result<Route, Fault> {
        let Setup { caps, e2h, .. } = setup;
        let found = lookup(&*self.memory, ipas, stage1, self.substream, caps, *e2h)?;
        let view = |context: &Context| core.tlb.view(attributes.vmid, context.asid);
        Ok(match (found, self.stage2.is_some()) {
            (ContextLookup::BypassStage1, false) => Route::Bypass(caps.ias_bits()),
            (ContextLookup::BypassStage1, true) => Route::Stage2(caps.ias_bits()),
            (ContextLookup::Context(context), false) if context.world != World::El1 => {
                Route::El2(context, core.el2.view(attributes.vmid, context.asid))
            }
            (ContextLookup::Context(context), false) => Route::Stage1(context, view(&context)),
            (ContextLookup::Context(context), true) => {
                Route::Stage1(context, view(&context).nested())
            }
        })
    }

    /// Whether nothing has changed since: configuration, registers, memory map.
    #[inline]
    pub(super) fn is_true(
        &self,
        core: &Software,
        stream: StreamId,
        substream: Option<SubstreamId>,
    ) -> bool {
        self.substream == substream
            && self.version == core.version()
            && self.stamp == core.config.context(stream, substream.unwrap_or_default())
    }

    /// Whether it was read for this substream.
    #[inline]
    pub(super) fn is_of(&self, substream: Option<SubstreamId>) -> bool {
        self.substream == substream
    }

    #[inline]
    pub(super) fn vmid(&self) -> Vmid {
        self.attributes
            .map_or_else(Vmid::default, |attributes| attributes.vmid)
    }

    #[inline]
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    #[inline]
    pub(super) fn attributes(&self) -> Option<&StreamAttributes> {
        self.attributes.as_ref()
    }

    /// The device's memory attributes, after the overrides.
    #[inline]
    pub(super) fn input(&self) -> MemoryAttributes {
        self.input
    }

    /// The guest's own stage 2, where there is one.
    #[inline]
    pub(super) fn stage2(&self) -> Option<&Stage2Config> {
        self.stage2.as_ref()
    }

    /// What the registers say; nothing while SMMUEN is 0.
    pub(super) fn setup(&self) -> Option<&Setup> {
        self.setup.as_ref()
    }

    #[inline]
    pub(super) fn memory(&self) -> &dyn GuestMemory {
        &*self.memory
    }
}

/// A version that a core never has: what is kept under it is not true any more for the next access.
const NEVER: u64 = u64::MAX;

/// Whether translation has failed, not configuration.
fn is_of_walk(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::WalkAbort(Place::Stage2 { .. }, _)
            | Fault::Translation(Place::Stage2 { .. })
            | Fault::AddressSize(Place::Stage2 { .. })
            | Fault::AccessFlag(Place::Stage2 { .. })
            | Fault::Permission(Place::Stage2 { .. })
    )
}

/// Guest memory without any: what a port that has translated nothing shows.
pub(super) struct Nowhere;

impl GuestMemory for Nowhere {
    fn words(&self, at: Gpa, _count: usize) -> Result<&[AtomicU64], MemoryError> {
        Err(MemoryError::NotBacked(at))
    }

    fn store_u32(&self, at: Gpa, _value: u32, _order: Ordering) -> Result<(), MemoryError> {
        Err(MemoryError::NotBacked(at))
    }

    fn mark_dirty(&self, _at: Gpa, _len: usize) {}
}
