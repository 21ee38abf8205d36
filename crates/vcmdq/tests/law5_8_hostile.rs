//! No lost wake-up (law 5), one read of each command (law 6), and a guest that cannot hurt the
//! host (law 8): with threads, and with a guest that does what no driver does.

mod common;

use common::*;
use proptest::prelude::*;
use smmu_core::guest_memory::{GuestMemory, store_u64};
use smmu_core::spec::command::{RawCommand, opcode};
use smmu_core::{Capabilities, Gpa};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vcmdq::stepping::PageRegisters;
use vcmdq::testing::commands::sync;
use vcmdq::testing::{HeapMemory, QueueRegisters};
use vcmdq::{
    ConfigureError, DoorbellMode, Engine, FrameSettings, HeapPage, Placement, Ring, RingSettings,
    Seams, Settings, StartError, StdThreads,
};

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not happen"
        );
        std::thread::yield_now();
    }
}

/// A running engine with one ring full of SYNCs.
fn running(settings: Settings, mode: DoorbellMode) -> (Engine, vcmdq::Frame, Arc<Ring>) {
    let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
    for slot in 0..16 {
        let at = Gpa(BASE.0 + slot * 16);
        store_u64(&*memory, at, sync().dw0, Ordering::Relaxed).unwrap();
    }
    let engine = Engine::start(settings, Arc::new(StdThreads)).unwrap();
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    frame.add_instance(backend(), Placement::default());
    let ring = frame.add_ring(mode).unwrap();
    ring.configure(RingSettings {
        base: BASE,
        log2size: 4,
    })
    .unwrap();
    ring.enable();
    (engine, frame, ring)
}

#[test]
fn law5_a_worker_that_sleeps_after_every_command_misses_none() {
    for workers in [1, 2] {
        let settings = Settings {
            workers,
            spin: Duration::ZERO,
            ..Settings::default()
        };
        let (engine, _frame, ring) = running(settings, DoorbellMode::Trap);
        let mut rung = 0u32;
        // Until the worker had to be woken many times, however the threads are scheduled.
        while rung < 2000 || engine.metrics().wake_ups < 20 {
            rung += 1;
            if rung % 50 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
            ring.doorbell(rung % 32);
            wait_for("consumption", || ring.cons() == rung % 32);
        }
        engine.stop();
    }
}

#[test]
fn law5_a_store_into_a_shared_page_is_consumed_while_the_worker_dozes() {
    let page = Arc::new(HeapPage::default());
    let settings = Settings {
        spin: Duration::ZERO,
        ..Settings::default()
    };
    let (engine, _frame, _ring) = running(settings, DoorbellMode::SharedPage(page.clone()));
    let guest = PageRegisters(page);
    guest.enable();
    for n in 1..300u32 {
        guest.write_prod(n % 32);
        wait_for("consumption", || guest.read_cons() == n % 32);
    }
    engine.stop();
}

#[test]
fn a_shared_page_shows_errors_and_resumes_when_the_guest_acknowledges_there() {
    let page = Arc::new(HeapPage::default());
    let mut rig = Rig::with(
        all_features(),
        6,
        DoorbellMode::SharedPage(page.clone()),
        false,
    );
    let guest = PageRegisters(page);
    rig.put(&[illegal(), sync()]);
    guest.write_prod(rig.prod);
    rig.stepper.serve(&rig.ring);
    assert_eq!((guest.read_cons(), guest.read_gerror()), (1 << 24, 1));
    rig.write(0, sync());
    guest.write_gerrorn(1);
    rig.stepper.serve(&rig.ring);
    assert_eq!(guest.read_cons(), 2);
}

/// Law 8: CONS, STATUS and GERROR in the page are copies; scribbling over them changes nothing.
#[test]
fn law8_what_a_guest_scribbles_into_the_shared_page_is_not_believed() {
    let page = Arc::new(HeapPage::default());
    let mut rig = Rig::with(
        all_features(),
        6,
        DoorbellMode::SharedPage(page.clone()),
        false,
    );
    let guest = PageRegisters(page.clone());
    rig.put(&[sync(), sync(), sync()]);
    use vcmdq::RingPage;
    for word in [0, 3, 4] {
        page.words()[word].store(0xFFFF_FFFF, Ordering::Relaxed);
    }
    guest.write_prod(2);
    rig.stepper.serve(&rig.ring);
    assert_eq!((rig.cons(), rig.stopped()), (2, false));
    assert_eq!(guest.read_cons(), 2, "and the page shows the truth again");
}

#[test]
fn law8_a_prod_beyond_the_ring_is_not_followed() {
    let mut rig = Rig::new();
    rig.send(&[sync()]);
    rig.ring.doorbell(1 + 64 + 1);
    rig.serve();
    assert_eq!((rig.cons(), rig.stopped()), (1, false));
    assert!(rig.ring.metrics().bad_prods > 0, "but it is counted");
    rig.ring.doorbell(1);
    rig.serve();
    rig.send(&[sync()]);
    assert_eq!(rig.cons(), 2);
}

#[test]
fn law8_a_slice_ends_however_much_is_published() {
    let mut rig = Rig::new();
    // Effects end windows, and each is a call of the VMM's: the slice ends after some of them.
    rig.stepper = vcmdq::stepping::Stepper::with_slice(Duration::from_micros(2));
    let stall = smmu_core::encode::encode(&smmu_core::Command::StallTerm { stream: STREAM });
    rig.put(&[stall; 60]);
    rig.ring.doorbell(rig.prod);
    assert!(rig.engine.take_ready().is_some());
    rig.stepper.serve(&rig.ring);
    assert!(
        (1..10).contains(&rig.cons()),
        "the other rings get their turn"
    );
    assert!(rig.serve(), "and this one is ready again");
    assert_eq!(rig.cons(), 60);
}

/// A guest that turns a legal command into an illegal one and back, all the time. Whoever reads the
/// entry twice may judge one and execute the other, and then neither executes nor refuses it.
#[test]
fn law6_a_racing_guest_has_each_command_executed_or_refused() {
    let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
    let mut rig = Rig::new();
    rig.frame.update_memory(memory.clone());
    let legal = tlbi(5);
    store_u64(&*memory, BASE, legal.dw0, Ordering::Relaxed).unwrap();
    store_u64(&*memory, Gpa(BASE.0 + 8), legal.dw1, Ordering::Relaxed).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for dw0 in [illegal().dw0, legal.dw0] {
                    memory.words(BASE, 1).unwrap()[0].store(dw0, Ordering::Relaxed);
                }
            }
        });
        // Also when an assertion fails: the guest must stop for the scope to end.
        let _stop = StopOnDrop(&stop);
        let (mut executed, mut refused) = (0, 0);
        for lap in 0u32.. {
            rig.ring.set_pointers_for_test(lap);
            rig.serve();
            while rig.stopped() {
                refused += 1;
                rig.acknowledge();
            }
            assert_eq!(
                rig.backend.take().len(),
                1,
                "lap {lap}: consumed but not executed"
            );
            executed += 1;
            if executed > 60_000 && refused > 1000 {
                break;
            }
        }
    });
}

/// Tells the other thread of a test to stop, however this one ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_enabled_ring_is_not_moved() {
    let rig = Rig::new();
    let settings = RingSettings {
        base: Gpa(0),
        log2size: 3,
    };
    assert_eq!(rig.ring.configure(settings), Err(ConfigureError::Enabled));
    assert_eq!(rig.ring.set_pointers(0, 0), Err(ConfigureError::Enabled));
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_do() {
    let start = |settings| Engine::start(settings, Arc::new(StdThreads)).unwrap_err();
    let none = start(Settings {
        workers: 0,
        ..Settings::default()
    });
    assert!(matches!(none, StartError::Workers(0)) && none.to_string().contains("choose 1 to 64"));
    assert!(matches!(
        start(Settings {
            max_rings: 5000,
            ..Settings::default()
        }),
        StartError::Rings(5000)
    ));
    assert!(matches!(
        start(Settings {
            slice: Duration::ZERO,
            ..Settings::default()
        }),
        StartError::Slice
    ));
    let engine = Engine::without_workers(Settings {
        max_rings: 1,
        ..Settings::default()
    })
    .unwrap();
    let memory = Arc::new(HeapMemory::new(0x1000));
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    frame.add_ring(DoorbellMode::Trap).unwrap();
    assert!(
        frame
            .add_ring(DoorbellMode::Trap)
            .unwrap_err()
            .to_string()
            .contains("max_rings")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Random bytes as commands, absurd sizes and places: an error that the architecture names or
    /// progress, never a panic, never a loop.
    #[test]
    fn law8_random_rings_end_in_progress_or_an_architectural_error(
        words in proptest::collection::vec(any::<(u64, u64)>(), 64),
        opcodes in proptest::collection::vec(any::<u8>(), 64),
        log2size: u8, base: u64, prod: u32, everything: bool,
    ) {
        let caps = if everything { all_features() } else { Capabilities::default() };
        let mut rig = Rig::with(caps, 6, DoorbellMode::Trap, false);
        for (slot, (&(dw0, dw1), &op)) in (0..).zip(words.iter().zip(&opcodes)) {
            rig.write(slot, RawCommand { dw0: dw0 & !0xFF | u64::from(op), dw1 });
        }
        rig.ring.doorbell(64);
        for _ in 0..70 {
            rig.serve();
            if rig.stopped() {
                prop_assert!(matches!(rig.error(), 1..=3));
                rig.write(rig.cons(), sync());
                rig.acknowledge();
            }
        }
        prop_assert_eq!(rig.cons(), 64);
        // Somewhere else, of some other size, with some PROD.
        rig.ring.disable();
        rig.serve();
        prop_assert!(!rig.ring.is_enabled());
        rig.ring.configure(RingSettings { base: Gpa(base), log2size }).unwrap();
        rig.ring.enable();
        rig.ring.doorbell(prod);
        rig.serve();
        prop_assert!(!rig.stopped() || matches!(rig.error(), 1..=3));
    }
}

#[test]
fn law8_every_opcode_ends_in_progress_or_cerror_ill() {
    for op in 0..=u8::MAX {
        let mut rig = Rig::new();
        rig.send(&[RawCommand {
            dw0: u64::from(op),
            dw1: 0,
        }]);
        let legal = matches!(
            op,
            opcode::PREFETCH_CONFIG..=opcode::CFGI_CD_ALL
                | opcode::TLBI_NH_ALL..=opcode::TLBI_NH_VAA
                | opcode::TLBI_NSNH_ALL
                | opcode::ATC_INV
                | opcode::PRI_RESP
                | opcode::RESUME..=opcode::SYNC
        );
        assert_eq!(
            (rig.cons() == 1, rig.error()),
            (legal, u32::from(!legal)),
            "opcode {op:#x}"
        );
    }
}
