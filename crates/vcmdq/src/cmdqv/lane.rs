//! Enabling a VCMDQ: what its registers say becomes where its ring lies.
//!
//! BASE and CONS are registers that a guest writes while the queue is off, CONS perhaps into a
//! shared page. They count when the queue comes on, and are taken over by whoever owns the ring:
//! no register write waits for a worker.

use super::group::{Lane, Member};
use crate::consumer::Consumer;
use crate::fetch::Entries;
use crate::gerror::CommandError;
use crate::ring::Ring;
use crate::ring_page::{CONS, PageView};
use crate::snapshot::RingState;
use smmu_core::queue_index::Geometry;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::VcmdqBase;
use smmu_core::{Gpa, GuestMemory};
use vcmdq_sync::atomic::Ordering;

/// GERROR.INIT_ERR of a VCMDQ.
pub(crate) const INIT_ERR: u32 = 1 << 2;

/// Why a queue does not come on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// Nobody has written BASE.
    #[error("BASE is zero")]
    Zero,
    /// More entries than IDR1.CMDQS allows.
    #[error("BASE.LOG2SIZE is {size}, above the {most} that IDR1.CMDQS allows")]
    TooLarge {
        /// LOG2SIZE.
        size: u8,
        /// IDR1.CMDQS.
        most: u8,
    },
    /// Hardware wants the base aligned to the size of the queue.
    #[error("BASE is {addr:#x}, which is not aligned to the queue's {bytes:#x} bytes")]
    Misaligned {
        /// The address.
        addr: u64,
        /// Size of the queue.
        bytes: u64,
    },
    /// The first or the last entry is not guest memory.
    #[error("the queue at {0:#x} does not lie in guest memory")]
    NotMemory(u64),
}

/// Checks what BASE says without looking at memory. `most` is log2 of the largest queue.
pub(crate) fn check(base: VcmdqBase, most: u8) -> Result<Entries, BaseError> {
    let (addr, size) = (base.addr(), base.log2size());
    if addr == 0 {
        return Err(BaseError::Zero);
    }
    if size > most {
        return Err(BaseError::TooLarge { size, most });
    }
    let bytes = (RawCommand::BYTES << size).max(32);
    if addr % bytes != 0 {
        return Err(BaseError::Misaligned { addr, bytes });
    }
    Ok(Entries::new(Gpa(addr), Geometry::capped(size, most)))
}

fn check_memory(entries: &Entries, memory: &dyn GuestMemory) -> Result<(), BaseError> {
    let geometry = entries.geometry();
    for index in [0, geometry.entries() - 1] {
        entries
            .words(memory, geometry.pointer(index), 1)
            .map_err(|_| BaseError::NotMemory(entries.base().0))?;
    }
    Ok(())
}

impl Member {
    /// The queue is to be on or off. Called by the owner of the claim, with the ring not paused.
    pub(crate) fn arm(&self, ring: &Ring, consumer: &mut Consumer, on: bool) {
        if !on {
            (consumer.armed, consumer.refused) = (false, None);
            self.lane().set_place(0);
            return;
        }
        let base = self.lane().base();
        // In a shared page a driver may end the queue and begin it again unseen: STATUS told it
        // nothing to wait for.
        if !consumer.armed && consumer.refused != Some(base) {
            consumer.armed = take_over(ring, self.lane(), base, consumer);
            consumer.refused = (!consumer.armed).then_some(base);
        }
    }
}

/// The queue comes on: the ring lies where BASE says, and consumption begins at the CONS that the
/// guest sees. False if BASE is unusable: GERROR.INIT_ERR, and the queue stays off until CONFIG.EN
/// or BASE is written anew. Called by the owner of the claim.
fn take_over(ring: &Ring, lane: &Lane, base: u64, consumer: &mut Consumer) -> bool {
    let checked = check(VcmdqBase::from_bits(base), ring.cmdq_cap)
        .and_then(|entries| check_memory(&entries, &*consumer.memory).map(|()| entries));
    match checked {
        Ok(entries) => {
            let shown = ring.shown_cons();
            let error = CommandError::from_code((shown >> 24) as u8 & 0x7F);
            consumer.entries = entries;
            consumer.begin_anew(ring, entries.geometry().pointer(shown), error);
            lane.set_place(base);
            true
        }
        Err(why) => {
            tracing::debug!(ring = ring.index, %why, "INIT_ERR");
            ring.raise(&*consumer.frame.interrupts, INIT_ERR);
            false
        }
    }
}

impl Ring {
    /// CONS with ERR as the guest sees it, and may have written it while the ring is off.
    pub(crate) fn shown_cons(&self) -> u32 {
        self.page()
            .map_or_else(|| self.cons(), PageView::shown_cons)
    }

    /// The guest writes CONS while the ring is off; it counts from the next enable on.
    pub(crate) fn write_shown_cons(&self, cons: u32) {
        match self.page() {
            Some(page) => page.store(CONS, cons),
            None => self.cons.store(cons, Ordering::Release),
        }
    }

    /// Makes the ring what a saved VCMDQ was. In the claim, paused.
    pub(crate) fn restore_lane(&self, consumer: &mut Consumer, state: &RingState) {
        if let Some(member) = &self.member {
            consumer.armed = state.enabled;
            consumer.refused = None;
            let place = state.base | u64::from(state.log2size);
            member.lane().set_place(place);
            member.lane().set_waits(false);
        }
        if let Some(cover) = &mut consumer.cover {
            cover.forget();
        }
    }
}
