//! Where QEMU is known to differ, and why the engine does not follow it. What is found here is
//! counted and shown; what is not found fails the run.

mod cache;
mod config;
mod fields;
mod walk;

pub use fields::{FIELDS, Field};

use crate::ours;
use crate::theirs::{self, Landed};
use crate::world::{Request, World};
use smmu_core::GuestMemory;
use smmu_core::config::{Stage2Config, StreamConfig, interpret};
use smmu_core::range::Granule;
use smmu_core::spec::cd::Cd;
use smmu_core::spec::event::{EventId, EventRecord};
use smmu_core::translate::Setup;

/// An access on which the two differ.
#[derive(Clone, Copy)]
pub struct Difference<'a> {
    /// Where.
    pub world: &'a World,
    /// What was asked.
    pub request: &'a Request,
    /// What the engine says.
    pub ours: &'a ours::Outcome,
    /// What QEMU did.
    pub theirs: &'a theirs::Outcome,
    /// What both were set up with.
    pub setup: &'a Setup,
    /// The memory of both.
    pub memory: &'a dyn GuestMemory,
    /// What the engine's walk read, from the stream table on.
    pub reads: &'a [u64],
}

impl std::fmt::Debug for Difference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Difference")
            .field("request", self.request)
            .finish_non_exhaustive()
    }
}

/// A known deviation of QEMU.
#[derive(Debug)]
pub struct Known {
    /// A name for the report.
    pub name: &'static str,
    /// What QEMU does, and what the architecture says where.
    pub why: &'static str,
    /// Whether it explains a difference.
    pub explains: fn(&Difference<'_>) -> bool,
}

/// Every deviation, in the order in which they are looked at.
pub fn all() -> impl Iterator<Item = &'static Known> {
    config::KNOWN.iter().chain(cache::KNOWN).chain(walk::KNOWN)
}

impl Difference<'_> {
    /// The stage 2 of the stream, if it has one that is valid.
    fn stage2(&self) -> Option<Stage2Config> {
        match interpret(&self.world.ste, &self.setup.caps) {
            Ok(StreamConfig::Stage2(_, stage2) | StreamConfig::Nested(_, _, stage2)) => {
                Some(stage2)
            }
            _ => None,
        }
    }

    /// The context, if stage 1 translates.
    fn context(&self) -> Option<Cd> {
        match interpret(&self.world.ste, &self.setup.caps) {
            Ok(StreamConfig::Stage1(..) | StreamConfig::Nested(..)) => self.world.context().map(Cd),
            _ => None,
        }
    }

    /// The granule of the half that the address belongs to.
    fn first_granule(&self) -> Option<Granule> {
        let word = self.context()?.dw0();
        if self.request.address >> 55 & 1 == 0 {
            match word.tg0() {
                0 => Some(Granule::K4),
                1 => Some(Granule::K64),
                2 => Some(Granule::K16),
                _ => None,
            }
        } else {
            Granule::from_tg(match word.tg1() {
                1 => 2,
                2 => 1,
                other => other,
            })
        }
    }

    /// Whether both stages translate.
    fn is_nested(&self) -> bool {
        matches!(
            interpret(&self.world.ste, &self.setup.caps),
            Ok(StreamConfig::Nested(..))
        )
    }

    /// What QEMU recorded, if it is one thing.
    fn their_record(&self) -> Option<&EventRecord> {
        match self.theirs.records.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    fn their_event(&self) -> Option<EventId> {
        self.their_record().and_then(EventRecord::id)
    }

    fn they_recorded_nothing(&self) -> bool {
        self.theirs.records.is_empty()
    }

    /// QEMU let the access through, as far as one can tell.
    fn they_did_it(&self) -> bool {
        self.they_recorded_nothing() && self.theirs.landed != Landed::Failed
    }
}
