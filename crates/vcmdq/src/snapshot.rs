//! State as plain data (law 10).
//!
//! A saved frame restored elsewhere behaves as if nothing had happened: commands that were not
//! consumed are, a SYNC that waited is asked for again, an error that stopped a ring still does.
//! Nothing that was fetched survives: consumption begins by reading the entry at CONS.

use crate::cmdqv::CmdqvState;
use crate::consumer::Consumer;
use crate::events::{EventQueueState, EventSinkState};
use crate::fetch::Entries;
use crate::gerror::CommandError;
use crate::ring::Ring;
use smmu_core::caps::CapabilitiesError;
use smmu_core::queue_index::{Geometry, MAX_LOG2SIZE};
use smmu_core::spec::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use smmu_core::{Capabilities, Gpa};

/// A frame. With the feature `serde`, in any of its formats.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FrameState {
    /// What it advertises; must be the same where it is restored.
    pub caps: SavedCaps,
    /// Its rings, in the order in which they were added.
    pub rings: Vec<RingState>,
    /// The event queue and the stalled transactions.
    pub events: EventSinkState,
    /// The PRI queue, if it has one.
    #[cfg_attr(feature = "serde", serde(default))]
    pub pages: Option<EventQueueState>,
    /// The CMDQV, if it has one.
    pub cmdqv: Option<CmdqvState>,
}

/// IDR0, IDR1, IDR3, IDR5 and AIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SavedCaps(pub [u32; 5]);

impl From<Capabilities> for SavedCaps {
    fn from(caps: Capabilities) -> Self {
        Self([
            caps.idr0.into_bits(),
            caps.idr1.into_bits(),
            caps.idr3.into_bits(),
            caps.idr5.into_bits(),
            caps.aidr.into_bits(),
        ])
    }
}

impl SavedCaps {
    /// What a frame must be made with so that the state can be restored into it. Fails if no engine
    /// advertises this.
    pub fn capabilities(&self) -> Result<Capabilities, CapabilitiesError> {
        let [idr0, idr1, idr3, idr5, aidr] = self.0;
        let caps = Capabilities {
            idr0: Idr0::from_bits(idr0),
            idr1: Idr1::from_bits(idr1),
            idr3: Idr3::from_bits(idr3),
            idr5: Idr5::from_bits(idr5),
            aidr: Aidr::from_bits(aidr),
        };
        caps.check()?;
        Ok(caps)
    }
}

/// One ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RingState {
    /// First entry.
    pub base: u64,
    /// Effective size.
    pub log2size: u8,
    /// PROD, read or not.
    pub prod: u32,
    /// CONS with its wrap bit.
    pub cons: u32,
    /// ERR: 0, or why the ring has stopped.
    pub error: u8,
    /// GERROR of the ring.
    pub gerror: u32,
    /// GERRORN of the ring.
    pub gerrorn: u32,
    /// Whether the guest has enabled it.
    pub enabled: bool,
    /// An ATC_INV before CONS was not answered, and no SYNC has said so yet.
    pub lost_atc_inv: bool,
}

impl RingState {
    pub(crate) fn of(ring: &Ring) -> Self {
        ring.drain();
        ring.with_consumer(|consumer| {
            // law10b: what nobody has read yet is not saved.
            if !vcmdq_sync::broken!(break_law10b) {
                ring.take_page();
                consumer.take_guest_prod(ring);
            }
            consumer.collect_unanswered(ring);
            Self::of_owned(ring, consumer)
        })
    }

    fn of_owned(ring: &Ring, consumer: &Consumer) -> Self {
        Self {
            base: consumer.entries.base().0,
            log2size: consumer.entries.geometry().log2size(),
            // law10b: what nobody has read yet is not saved.
            prod: if vcmdq_sync::broken!(break_law10b) {
                consumer.cons.raw()
            } else {
                ring.prod()
            },
            cons: consumer.cons.raw(),
            error: consumer.halted.map_or(0, |error| error as u8),
            gerror: ring.gerror(),
            gerrorn: ring.gerrorn(),
            enabled: ring.is_wanted(),
            lost_atc_inv: consumer.lost_atc_inv,
        }
    }

    /// Which field no engine writes, if any.
    pub(crate) fn validate(&self, caps: &Capabilities) -> Result<(), &'static str> {
        if self.log2size > caps.cmdq_log2size().min(MAX_LOG2SIZE) {
            return Err("LOG2SIZE");
        }
        let geometry = Geometry::capped(self.log2size, MAX_LOG2SIZE);
        if geometry.pointer(self.cons).raw() != self.cons {
            return Err("CONS");
        }
        if self.error != 0 && CommandError::from_code(self.error).is_none() {
            return Err("ERR");
        }
        if Entries::new(Gpa(self.base), geometry).base() != Gpa(self.base) {
            return Err("BASE");
        }
        Ok(())
    }

    pub(crate) fn put(&self, ring: &Ring) {
        ring.with_consumer(|consumer: &mut Consumer| {
            let geometry = Geometry::capped(self.log2size, MAX_LOG2SIZE);
            consumer.entries = Entries::new(Gpa(self.base), geometry);
            consumer.halted = CommandError::from_code(self.error);
            consumer.lost_atc_inv = self.lost_atc_inv;
            ring.unstage();
            ring.latch.restore(self.gerror, self.gerrorn);
            ring.restore_lane(consumer, self);
            ring.place(consumer, self.prod, self.cons);
        });
        ring.restore_page(self);
        if self.enabled {
            ring.enable();
        } else {
            ring.disable();
        }
    }
}
