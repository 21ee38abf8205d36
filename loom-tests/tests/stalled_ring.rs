//! A stalled access and, in one ring, the TLBI of what it wanted, a SYNC and its own RESUME (law 3).
#![cfg(loom)]

use dispatch::{Backend, BackendCapabilities, Barrier, Batch, Rejected, WaiterId, Wake};
use loom::thread;
use loom_tests::{model, raw_sync, raw_tlbi, wrong};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::command::{Command, ResumeAction};
use smmu_core::encode::encode;
use smmu_core::fault::{Fault, FaultPolicy, Place};
use smmu_core::guard::{Guards, Interest, Mark, Use};
use smmu_core::guest_memory::store_u64;
use smmu_core::translate::Failed;
use smmu_core::{Capabilities, Gpa, Stag, StreamId, Vmid};
use std::sync::{Arc, OnceLock};
use vcmdq::events::{Answer, Resumption};
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{
    Binding, DoorbellMode, Engine, Frame, FrameSettings, Placement, Ring, RingSettings, Seams,
    Settings,
};
use vcmdq_sync::atomic::Ordering;

const STREAM: StreamId = StreamId(1);
const BASE: Gpa = Gpa(0x1000);

/// A backend that removes nothing, but waits for guards as the software one does.
struct Guarding {
    guards: Guards,
    wake: OnceLock<Arc<dyn Wake>>,
}

impl Guarding {
    fn close(&self, slot: &smmu_core::guard::Slot) {
        if self.guards.close(slot) {
            let wake = self.wake.get().expect("attached");
            self.guards.wake(|ring| wake.wake(WaiterId(ring)));
        }
    }
}

impl Backend for Guarding {
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::default()
    }

    fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
        let marks = batch.waiters().iter().map(|waiter| Mark::of(waiter.0));
        let marks = marks.reduce(Mark::and);
        self.guards.mark_each(Interest::EVERYTHING, |_| marks);
        Ok(())
    }

    fn barrier(&self, waiter: WaiterId) -> Barrier {
        if self.guards.quiesced(Mark::of(waiter.0)) {
            Barrier::Done
        } else {
            Barrier::Pending
        }
    }

    fn attach(&self, wake: Arc<dyn Wake>) {
        assert!(self.wake.set(wake).is_ok());
    }

    fn fail_closed(&self, _stream: Option<StreamId>) {}
}

fn failed() -> Failed {
    let access = Access {
        address: 0x5000,
        operation: Operation::Read,
        privileged: false,
    };
    let policy = FaultPolicy {
        abort: true,
        record: true,
        stall: true,
    };
    Failed {
        fault: Fault::Translation(Place::Stage1),
        transaction: Transaction {
            stream: STREAM,
            substream: None,
            access,
        },
        verdict: policy.verdict(),
    }
}

fn anything() -> Use {
    Use::anything(STREAM, Vmid(0))
}

/// A frame that stalls, with a ring of four entries and one guard.
struct Rig {
    engine: Engine,
    frame: Frame,
    ring: Arc<Ring>,
    backend: Arc<Guarding>,
    memory: Arc<HeapMemory>,
}

fn rig() -> Rig {
    let mut caps = Capabilities::default();
    caps.idr0.set_stall_model(0);
    caps.idr5.set_stall_max(1);
    let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 64)]));
    let settings = Settings {
        max_rings: 1,
        ..Settings::default()
    };
    let engine = Engine::without_workers(settings).expect("settings");
    let settings = FrameSettings {
        caps,
        ..FrameSettings::default()
    };
    let frame = engine.add_frame(settings, Seams::new(memory.clone()));
    let backend = Arc::new(Guarding {
        guards: Guards::new(1),
        wake: OnceLock::new(),
    });
    let instance = frame.add_instance(backend.clone(), Placement::default());
    frame
        .bind(
            STREAM,
            Binding {
                instance,
                placement: Placement::default(),
            },
        )
        .expect("free");
    let ring = frame.add_ring(DoorbellMode::Trap).expect("room");
    ring.configure(RingSettings {
        base: BASE,
        log2size: 2,
    })
    .expect("disabled");
    ring.enable();
    Rig {
        engine,
        frame,
        ring,
        backend,
        memory,
    }
}

impl Rig {
    /// TLBI, SYNC, RESUME.
    fn write_commands(&self, stag: Stag) {
        let resume = Command::Resume {
            stream: STREAM,
            stag,
            action: ResumeAction::Retry,
        };
        for (n, raw) in (0u64..).zip([raw_tlbi(5), raw_sync(), encode(&resume)]) {
            let at = Gpa(BASE.0 + n * 16);
            for (at, word) in [(at, raw.dw0), (Gpa(at.0 + 8), raw.dw1)] {
                store_u64(&*self.memory, at, word, Ordering::Relaxed).expect("backed");
            }
        }
    }

    /// Looks instead of sleeping, as the device below: a deadlock is then too many looks, which
    /// loom can report from any thread.
    fn consume(&self, commands: u32) {
        let mut stepper = Stepper::default();
        self.ring.doorbell(commands);
        while self.ring.cons() != commands {
            if self.engine.take_ready().is_some() {
                stepper.serve(&self.ring);
            } else {
                thread::yield_now();
            }
        }
    }
}

/// The access faults, gives its guard up (or, wrongly, does not) and waits for the guest, whose
/// RESUME stands behind a SYNC in the same ring; then it translates anew under a new guard.
fn stalled_access(keeps_its_guard: bool) {
    let rig = rig();
    let backend = rig.backend.clone();
    let slot = backend.guards.lease().expect("a slot");
    backend.guards.open(&slot, &anything());
    if !keeps_its_guard {
        backend.close(&slot);
    }
    let Answer::Stalled(handle) = rig.frame.events().fault(&failed()) else {
        panic!("no stall")
    };
    rig.write_commands(handle.stag());
    let device = thread::spawn(move || {
        let verdict = loop {
            if let Some(verdict) = handle.poll() {
                break verdict;
            }
            thread::yield_now();
        };
        if !keeps_its_guard {
            backend.guards.open(&slot, &anything());
        }
        backend.close(&slot);
        verdict
    });
    rig.consume(3);
    assert_eq!(device.join().expect("device"), Resumption::Retry);
}

#[test]
fn law3_a_stalled_access_does_not_hold_up_the_sync_before_its_resume() {
    model("stalled access", 2, || stalled_access(false));
}

#[test]
fn a_stalled_access_that_keeps_its_guard_is_found_out() {
    wrong("stalled access with its guard", 2, || stalled_access(true));
}
