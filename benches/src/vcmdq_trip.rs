//! A round trip through VCMDQ 0 of a Tegra241 CMDQV whose page 0 is mapped: what a guest waits that
//! has no exit and polls CONS, as Linux does on such a queue. The other queues are on and idle.

use crate::ping_pong::{Pins, Trips, time};
use crate::rig::{BASE, LOG2SIZE, STREAM, capabilities};
use crate::streams::tlbi;
use dispatch::Backend;
use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::vcmdq::offset;
use smmu_core::{Asid, Gpa};
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use vcmdq::cmdqv::{CmdqvFrame, CmdqvSettings, HeapVintfPage};
use vcmdq::{Binding, Engine, FrameSettings, Placement, RingPage, Seams, Settings};

/// 32-bit words from one queue's window in page 0 to the next one's.
const WINDOW: usize = offset::VCMDQ_STRIDE as usize / 4;

/// Trips through one of `1 << log2_queues` queues.
///
/// # Panics
///
/// If the engine cannot be started.
pub fn vcmdq(
    pins: Pins,
    memory: &Arc<dyn GuestMemory>,
    backend: Arc<dyn Backend>,
    log2_queues: u8,
    (count, clock_cost): (u64, u64),
    trips: &mut Trips,
) {
    let settings = Settings {
        doze: Duration::ZERO,
        ..Settings::default()
    };
    let engine = Engine::start(settings, Arc::new(pins)).expect("one thread");
    let settings = FrameSettings {
        caps: capabilities(),
        ..FrameSettings::default()
    };
    let frame = engine.add_frame(settings, Seams::new(memory.clone()));
    let placement = Placement::default();
    let instance = frame.add_instance(backend, placement);
    let binding = Binding {
        instance,
        placement,
    };
    frame.bind(STREAM, binding).expect("a stream of our own");
    let page = Arc::new(HeapVintfPage::default());
    let settings = CmdqvSettings {
        log2_queues,
        page: Some(page.clone()),
    };
    let cmdqv = frame.add_cmdqv(settings).expect("room for the rings");
    let guest = Guest {
        page: &page,
        memory: &**memory,
    };
    guest.enable(&cmdqv, 1 << log2_queues);
    time(trips, count, clock_cost, |number| guest.trip(number));
    engine.stop();
    let syncs = cmdqv.rings()[0].metrics().syncs;
    assert_eq!(syncs, count, "every trip had its SYNC");
}

struct Guest<'m> {
    page: &'m HeapVintfPage,
    memory: &'m dyn GuestMemory,
}

impl Guest<'_> {
    fn load(&self, queue: usize, register: u64) -> u32 {
        let word = &self.page.words()[queue * WINDOW + register as usize / 4];
        u32::from_le(word.load(Ordering::Acquire))
    }

    fn store(&self, queue: usize, register: u64, value: u32) {
        let word = &self.page.words()[queue * WINDOW + register as usize / 4];
        word.store(value.to_le(), Ordering::Release);
    }

    /// As Linux does it: CMDQV, VINTF 0, then each queue.
    fn enable(&self, cmdqv: &CmdqvFrame, queues: usize) {
        cmdqv.write(offset::CONFIG, 4, 1);
        for queue in 0..queues as u64 {
            let at = offset::CMDQ_ALLOC + queue * offset::CMDQ_ALLOC_STRIDE;
            // Allocated to VINTF 0, as its logical queue of the same number.
            cmdqv.write(at, 4, queue << 1 | 1);
        }
        cmdqv.write(offset::VINTF + offset::VINTF_CONFIG, 4, 1);
        for queue in 0..queues {
            let base = BASE.0 + queue as u64 * (RawCommand::BYTES << LOG2SIZE);
            let page1 = offset::VINTF_PAGES + offset::VINTF_PAGE_BYTES;
            let at = page1 + queue as u64 * offset::VCMDQ_STRIDE + offset::VCMDQ_BASE;
            cmdqv.write(at, 8, base | u64::from(LOG2SIZE));
            self.store(queue, offset::VCMDQ_CONFIG, 1);
            while self.load(queue, offset::VCMDQ_STATUS) & 1 == 0 {
                thread::yield_now();
            }
        }
    }

    #[inline]
    fn trip(&self, number: u64) {
        let first = number * 2 % (1 << LOG2SIZE);
        let at = Gpa(BASE.0 + first * RawCommand::BYTES);
        let slots = self.memory.words(at, 4).expect("the ring is RAM");
        let (tlbi, sync) = (
            tlbi(Asid(1), number % (1 << 20)),
            encode(&Command::Sync(Signal::None)),
        );
        let words = [tlbi.dw0, tlbi.dw1, sync.dw0, sync.dw1];
        for (slot, word) in slots.iter().zip(words) {
            slot.store(word.to_le(), Ordering::Relaxed);
        }
        let prod = ((number + 1) * 2 % (2 << LOG2SIZE)) as u32;
        self.store(0, offset::VCMDQ_PROD, prod);
        while self.load(0, offset::VCMDQ_CONS) != prod {
            spin_loop();
        }
    }
}
