//! What a port has read of its stream's configuration, and whether it is still true.

use super::Software;
use crate::backend::Traffic;
use smmu_core::config::context::{ContextLookup, lookup};
use smmu_core::config::{Context, Stage1Config, StreamAttributes, StreamConfig};
use smmu_core::fault::{Fault, FaultPolicy};
use smmu_core::tlb::{Tlb, View};
use smmu_core::translate::Setup;
use smmu_core::walk::NoStage2;
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
    /// Through stage 1, with the context's part of the translation cache.
    Stage1(Context, View),
    /// Through a stage 2 of the guest's: translated anew each time.
    Uncached,
}

/// A private copy of configuration. Faults are kept, too: what an STE or a CD says is cached even
/// when it is invalid (4.3); a failed *fetch* is not.
pub(super) struct Kept {
    substream: Option<SubstreamId>,
    stamp: u64,
    version: u64,
    setup: Option<Setup>,
    memory: Arc<dyn GuestMemory>,
    attributes: Option<StreamAttributes>,
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
    pub(super) fn read(
        core: &Software,
        stream: StreamId,
        substream: Option<SubstreamId>,
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
            memory,
            attributes,
            route,
        };
        if !core.is_closed(stream) {
            match kept.find_route(&core.tlb, stream, &traffic) {
                Ok(()) => {}
                Err(fault @ (Fault::SteFetch(_) | Fault::CdFetch(_))) => return Err(fault),
                Err(fault) => kept.route = Route::Fault(fault, FaultPolicy::ABORT),
            }
        }
        Ok(Some(kept))
    }

    fn find_route(&mut self, tlb: &Tlb, stream: StreamId, traffic: &Traffic) -> Result<(), Fault> {
        let setup = match traffic {
            Traffic::Enabled(setup) => setup,
            Traffic::Disabled(gbpa, _) if gbpa.abort() => return Ok(()),
            Traffic::Disabled(_, caps) => {
                self.route = Route::Disabled(caps.oas_bits());
                return Ok(());
            }
        };
        let config = setup.streams.ste(&*self.memory, stream, &setup.caps)?;
        config.check_substream(self.substream)?;
        self.attributes = config.attributes().copied();
        self.route = match &config {
            StreamConfig::Abort => Route::Abort,
            StreamConfig::Bypass(_) => Route::Bypass(setup.caps.oas_bits()),
            StreamConfig::Stage1(attributes, stage1) => {
                self.stage1_route(tlb, setup, attributes, stage1)?
            }
            StreamConfig::Stage2(..) | StreamConfig::Nested(..) => Route::Uncached,
        };
        Ok(())
    }

    fn stage1_route(
        &self,
        tlb: &Tlb,
        setup: &Setup,
        attributes: &StreamAttributes,
        stage1: &Stage1Config,
    ) -> Result<Route, Fault> {
        let Setup { caps, e2h, .. } = setup;
        match lookup(&*self.memory, &NoStage2, stage1, self.substream, caps, *e2h)? {
            ContextLookup::BypassStage1 => Ok(Route::Bypass(caps.ias_bits())),
            ContextLookup::Context(context) => {
                let view = tlb.view(attributes.vmid, context.asid);
                Ok(Route::Stage1(context, view))
            }
        }
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

    /// What the registers say; nothing while SMMUEN is 0.
    pub(super) fn setup(&self) -> Option<&Setup> {
        self.setup.as_ref()
    }

    #[inline]
    pub(super) fn memory(&self) -> &dyn GuestMemory {
        &*self.memory
    }
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
