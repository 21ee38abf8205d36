//! Exchanging memory while running (law 9); stop, save, restore, go on (law 10).

mod common;

use common::*;
use dispatch::backend::Software;
use dispatch::{BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use proptest::prelude::*;
use smmu_core::guest_memory::{GuestMemory, store_u64};
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::TlbSettings;
use smmu_core::{Gpa, StreamId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vcmdq::testing::HeapMemory;
use vcmdq::testing::commands::{sync, sync_to};
use vcmdq::{
    DoorbellMode, Engine, FrameSettings, Placement, RestoreError, RingSettings, Seams, Settings,
    StdThreads,
};

fn copy_ring(to: &HeapMemory, commands: &[RawCommand]) {
    for (slot, raw) in (0u64..).zip(commands) {
        let at = Gpa(BASE.0 + slot * 16);
        store_u64(to, at, raw.dw0, Ordering::Relaxed).unwrap();
        store_u64(to, Gpa(at.0 + 8), raw.dw1, Ordering::Relaxed).unwrap();
    }
}

#[test]
fn law9_a_new_map_is_used_at_once_and_the_old_one_by_nobody() {
    let mut rig = Rig::new();
    rig.send(&[sync()]);
    let old = rig.memory.clone();
    let new = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
    rig.frame.update_memory(new.clone());
    copy_ring(&new, &[sync(), sync_to(Gpa(0x100), 42)]);
    rig.ring.doorbell(2);
    rig.serve();
    assert_eq!((rig.cons(), word(&*new, Gpa(0x100))), (2, 42));
    assert_eq!(word(&*old, Gpa(0x100)), 0);
    rig.memory = new;
    assert_eq!(Arc::strong_count(&old), 1, "nothing holds the old map");
}

/// A backend that stands still inside a call until it is told to go on.
struct Slow {
    inside: mpsc::SyncSender<()>,
    go_on: AtomicBool,
}

impl dispatch::Backend for Slow {
    fn capabilities(&self) -> BackendCapabilities {
        Software::new(TlbSettings {
            log2_entries: 7,
            log2_asids: 4,
        })
        .capabilities()
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        self.inside.send(()).unwrap();
        while !self.go_on.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

/// Runs `control` while a worker stands inside a backend call, and says whether it returned
/// before the worker left the ring.
fn returns_early(control: impl FnOnce(&vcmdq::Frame) + Send) -> bool {
    let (inside, is_inside) = mpsc::sync_channel(0);
    let slow = Arc::new(Slow {
        inside,
        go_on: AtomicBool::new(false),
    });
    let memory = Arc::new(HeapMemory::with_regions(&[(Gpa(0), 0x2_0000)]));
    copy_ring(&memory, &[tlbi(1), sync_to(Gpa(0x100), 1)]);
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads)).unwrap();
    let frame = engine.add_frame(FrameSettings::default(), Seams::new(memory));
    frame.add_instance(slow.clone(), Placement::default());
    let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
    ring.configure(RingSettings {
        base: BASE,
        log2size: 4,
    })
    .unwrap();
    ring.enable();
    ring.doorbell(2);
    is_inside.recv().unwrap();
    let returned = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            control(&frame);
            returned.store(true, Ordering::Release);
        });
        std::thread::sleep(Duration::from_millis(50));
        let early = returned.load(Ordering::Acquire);
        slow.go_on.store(true, Ordering::Release);
        early
    })
}

#[test]
fn law9_update_memory_waits_for_a_worker_that_uses_the_old_map() {
    let new = Arc::new(HeapMemory::new(0x1000));
    assert!(!returns_early(|frame| frame.update_memory(new)));
}

#[test]
fn law10_pause_waits_until_no_worker_touches_guest_memory() {
    assert!(!returns_early(|frame| frame.pause()));
}

#[test]
fn law10_a_paused_ring_consumes_nothing_and_then_everything() {
    let mut rig = Rig::new();
    rig.frame.pause();
    rig.send(&[tlbi(0), sync()]);
    assert_eq!(rig.cons(), 0);
    rig.frame.resume();
    rig.serve();
    assert_eq!(rig.cons(), 2);
}

#[test]
fn law10_a_state_that_no_engine_writes_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    let good = rig.frame.save();
    let refused = |change: fn(&mut vcmdq::snapshot::FrameState)| {
        let mut bad = good.clone();
        change(&mut bad);
        rig.frame.restore(&bad).unwrap_err()
    };
    let malformed = |what| RestoreError::Malformed { ring: 0, what };
    assert_eq!(refused(|s| s.rings[0].log2size = 40), malformed("LOG2SIZE"));
    assert_eq!(refused(|s| s.rings[0].cons = 1 << 19), malformed("CONS"));
    assert_eq!(refused(|s| s.rings[0].error = 9), malformed("ERR"));
    assert_eq!(refused(|s| s.rings[0].base += 16), malformed("BASE"));
    assert_eq!(refused(|s| s.caps.0[0] ^= 1), RestoreError::Capabilities);
    assert_eq!(
        refused(|s| s.rings.clear()),
        RestoreError::Rings { saved: 0, here: 1 }
    );
    assert_eq!(rig.frame.save(), good);
    rig.frame.resume();
    assert_eq!(rig.frame.restore(&good), Err(RestoreError::Running));
}

#[test]
fn a_state_survives_serialisation() {
    let mut rig = Rig::new();
    rig.send(&[sync(), illegal()]);
    let state = rig.frame.save();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(
        serde_json::from_str::<vcmdq::snapshot::FrameState>(&text).unwrap(),
        state
    );
}

/// What a guest can tell of a run: messages, errors, CONS, what is cached.
fn outcome(rig: &Rig) -> (u32, u32, bool, Vec<u32>, Vec<bool>) {
    let words = (0..64)
        .map(|n| word(&*rig.memory, Gpa(0x100 + n * 4)))
        .collect();
    (
        rig.cons(),
        rig.error(),
        rig.stopped(),
        words,
        (0..16).map(|p| rig.cached(p)).collect(),
    )
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Invalidate(u64),
    Sync(u64),
    Illegal,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..16).prop_map(Step::Invalidate),
        6 => (0u64..64).prop_map(Step::Sync),
        1 => Just(Step::Illegal),
    ]
}

impl Step {
    fn raw(self) -> RawCommand {
        match self {
            Self::Invalidate(page) => tlbi(page),
            Self::Sync(n) => sync_to(Gpa(0x100 + n * 4), n as u32 + 1),
            Self::Illegal => illegal(),
        }
    }
}

/// Moves a guest to a new engine: the same memory, another backend, as many commands later as the
/// test likes.
fn move_to(old: &Rig, mode: DoorbellMode) -> Rig {
    let state = old.frame.save();
    let mut new = Rig::with(all_features(), old.log2size, mode, false);
    new.frame.pause();
    new.frame.update_memory(old.memory.clone());
    new.memory = old.memory.clone();
    new.frame.restore(&state).unwrap();
    // A new translation cache is empty; what was cached is put there so that both can be compared.
    (0..16)
        .filter(|page| old.cached(*page))
        .for_each(|page| new.cache(page));
    new.prod = old.prod;
    new.frame.resume();
    new
}

proptest! {
    #[test]
    fn law10_stop_anywhere_restore_same_outcome(
        steps in proptest::collection::vec(any_step(), 1..60),
        slice in 1u64..400, stop_after in 0usize..12, shared: bool,
    ) {
        let run = |stop: Option<usize>| {
            let mut rig = Rig::new();
            rig.stepper = vcmdq::stepping::Stepper::with_slice(Duration::from_nanos(slice));
            (0..16).for_each(|page| rig.cache(page));
            rig.put(&steps.iter().map(|step| step.raw()).collect::<Vec<_>>());
            rig.ring.doorbell(rig.prod);
            let mut slices = 0;
            loop {
                if stop == Some(slices) {
                    let mode = if shared {
                        DoorbellMode::SharedPage(Arc::new(vcmdq::HeapPage::default()))
                    } else {
                        DoorbellMode::Trap
                    };
                    rig = move_to(&rig, mode);
                }
                slices += 1;
                if rig.engine.take_ready().is_some() {
                    rig.stepper.serve(&rig.ring);
                } else if rig.stopped() {
                    // As Linux does: the bad slot becomes a SYNC, then the error is acknowledged.
                    rig.write(rig.cons(), sync());
                    rig.ring.acknowledge(rig.ring.gerror());
                } else if stop.is_none_or(|stop| slices > stop) {
                    return outcome(&rig);
                }
            }
        };
        prop_assert_eq!(run(Some(stop_after)), run(None));
    }
}

/// Events are part of the frame: its memory, its pause, its state.
#[test]
fn law10_events_are_part_of_a_frames_state() {
    use smmu_core::spec::event::EventRecord;
    let rig = Rig::new();
    let events = rig.frame.events();
    events.queue().configure(Gpa(0x4000), 4).unwrap();
    events.enable();
    events.record(&EventRecord::default()).unwrap();
    assert_eq!(events.queue().prod(), 1);
    let state = rig.frame.save();
    assert!(
        events.record(&EventRecord::default()).is_err(),
        "a paused frame writes no event"
    );

    let new = Rig::new();
    new.frame.pause();
    new.frame.update_memory(rig.memory.clone());
    new.frame.restore(&state).unwrap();
    new.frame.resume();
    assert_eq!(new.frame.events().queue().prod(), 1);
    new.frame.events().record(&EventRecord::default()).unwrap();
    assert_eq!(new.frame.events().queue().prod(), 2);
}

/// Counts the maps that it is given.
#[derive(Default)]
struct Mapped(std::sync::Mutex<Vec<Arc<dyn GuestMemory>>>);

impl dispatch::Backend for Mapped {
    fn capabilities(&self) -> BackendCapabilities {
        backend().capabilities()
    }

    fn submit(&self, _batch: &Batch) -> Result<(), Rejected> {
        Ok(())
    }

    fn barrier(&self, _waiter: WaiterId) -> Barrier {
        Barrier::Done
    }

    fn attach(&self, _wake: Arc<dyn Wake>) {}

    fn fail_closed(&self, _stream: Option<StreamId>) {}

    fn memory_changed(&self, memory: Arc<dyn GuestMemory>) {
        self.0.lock().unwrap().push(memory);
    }
}

#[test]
fn law9_a_backend_has_the_map_from_its_first_day_on() {
    let rig = Rig::new();
    let mapped = Arc::new(Mapped::default());
    rig.frame
        .add_instance(mapped.clone(), Placement { smmu: 9, stage2: 9 });
    rig.frame.update_memory(Arc::new(HeapMemory::new(0x1000)));
    assert_eq!(
        mapped.0.lock().unwrap().len(),
        2,
        "the present one, then the new one"
    );
}
