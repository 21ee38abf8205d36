//! Law 3: a SYNC completes when the events of accesses aborted before it are visible, also those
//! that stand behind a record which a slower thread is still writing.

use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{GuestMemory, MemoryError, store_u64};
use smmu_core::spec::event::EventRecord;
use smmu_core::{Capabilities, Gpa};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use vcmdq::stepping::Stepper;
use vcmdq::testing::HeapMemory;
use vcmdq::{DoorbellMode, Engine, Frame, FrameSettings, Ring, RingSettings, Seams, Settings};

const RING: Gpa = Gpa(0x1000);
const EVENTS: Gpa = Gpa(0x2000);

/// A gate of a slow thread: it says that it has come and waits to be let through.
struct Gate(Sender<()>, Receiver<()>);

/// Memory in which the reports of writes to some slots of the event queue stop at a gate: the thread
/// has been given its slot and has not said yet that the record is there.
struct Slow {
    behind: HeapMemory,
    gates: Mutex<Vec<(u64, Gate)>>,
}

impl GuestMemory for Slow {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.behind.words(at, count)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.behind.store_u32(at, value, order)
    }

    fn mark_dirty(&self, at: Gpa, len: usize) {
        self.behind.mark_dirty(at, len);
        let mut gates = self.gates.lock().unwrap();
        let found = gates
            .iter()
            .position(|(slot, _)| at.0 == EVENTS.0 + slot * 32);
        let gate = found.map(|n| gates.remove(n).1);
        drop(gates);
        if let Some(Gate(come, go)) = gate {
            come.send(()).unwrap();
            // A test that has failed opens every gate by dropping it.
            let _opened_or_gone = go.recv();
        }
    }
}

struct Rig {
    memory: Arc<Slow>,
    engine: Engine,
    frame: Arc<Frame>,
    ring: Arc<Ring>,
    stepper: Stepper,
    prod: u32,
}

fn record(n: u64) -> EventRecord {
    EventRecord([n; 4])
}

impl Rig {
    fn new() -> Self {
        let memory = Arc::new(Slow {
            behind: HeapMemory::new(0x4000),
            gates: Mutex::default(),
        });
        let engine = Engine::without_workers(Settings::default()).unwrap();
        let settings = FrameSettings {
            caps: Capabilities::default(),
            ..FrameSettings::default()
        };
        let frame = Arc::new(engine.add_frame(settings, Seams::new(memory.clone())));
        let ring = frame.add_ring(DoorbellMode::Trap).unwrap();
        let (base, log2size) = (RING, 4);
        ring.configure(RingSettings { base, log2size }).unwrap();
        ring.enable();
        frame.events().queue().configure(EVENTS, 4).unwrap();
        frame.events().enable();
        let stepper = Stepper::default();
        let mut rig = Self {
            memory,
            engine,
            frame,
            ring,
            stepper,
            prod: 0,
        };
        rig.serve();
        rig
    }

    /// A thread that records an event, stopped at its gate; what opens it, and the thread.
    fn slow_event(&self, slot: u64, n: u64) -> (Sender<()>, std::thread::JoinHandle<()>) {
        let ((come, has_come), (go, may_go)) = (channel(), channel());
        let gate = (slot, Gate(come, may_go));
        self.memory.gates.lock().unwrap().push(gate);
        let frame = self.frame.clone();
        let thread = std::thread::spawn(move || frame.events().record(&record(n)).unwrap());
        has_come.recv().unwrap();
        (go, thread)
    }

    fn sync(&mut self) {
        let raw = encode(&Command::Sync(Signal::None));
        let at = RING.0 + u64::from(self.prod) * 16;
        let store = |at, value| store_u64(&*self.memory, Gpa(at), value, Ordering::Release);
        store(at, raw.dw0).unwrap();
        store(at + 8, raw.dw1).unwrap();
        self.prod += 1;
        self.ring.doorbell(self.prod);
        self.serve();
    }

    /// Serves the ring as often as somebody says that there is a reason; how often.
    fn serve(&mut self) -> usize {
        let mut times = 0;
        while self.engine.take_ready().is_some() {
            self.stepper.serve(&self.ring);
            times += 1;
        }
        times
    }

    fn done(&self) -> bool {
        self.ring.cons() == self.prod
    }

    fn shown(&self) -> u32 {
        self.frame.events().queue().prod()
    }
}

#[test]
fn law3_sync_waits_for_an_event_that_is_hidden_behind_a_slower_one() {
    let mut rig = Rig::new();
    let (open, slow) = rig.slow_event(0, 1);
    rig.frame.events().record(&record(2)).unwrap();
    assert_eq!(rig.shown(), 0, "the second record stands behind the first");
    rig.sync();
    assert!(!rig.done(), "completed before the event was visible");
    assert!(rig.ring.is_waiting());
    assert_eq!(rig.serve(), 0, "a ring that waits is not looked at again");
    open.send(()).unwrap();
    slow.join().unwrap();
    assert_eq!(rig.shown(), 2);
    assert!(rig.serve() > 0, "nobody woke the ring");
    assert!(rig.done() && !rig.ring.is_waiting());
    assert_eq!(rig.ring.metrics().sync_waits, 1);
}

#[test]
fn law3_sync_does_not_wait_for_events_of_accesses_after_it() {
    let mut rig = Rig::new();
    let (open_first, first) = rig.slow_event(0, 1);
    rig.sync();
    assert!(!rig.done());
    let (open_second, second) = rig.slow_event(1, 2);
    open_first.send(()).unwrap();
    first.join().unwrap();
    assert!(
        rig.serve() > 0 && rig.done(),
        "a storm must not hold a SYNC up for ever"
    );
    rig.sync();
    assert!(!rig.done(), "the next one does wait for it");
    open_second.send(()).unwrap();
    second.join().unwrap();
    assert!(rig.serve() > 0 && rig.done());
}

#[test]
fn law3_a_sync_after_the_ring_was_off_waits_for_what_was_recorded_by_then() {
    let mut rig = Rig::new();
    let (open_first, first) = rig.slow_event(0, 1);
    rig.sync();
    rig.ring.disable();
    rig.serve();
    let (open_second, second) = rig.slow_event(1, 2);
    open_first.send(()).unwrap();
    first.join().unwrap();
    rig.ring.enable();
    rig.serve();
    assert!(!rig.done(), "a new SYNC may stand at the same place");
    open_second.send(()).unwrap();
    second.join().unwrap();
    rig.serve();
    assert!(rig.done());
}

#[test]
fn a_mark_in_a_queue_that_is_moved_is_passed() {
    let rig = Rig::new();
    let queue = rig.frame.events().queue();
    for log2size in [0, 3, 1, 4, 2] {
        for n in 0..3 {
            let _full_or_not = rig.frame.events().record(&record(n));
            queue.write_cons(queue.prod());
        }
        let before = queue.mark();
        rig.frame.events().disable();
        queue.configure(EVENTS, log2size).unwrap();
        queue.write_prod(1).unwrap();
        assert!(queue.is_visible(before) && queue.is_visible(queue.mark()));
        queue.write_cons(1);
        rig.frame.events().enable();
        assert!(queue.is_visible(queue.mark()));
    }
}
