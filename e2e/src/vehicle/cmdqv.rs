//! The CMDQV in guest RAM. Page 0 of the VCMDQs is memory that the engine itself polls, as where a
//! VMM maps it into a guest; the other registers are passed on like the SMMU's.
//!
//! A VMM traps those others, so that BASE has been taken before the guest's next instruction, which
//! writes CONFIG.EN into the shared page. Here the engine might see EN first. So an allocation is
//! passed on only while the queue's BASE is not zero, and BASE becomes zero when the guest switches
//! the CMDQV off, which Linux does, and waits for, before it sets up queues.

use super::polled::Frame;
use smmu_core::spec::vcmdq::{CmdqAlloc, Config, offset};
use smmu_core::{Gpa, GuestMemory};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vcmdq::RingPage;
use vcmdq::cmdqv::{CmdqvFrame, MAX_QUEUES, VINTF_PAGE_WORDS};

/// Page 1 of the logical VCMDQs, from the beginning of the CMDQV.
const PAGE_1: u64 = offset::VINTF_PAGES + offset::VINTF_PAGE_BYTES;

/// Page 0 of the VINTF, in guest RAM.
pub(super) struct SharedPage {
    memory: Arc<dyn GuestMemory>,
    at: Gpa,
}

impl SharedPage {
    /// Of a CMDQV at `base`.
    pub(super) fn new(memory: Arc<dyn GuestMemory>, base: Gpa) -> Self {
        let at = Gpa(base.0 + offset::VINTF_PAGES);
        Self { memory, at }
    }
}

impl RingPage for SharedPage {
    fn words(&self) -> &[AtomicU32] {
        let words = self.memory.words32(self.at, VINTF_PAGE_WORDS);
        words.unwrap_or_default()
    }

    /// The guest's processors are threads of QEMU, on this host's memory.
    fn is_coherent(&self) -> bool {
        true
    }
}

/// A CMDQV whose queues run only where the guest has placed them. Written by one thread.
pub(super) struct Placed {
    frame: Arc<CmdqvFrame>,
    /// CMDQ_ALLOC as the guest has written it.
    allocations: [AtomicU32; MAX_QUEUES],
}

impl Placed {
    pub(super) fn new(frame: Arc<CmdqvFrame>) -> Self {
        Self {
            frame,
            allocations: Default::default(),
        }
    }

    fn allocation(&self, at: u64) -> Option<&AtomicU32> {
        let index = at.checked_sub(offset::CMDQ_ALLOC)? / offset::CMDQ_ALLOC_STRIDE;
        let queues = self.frame.rings().len();
        self.allocations[..queues].get(usize::try_from(index).ok()?)
    }

    fn base(queue: u64) -> u64 {
        PAGE_1 + queue * offset::VCMDQ_STRIDE + offset::VCMDQ_BASE
    }

    fn forget_bases(&self) {
        for queue in 0..self.frame.rings().len() as u64 {
            self.frame.write(Self::base(queue), 8, 0);
        }
    }

    /// Tells the engine of the allocations of queues that have a place, and of no other.
    fn allocate(&self) {
        let queues = self.frame.rings().len();
        for (queue, wanted) in (0..).zip(&self.allocations[..queues]) {
            let wanted = CmdqAlloc::from_bits(wanted.load(Ordering::Relaxed));
            let placed = self.frame.read(Self::base(wanted.lvcmdq().into()), 8) != 0;
            let alloc = wanted.with_alloc(wanted.alloc() && placed);
            let at = offset::CMDQ_ALLOC + queue * offset::CMDQ_ALLOC_STRIDE;
            if self.frame.read(at, 4) != u64::from(alloc.into_bits()) {
                self.frame.write(at, 4, alloc.into_bits().into());
            }
        }
    }
}

impl Frame for Placed {
    fn read(&self, at: u64, width: u8) -> u64 {
        match self.allocation(at) {
            Some(wanted) => wanted.load(Ordering::Relaxed).into(),
            None => self.frame.read(at, width),
        }
    }

    fn write(&self, at: u64, width: u8, value: u64) {
        if let Some(wanted) = self.allocation(at) {
            wanted.store(value as u32, Ordering::Relaxed);
            return self.allocate();
        }
        self.frame.write(at, width, value);
        if at == offset::CONFIG && !Config::from_bits(value as u32).en() {
            self.forget_bases();
        }
        self.allocate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vehicle::{RAM_BASE, Ram};
    use vcmdq::cmdqv::CmdqvSettings;
    use vcmdq::{Engine, FrameSettings, Seams, Settings, StdThreads};

    const ALLOC: u64 = offset::CMDQ_ALLOC;
    /// A queue of 16 entries.
    const PLACE: u64 = RAM_BASE + 0x10_0004;

    /// Two queues, the CMDQV's pages at the beginning of RAM.
    fn world() -> (Placed, Engine) {
        let ram = Ram::new(2).expect("two MiB");
        let memory: Arc<dyn GuestMemory> = ram.memory().clone();
        let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).expect("threads");
        let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory.clone()));
        let settings = CmdqvSettings {
            log2_queues: 1,
            page: Some(Arc::new(SharedPage::new(memory, Gpa(RAM_BASE)))),
        };
        let frame = frame.add_cmdqv(settings).expect("room");
        (Placed::new(Arc::new(frame)), engine)
    }

    #[test]
    fn an_allocation_waits_for_the_place_of_its_queue() {
        let (placed, _engine) = world();
        placed.write(offset::CONFIG, 4, 1);
        placed.write(ALLOC, 4, 1);
        assert_eq!(placed.frame.read(ALLOC, 4), 0);
        assert_eq!(placed.read(ALLOC, 4), 1, "the guest reads what it wrote");
        placed.write(Placed::base(0), 8, PLACE);
        assert_eq!(placed.frame.read(ALLOC, 4), 1);
        placed.write(Placed::base(0), 8, 0);
        assert_eq!(placed.frame.read(ALLOC, 4), 0);
    }

    #[test]
    fn a_place_counts_for_the_logical_queue_that_is_allocated() {
        let (placed, _engine) = world();
        let second = CmdqAlloc::new().with_alloc(true).with_lvcmdq(1);
        placed.write(ALLOC, 4, second.into_bits().into());
        placed.write(Placed::base(0), 8, PLACE);
        assert!(!CmdqAlloc::from_bits(placed.frame.read(ALLOC, 4) as u32).alloc());
        placed.write(Placed::base(1), 8, PLACE);
        let told = CmdqAlloc::from_bits(placed.frame.read(ALLOC, 4) as u32);
        assert_eq!(told.into_bits(), second.into_bits());
    }

    #[test]
    fn a_queue_never_begins_where_an_earlier_guest_had_it() {
        let (placed, _engine) = world();
        placed.write(offset::CONFIG, 4, 1);
        placed.write(ALLOC, 4, 1);
        placed.write(Placed::base(0), 8, PLACE);
        placed.write(offset::CONFIG, 4, 0);
        assert_eq!(placed.read(Placed::base(0), 8), 0);
        assert_eq!(placed.frame.read(ALLOC, 4), 0);
        placed.write(offset::CONFIG, 4, 1);
        assert_eq!(placed.frame.read(ALLOC, 4), 0, "not before it has a place");
    }
}
