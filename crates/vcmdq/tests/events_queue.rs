//! The event queue against a naive one, and under many threads.

use proptest::prelude::*;
use smmu_core::Gpa;
use smmu_core::command::Msi;
use smmu_core::guest_memory::load_u64;
use smmu_core::spec::event::EventRecord;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vcmdq::events::{EventQueue, NotDisabled, Unwritable};
use vcmdq::seams::{Interrupts, Line, NoTarget};
use vcmdq::testing::{HeapMemory, Holed};

const BASE: Gpa = Gpa(0x1000);
const FLAG: u32 = 1 << 31;
const EVENTQ_ABT_ERR: u32 = 1 << 2;

#[derive(Default)]
struct Pulses {
    events: AtomicU32,
    errors: AtomicU32,
}

impl Interrupts for Pulses {
    fn pulse(&self, line: Line) {
        match line {
            Line::EventQueue => self.events.fetch_add(1, Ordering::SeqCst),
            Line::Gerror => self.errors.fetch_add(1, Ordering::SeqCst),
            other => panic!("{other:?} is no interrupt of the event queue"),
        };
    }

    fn message(&self, _device_id: u32, _msi: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

struct Rig {
    queue: EventQueue,
    memory: Arc<Holed<HeapMemory>>,
    ram: Arc<HeapMemory>,
    pulses: Arc<Pulses>,
}

fn rig(log2size: u8) -> Rig {
    let ram = Arc::new(HeapMemory::new(0x4000));
    let memory = Arc::new(Holed::new(ram.clone()));
    let pulses = Arc::new(Pulses::default());
    let queue = EventQueue::new(7, memory.clone(), pulses.clone());
    queue.configure(BASE, log2size).unwrap();
    Rig {
        queue,
        memory,
        ram,
        pulses,
    }
}

fn record(n: u64) -> EventRecord {
    EventRecord([n, !n, n << 7, n ^ 0x5555])
}

fn read(memory: &HeapMemory, slot: u64) -> EventRecord {
    let word =
        |n: u64| load_u64(memory, Gpa(BASE.0 + slot * 32 + n * 8), Ordering::Relaxed).unwrap();
    EventRecord([word(0), word(1), word(2), word(3)])
}

/// Row 5 of the peers' bugs: a full queue is an overflow and no error.
#[test]
fn peers_row5_full_queue_toggles_ovflg_not_gerror() {
    let rig = rig(1);
    rig.queue.enable();
    assert!(rig.queue.push(&record(1)).is_ok() && rig.queue.push(&record(2)).is_ok());
    assert_eq!(rig.queue.prod(), 2);
    assert_eq!(rig.queue.push(&record(3)), Err(Unwritable::Full));
    assert_eq!((rig.queue.prod(), rig.queue.gerror()), (2 | FLAG, 0));
    assert_eq!(rig.pulses.errors.load(Ordering::SeqCst), 0);
    assert_eq!(read(&rig.ram, 0), record(1), "what is there stays");
    assert_eq!(rig.queue.metrics().overflowed, 1);
}

/// Row 12: the second overflow makes the flag 0 again.
#[test]
fn peers_row12_ovflg_is_toggled_not_set() {
    let rig = rig(0);
    rig.queue.enable();
    rig.queue.push(&record(1)).unwrap();
    let overflow = |expected| {
        assert_eq!(rig.queue.push(&record(2)), Err(Unwritable::Full));
        assert_eq!(rig.queue.prod() & FLAG, expected);
    };
    overflow(FLAG);
    overflow(FLAG);
    rig.queue.write_cons(FLAG);
    overflow(0);
    overflow(0);
    rig.queue.write_cons(0);
    overflow(FLAG);
}

#[test]
fn a_record_of_a_stalled_transaction_is_no_overflow() {
    let rig = rig(0);
    rig.queue.enable();
    rig.queue.push(&record(1)).unwrap();
    assert_eq!(rig.queue.try_push(&record(2)), Err(Unwritable::Full));
    assert_eq!(rig.queue.prod(), 1);
    rig.queue.write_cons(1);
    assert_eq!(rig.queue.try_push(&record(2)), Ok(()));
    assert_eq!((rig.queue.prod(), read(&rig.ram, 0)), (0, record(2)));
}

#[test]
fn an_abort_stops_the_queue_until_it_is_acknowledged() {
    let rig = rig(2);
    rig.queue.enable();
    rig.queue.push(&record(1)).unwrap();
    // The second record begins within memory and ends outside.
    rig.memory.set_hole(Gpa(BASE.0 + 32 + 16), 64);
    assert_eq!(rig.queue.push(&record(2)), Err(Unwritable::Error));
    assert_eq!((rig.queue.gerror(), rig.queue.prod()), (EVENTQ_ABT_ERR, 1));
    rig.memory.set_hole(BASE, 0);
    assert_eq!(
        rig.queue.push(&record(3)),
        Err(Unwritable::Error),
        "not acknowledged"
    );
    assert_eq!(rig.queue.prod() & FLAG, 0, "and that is no overflow");
    rig.queue.acknowledge(1);
    assert!(!rig.queue.is_writable(), "another bit acknowledges nothing");
    rig.queue.acknowledge(EVENTQ_ABT_ERR);
    assert_eq!(rig.queue.gerrorn(), EVENTQ_ABT_ERR);
    rig.queue.push(&record(4)).unwrap();
    assert_eq!((rig.queue.prod(), read(&rig.ram, 1)), (2, record(4)));
    assert_eq!(rig.pulses.errors.load(Ordering::SeqCst), 1);
    assert_eq!(rig.queue.metrics().aborted, 2);
}

#[test]
fn what_may_be_written_while_disabled_is_refused_while_enabled() {
    let rig = rig(2);
    rig.queue.write_prod(3 | FLAG).unwrap();
    rig.queue.write_cons(3 | FLAG);
    rig.queue.enable();
    assert!(rig.queue.is_enabled());
    assert_eq!(rig.queue.configure(Gpa(0), 3), Err(NotDisabled));
    assert_eq!(rig.queue.write_prod(0), Err(NotDisabled));
    rig.queue.push(&record(9)).unwrap();
    assert_eq!((rig.queue.prod(), rig.queue.cons()), (4 | FLAG, 3 | FLAG));
    assert_eq!(read(&rig.ram, 3), record(9));
    rig.queue.disable();
    assert!(!rig.queue.is_enabled());
    // Aligned down to 8 records; PROD and CONS stay.
    rig.queue.configure(Gpa(0x21FF), 3).unwrap();
    assert_eq!((rig.queue.prod(), rig.queue.cons()), (4 | FLAG, 3 | FLAG));
    rig.queue.enable();
    rig.queue.push(&record(10)).unwrap();
    let at = Gpa(0x2100 + 4 * 32);
    assert_eq!(load_u64(&*rig.ram, at, Ordering::Relaxed), Ok(10));
}

/// Row 14's rule for this queue, and the dirty log.
#[test]
fn log2size_is_capped_and_writes_are_logged() {
    let rig = rig(31);
    rig.queue.enable();
    assert_eq!(rig.ram.take_dirty(), []);
    for n in 0..128 {
        rig.queue.push(&record(n)).unwrap();
    }
    assert_eq!(
        rig.queue.push(&record(0)),
        Err(Unwritable::Full),
        "2^7 records"
    );
    assert_eq!(rig.ram.take_dirty(), [BASE]);
}

#[test]
fn a_cons_that_cannot_be_is_a_full_queue() {
    let rig = rig(2);
    rig.queue.enable();
    rig.queue.write_cons(3);
    assert_eq!(rig.queue.push(&record(1)), Err(Unwritable::Full));
    rig.queue.write_cons(FLAG);
    rig.queue.push(&record(2)).unwrap();
}

#[test]
fn a_mark_is_visible_when_prod_has_passed_it() {
    let rig = rig(1);
    rig.queue.enable();
    let empty = rig.queue.mark();
    assert!(rig.queue.is_visible(empty));
    rig.queue.push(&record(1)).unwrap();
    assert!(rig.queue.mark() > empty && rig.queue.is_visible(rig.queue.mark()));
}

/// The queue as the reference describes it, with nothing shared and nothing packed.
#[derive(Debug, Default)]
struct Naive {
    log2size: u8,
    prod: u32,
    cons: u32,
    ovflg: bool,
    ovackflg: bool,
    error: bool,
    error_ack: bool,
    enabled: bool,
    paused: bool,
    hole: bool,
    records: BTreeMap<u32, EventRecord>,
    event_pulses: u32,
    error_pulses: u32,
}

impl Naive {
    fn size(&self) -> u32 {
        1 << self.log2size
    }

    fn push(&mut self, record: EventRecord, stall: bool) {
        if !self.enabled || self.error != self.error_ack {
            return;
        }
        let same_index = self.prod % self.size() == self.cons % self.size();
        if self.paused || (same_index && self.prod != self.cons) {
            if !stall && self.ovflg == self.ovackflg {
                self.ovflg = !self.ovflg;
            }
            return;
        }
        if self.hole {
            self.error = !self.error;
            self.error_pulses += 1;
            return;
        }
        self.records.insert(self.prod % self.size(), record);
        if self.prod == self.cons {
            self.event_pulses += 1;
        }
        self.prod = (self.prod + 1) % (2 * self.size());
    }

    fn filled(&self) -> u32 {
        (self.prod + 2 * self.size() - self.cons) % (2 * self.size())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    TryPush(u64),
    Consume(u32, bool),
    Enable,
    Disable,
    Pause,
    Resume,
    Hole(bool),
    Acknowledge(u32),
    Move(u8, u32, bool),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1u64..1000).prop_map(Step::Push),
        4 => (1u64..1000).prop_map(Step::TryPush),
        6 => (0u32..5, any::<bool>()).prop_map(|(n, ack)| Step::Consume(n, ack)),
        3 => Just(Step::Enable),
        1 => Just(Step::Disable),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => any::<bool>().prop_map(Step::Hole),
        2 => (0u32..8).prop_map(Step::Acknowledge),
        1 => (0u8..4, any::<u32>(), any::<bool>()).prop_map(|(n, p, f)| Step::Move(n, p, f)),
        1 => Just(Step::Reload),
    ]
}

/// BASE, PROD and CONS, as a guest sets a queue up.
fn move_to(rig: &Rig, naive: &mut Naive, log2size: u8, pointers: u32, flags: bool) {
    let done = rig.queue.configure(BASE, log2size);
    assert_eq!(done.is_ok(), !naive.enabled);
    if done.is_ok() {
        naive.log2size = log2size;
        naive.prod = pointers % (2 * naive.size());
        naive.cons = naive.prod;
        (naive.ovflg, naive.ovackflg) = (flags, flags);
        naive.records.clear();
        let flag = if flags { FLAG } else { 0 };
        rig.queue.write_prod(pointers & !FLAG | flag).unwrap();
        rig.queue.write_cons(naive.cons | flag);
    }
}

fn apply(step: &Step, rig: &mut Rig, naive: &mut Naive) {
    match *step {
        Step::Push(n) => {
            let _ = rig.queue.push(&record(n));
            naive.push(record(n), false);
        }
        Step::TryPush(n) => {
            let _ = rig.queue.try_push(&record(n));
            naive.push(record(n), true);
        }
        Step::Consume(count, ack) => {
            naive.cons = (naive.cons + count.min(naive.filled())) % (2 * naive.size());
            if ack {
                naive.ovackflg = naive.ovflg;
            }
            rig.queue
                .write_cons(naive.cons | if naive.ovackflg { FLAG } else { 0 });
        }
        Step::Enable => {
            naive.enabled = true;
            rig.queue.enable();
        }
        Step::Disable => {
            naive.enabled = false;
            rig.queue.disable();
        }
        Step::Pause => {
            naive.paused = true;
            rig.queue.pause();
        }
        Step::Resume => {
            naive.paused = false;
            rig.queue.resume();
        }
        Step::Hole(hole) => {
            naive.hole = hole;
            rig.memory.set_hole(BASE, if hole { 0x1000 } else { 0 });
        }
        Step::Acknowledge(bits) => {
            if naive.error != naive.error_ack {
                naive.error_ack = bits & EVENTQ_ABT_ERR != 0;
            }
            rig.queue.acknowledge(bits);
        }
        Step::Move(log2size, pointers, flags) => move_to(rig, naive, log2size, pointers, flags),
        Step::Reload => {
            naive.paused = true;
            let state = rig.queue.save();
            let restored = EventQueue::new(7, rig.memory.clone(), rig.pulses.clone());
            restored.pause();
            restored.restore(&state).unwrap();
            assert_eq!(restored.save(), state);
            rig.queue = restored;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_what_a_naive_queue_does(
        steps in prop::collection::vec(step(), 1..120), log2size in 0u8..4,
    ) {
        let mut rig = rig(log2size);
        let mut naive = Naive { log2size, ..Naive::default() };
        for step in steps {
            apply(&step, &mut rig, &mut naive);
            let flag = |set| if set { FLAG } else { 0 };
            prop_assert_eq!(rig.queue.prod(), naive.prod | flag(naive.ovflg), "{:?}", step);
            prop_assert_eq!(rig.queue.cons(), naive.cons | flag(naive.ovackflg));
            prop_assert_eq!(rig.queue.gerror() != 0, naive.error);
            prop_assert_eq!(rig.queue.gerrorn() != 0, naive.error_ack);
            prop_assert_eq!(rig.queue.is_enabled(), naive.enabled);
            prop_assert_eq!(rig.pulses.events.load(Ordering::SeqCst), naive.event_pulses);
            prop_assert_eq!(rig.pulses.errors.load(Ordering::SeqCst), naive.error_pulses);
            for (slot, record) in &naive.records {
                prop_assert_eq!(read(&rig.ram, u64::from(*slot)), *record);
            }
        }
    }
}

/// What a guest read: records in order, and how often it acknowledged an overflow.
struct Read {
    records: Vec<EventRecord>,
    overflows: u32,
}

/// Reads until the producers are done and the queue is empty.
fn consume(rig: &Rig, entries: u32, done: &AtomicBool) -> Read {
    let mut read_so_far = Read {
        records: Vec::new(),
        overflows: 0,
    };
    let (mut cons, mut flag) = (0, 0);
    loop {
        let finished = done.load(Ordering::Acquire);
        let prod = rig.queue.prod();
        read_so_far.overflows += u32::from(prod & FLAG != flag);
        let idle = prod & !FLAG == cons && prod & FLAG == flag;
        while prod & !FLAG != cons {
            let slot = cons % entries;
            read_so_far.records.push(read(&rig.ram, u64::from(slot)));
            cons = (cons + 1) % (2 * entries);
        }
        flag = prod & FLAG;
        rig.queue.write_cons(cons | flag);
        if finished && idle {
            return read_so_far;
        }
        if idle {
            std::thread::yield_now();
        }
    }
}

#[test]
fn records_of_many_threads_are_whole_in_order_and_not_lost_silently() {
    const THREADS: u64 = 4;
    const EACH: u64 = 30_000;
    let rig = &rig(1);
    rig.queue.enable();
    let done = &AtomicBool::new(false);
    let (accepted, read) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| consume(rig, 2, done));
        let faulting = |thread: u64| {
            move || {
                let push = |n: &u64| rig.queue.push(&record(thread << 32 | n)).is_ok();
                (1..=EACH)
                    .filter(push)
                    .map(|n| thread << 32 | n)
                    .collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(faulting(t))).collect();
        let accepted: Vec<u64> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        done.store(true, Ordering::Release);
        (accepted, guest.join().unwrap())
    });
    let mut ids: Vec<u64> = read.records.iter().map(|r| r.0[0]).collect();
    assert!(read.records.iter().all(|r| *r == record(r.0[0])), "whole");
    for thread in 0..THREADS {
        let own = ids.iter().filter(|id| *id >> 32 == thread);
        assert!(own.is_sorted_by(|a, b| a < b), "in the order of PROD");
    }
    ids.sort_unstable();
    assert_eq!(ids, accepted, "what was accepted is read, once");
    let lost = THREADS * EACH - accepted.len() as u64;
    let metrics = rig.queue.metrics();
    assert_eq!(
        (metrics.written, metrics.overflowed),
        (accepted.len() as u64, lost)
    );
    assert_eq!(read.overflows != 0, lost != 0, "lost {lost}");
}
