//! What a SYNC covers beside its own ring (law 3).
//!
//! Linux may put a piece of 64 commands into one ring and the SYNC that belongs to it into
//! another. So a SYNC completes only when every command is done that any ring of its VINTF had
//! published when it was fetched. No ring waits for another one:
//!
//! 1. When a ring has fetched a SYNC, it looks how far each other ring is published, *after* the
//!    fetch: what the guest published before the SYNC is seen.
//! 2. What lies there between CONS and PROD it executes itself, as part of its own window.
//!    The other ring will do so again, which over-invalidates and harms nobody (law 7). Commands
//!    that are no invalidations have no effect here.
//! 3. What lies before a CONS is accepted. Where accesses may still use what it removed, because
//!    no SYNC of that ring has come since, the barrier of that ring is asked beside the own one.
//!
//! So it does not matter what the other ring is doing: it may be behind a SYNC that waits, stopped
//! at an error (what lies behind the error is executed, too), or never be served at all. Two SYNCs
//! that wait do so for accesses only, never for each other. A ring that is not enabled has
//! published nothing; neither has one whose PROD lies beyond its ring. The amount is fixed by what
//! was published in step 1, at most a whole ring each, and done in portions that count against
//! the slice; a guest that forges PRODs pays for it with its own ring's time.

use super::group::{Lane, MAX_QUEUES, Member};
use crate::budget;
use crate::fetch::Entries;
use crate::instance::{Instance, waiter};
use crate::window::Window;
use arrayvec::ArrayVec;
use dispatch::coalesce::Coalescer;
use dispatch::{Barrier, Invalidation};
use smmu_core::command::Command;
use smmu_core::decode::decode;
use smmu_core::guest_memory::load_le;
use smmu_core::queue_index::{Geometry, QueueIndex};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::{VcmdqBase, accepts};
use smmu_core::{Capabilities, Gpa, GuestMemory};
use std::sync::Arc;
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::{Site, taken};

/// Entries of another ring that are still to be executed.
#[derive(Debug)]
struct Stretch {
    entries: Entries,
    at: QueueIndex,
    count: u32,
}

/// So many entries from CONS on of another ring are executed in the same window by that ring itself,
/// which cannot move CONS meanwhile: whoever fills the window has its claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// The engine's number of that ring.
    pub(crate) ring: u32,
    pub(crate) entries: u32,
}

/// See the [module](self). Belongs to one ring's consumer.
#[derive(Debug)]
pub(crate) struct Cover {
    member: Member,
    left: ArrayVec<Stretch, MAX_QUEUES>,
    begun: bool,
}

impl Cover {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            member,
            left: ArrayVec::new(),
            begun: false,
        }
    }

    pub(crate) fn lane(&self) -> &Lane {
        self.member.lane()
    }

    /// Whether a SYNC at CONS is known to need more.
    #[inline]
    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// The SYNC is done, or is not one any more.
    pub(crate) fn forget(&mut self) {
        self.left.clear();
        self.begun = false;
    }

    /// Step 1; what is `taken_up` need not be executed once more.
    pub(crate) fn begin(&mut self, taken_up: &[Taken]) {
        self.forget();
        self.begun = true;
        // law3d: a SYNC covers the commands of its own ring.
        if vcmdq_sync::broken!(break_law3d) || !taken(Site::CoverOthers) {
            return;
        }
        for (index, lane) in self.member.others() {
            let Some(place) = lane.place().map(VcmdqBase::from_bits) else {
                continue;
            };
            let geometry = Geometry::capped(place.log2size(), place.log2size());
            // CONS first: PROD can only have moved on meanwhile.
            let at = geometry.pointer(lane.cons());
            let prod = geometry.pointer(self.member.group.prod(index));
            let count = geometry.published(at, prod).unwrap_or(0);
            let own = taken_up.iter().find(|taken| taken.ring == lane.ring());
            let own = own.map_or(0, |taken| taken.entries.min(count));
            let (at, count) = (geometry.advance(at, own), count - own);
            if count != 0 {
                let entries = Entries::new(Gpa(place.addr()), geometry);
                self.left.push(Stretch { entries, at, count });
            }
        }
    }

    /// Step 2, behind the window's own commands: up to `room` entries, and no more than the window's
    /// budget allows, but one. Returns how many were looked at. When [`is_done`](Self::is_done) says so, the rest is the barriers'.
    pub(crate) fn gather(
        &mut self,
        window: &mut Window,
        memory: &dyn GuestMemory,
        caps: &Capabilities,
        room: u32,
    ) -> u32 {
        let mut looked = 0;
        while looked < room && (looked == 0 || !window.is_spent()) {
            let Some(stretch) = self.left.last_mut() else {
                break;
            };
            let most = stretch.count.min(room - looked);
            // An entry that cannot be read will stop its own ring, and what lies behind it has
            // no effect until the guest has put that right.
            let Ok(words) = stretch.entries.words(memory, stretch.at, most) else {
                self.left.pop();
                continue;
            };
            let mut read = 0;
            for entry in words.chunks_exact(2) {
                let place = window.len + looked + read;
                push(&mut window.coalescer, entry, caps, place);
                window.own_cost += budget::COMMAND;
                read += 1;
                if window.is_spent() {
                    break;
                }
            }
            looked += read;
            stretch.count -= read;
            stretch.at = stretch.entries.geometry().advance(stretch.at, read);
            if stretch.count == 0 {
                self.left.pop();
            }
        }
        looked
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Step 3: whether accesses are gone that other rings' accepted invalidations concern. If not,
    /// the ring is woken when they are.
    pub(crate) fn others_quiesced(&self, instances: &[Arc<Instance>]) -> bool {
        // law3e: who still uses what another ring's invalidations removed is not asked.
        if vcmdq_sync::broken!(break_law3e) || !taken(Site::CoverUnsynced) {
            return true;
        }
        let mut done = true;
        for (_, lane) in self.member.others() {
            // The acquire of CONS comes first: `is_unsynced` goes with it.
            let _ = lane.cons();
            if lane.is_unsynced() {
                if taken(Site::CoverWaits) {
                    self.lane().set_waits(true);
                }
                done = instances.iter().fold(done, |done, instance| {
                    done & (instance.backend.barrier(waiter(lane.ring())) == Barrier::Done)
                });
            }
        }
        if done {
            self.lane().set_waits(false);
        }
        done
    }

    /// The numbers of the other rings whose accesses a SYNC may be waiting for.
    pub(crate) fn unsynced_others(&self) -> impl Iterator<Item = u32> {
        let unsynced = self.member.others().filter(|(_, lane)| lane.is_unsynced());
        unsynced.map(|(_, lane)| lane.ring())
    }
}

/// Only what a VCMDQ takes, and of that only invalidations.
fn push(into: &mut Coalescer, entry: &[AtomicU64], caps: &Capabilities, origin: u32) {
    // Relaxed: PROD's acquire made the entries visible.
    let raw = RawCommand {
        dw0: load_le(&entry[0], Ordering::Relaxed),
        dw1: load_le(&entry[1], Ordering::Relaxed),
    };
    if !accepts(raw) {
        return;
    }
    match decode(raw, caps) {
        Ok(Command::Tlbi(tlbi)) => into.push(Invalidation::from_tlbi(tlbi), origin),
        Ok(Command::AtcInv(ref inv)) => into.push(Invalidation::from_atc_inv(inv), origin),
        _ => {}
    }
}
