//! What a guest writes into the registers of a disabled ring, kept until the ring is enabled.
//!
//! A register write does not wait for a worker that is just leaving the ring. So it leaves base,
//! size and CONS here, and whoever owns the ring takes them when it brings the enable about. PROD
//! needs no such place: a disabled ring does not follow it.

use crate::consumer::Consumer;
use crate::fetch::Entries;
use crate::ring::Ring;
use crate::ring_control::{ENABLED, GATED, RESET, RESET_SHOWN};
use crate::settings::RingSettings;
use smmu_core::Gpa;
use smmu_core::queue_index::Geometry;
use std::sync::{MutexGuard, PoisonError};
use vcmdq_sync::atomic::Ordering;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Staged {
    place: Option<RingSettings>,
    cons: Option<u32>,
}

/// RD in CMDQ_CONS.
const POINTER: u32 = 0xF_FFFF;

impl Ring {
    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the ring lies from its next enable on. The caller has seen it disabled and lets
    /// nobody else enable it meanwhile.
    pub(crate) fn stage_place(&self, place: RingSettings) {
        self.staged().place = Some(place);
        // CONS has no more bits than the queue.
        self.stage_cons(self.cons(), place.log2size);
    }

    /// CONS from the next enable on, shown at once. Conditions as above. ERR stays.
    pub(crate) fn stage_cons(&self, cons: u32, log2size: u8) {
        let cons = Geometry::capped(log2size, self.cmdq_cap)
            .pointer(cons)
            .raw();
        self.staged().cons = Some(cons);
        let shown = self.cons.load(Ordering::Relaxed) & !POINTER | cons;
        self.cons.store(shown, Ordering::Release);
    }

    /// Disables the ring and makes it as it was when it was added. Returns at once; if somebody is
    /// just at work in it, [`is_enabled`](Self::is_enabled) follows when that has ended.
    pub(crate) fn reset(&self) {
        self.unstage();
        if self.is_disabled() {
            // Nobody follows PROD.
            self.want(|bits| bits | RESET);
            self.forget_registers();
        } else {
            self.want(|bits| bits & !ENABLED | RESET | RESET_SHOWN);
        }
    }

    /// The same for a VCMDQ, whose registers its owner resets in any case: they may lie in a page.
    pub(crate) fn reset_vcmdq(&self) {
        self.want(|bits| bits & !ENABLED | GATED | RESET | RESET_SHOWN);
    }

    /// Forgets what has been staged: the ring has been placed otherwise.
    pub(crate) fn unstage(&self) {
        *self.staged() = Staged::default();
    }

    fn forget_registers(&self) {
        self.prod.store(0, Ordering::Release);
        self.cons.store(0, Ordering::Release);
        self.latch.restore(0, 0);
        self.show_prod(0);
        self.clear_page();
    }

    /// What is wanted of the ring is about to be settled; what is left of it then. Called by the
    /// owner of the claim.
    #[cold]
    pub(crate) fn take_staged(
        &self,
        consumer: &mut Consumer,
        mut wanted: u32,
        settled: u32,
    ) -> u32 {
        let shown = wanted & RESET_SHOWN != 0;
        if wanted & RESET != 0 {
            let mut done = RESET | RESET_SHOWN;
            if self.page().is_some() {
                // What was seen of the page's CONFIG, perhaps since: that page is cleared here.
                done |= ENABLED;
            }
            self.control
                .wanted
                .fetch_and(!(wanted & done), Ordering::AcqRel);
            wanted &= !done;
            consumer.entries = Entries::new(Gpa(0), Geometry::capped(0, 0));
            consumer.cons = consumer.entries.geometry().pointer(0);
            consumer.halted = None;
            consumer.lost_atc_inv = false;
            consumer.waiting = false;
            consumer.events_due = None;
            self.set_waiting(false);
            (consumer.armed, consumer.refused) = (false, None);
            if let Some(cover) = &mut consumer.cover {
                cover.forget();
            }
            if shown {
                self.forget_registers();
            }
        }
        if wanted & ENABLED == 0 || settled & ENABLED != 0 {
            return wanted;
        }
        let mut staged = self.staged();
        if let Some(place) = staged.place.take() {
            let geometry = Geometry::capped(place.log2size, self.cmdq_cap);
            consumer.entries = Entries::new(place.base, geometry);
        }
        if let Some(cons) = staged.cons.take() {
            consumer.waiting = false;
            consumer.events_due = None;
            self.set_waiting(false);
            let cons = consumer.entries.geometry().pointer(cons);
            consumer.publish(self, cons);
        }
        wanted
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::cmdqv::CmdqvSettings;
    use crate::testing::HeapMemory;
    use crate::{Engine, FrameSettings, Seams, Settings};
    use smmu_core::Gpa;
    use smmu_core::spec::vcmdq::offset;
    use std::sync::Arc;

    const PAGE0: u64 = offset::VINTF_PAGES;

    /// Somebody is just looking at a queue that is off. A guest that waits until STATUS is zero, as
    /// Linux does, loses nothing that it writes then.
    #[test]
    fn a_queue_is_off_behind_a_reset_when_its_registers_are_clear() {
        let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x1_0000)]));
        let engine = Engine::without_workers(Settings::default()).expect("settings");
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
        let cmdqv = frame.add_cmdqv(CmdqvSettings::default()).expect("room");
        let ring = &cmdqv.rings()[0];
        cmdqv.write(PAGE0 + offset::VCMDQ_PROD, 4, 7);
        let owner = ring.consumer.enter().expect("nobody is at it");
        cmdqv.reset();
        assert_eq!(cmdqv.read(PAGE0 + offset::VCMDQ_STATUS, 4), 1);
        assert_eq!(cmdqv.read(offset::STATUS, 4), 1);
        let again = owner.leave().expect_err("the reset goes round again");
        ring.release(again);
        let mut stepper = crate::stepping::Stepper::default();
        while let Some(index) = engine.take_ready() {
            stepper.serve(&cmdqv.rings()[index as usize]);
        }
        assert_eq!(cmdqv.read(PAGE0 + offset::VCMDQ_STATUS, 4), 0);
        assert_eq!(cmdqv.read(offset::STATUS, 4), 0);
        cmdqv.write(PAGE0 + offset::VCMDQ_PROD, 4, 3);
        stepper.serve(ring);
        assert_eq!(cmdqv.read(PAGE0 + offset::VCMDQ_PROD, 4), 3);
    }
}
