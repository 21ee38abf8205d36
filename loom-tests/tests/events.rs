//! The event queue and stalled transactions.
#![cfg(loom)]

use dispatch::{Barrier, WaiterId, Wake};
use loom::sync::Arc as LoomArc;
use loom::thread;
use loom_tests::{model, twin, wrong};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::command::{Msi, ResumeAction};
use smmu_core::fault::{Fault, FaultPolicy, Place};
use smmu_core::guest_memory::load_u64;
use smmu_core::spec::event::EventRecord;
use smmu_core::translate::Failed;
use smmu_core::{Capabilities, Gpa, StreamId};
use std::sync::Arc;
use vcmdq::events::{Answer, EventQueue, EventSink, Resumption, StalledAccess};
use vcmdq::seams::{Interrupts, Line, NoInterrupts, NoTarget};
use vcmdq::testing::HeapMemory;
use vcmdq_sync::atomic::{AtomicU32, Ordering};
use vcmdq_sync::weak::Site;

const FLAG: u32 = 1 << 31;

fn record(n: u64) -> EventRecord {
    EventRecord([n, n, n, n])
}

struct Rig {
    queue: EventQueue,
    memory: Arc<HeapMemory>,
    pulses: Arc<Pulses>,
}

/// How often the event interrupt came.
struct Pulses(AtomicU32);

impl Interrupts for Pulses {
    fn pulse(&self, _line: Line) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn message(&self, _device_id: u32, _msi: Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

fn rig(log2size: u8) -> LoomArc<Rig> {
    let memory = Arc::new(HeapMemory::new(32 << log2size));
    let pulses = Arc::new(Pulses(AtomicU32::new(0)));
    let queue = EventQueue::new(1, memory.clone(), pulses.clone());
    queue.configure(Gpa(0), log2size).expect("disabled");
    queue.enable();
    LoomArc::new(Rig {
        queue,
        memory,
        pulses,
    })
}

impl Rig {
    /// The record in a slot, which must be whole.
    fn read(&self, slot: u32) -> u64 {
        let at = |n: u64| Gpa(u64::from(slot) * 32 + n * 8);
        let word = |n| load_u64(&*self.memory, at(n), Ordering::Relaxed).expect("backed");
        let first = word(0);
        assert_ne!(first, 0, "PROD shows a record that is not there");
        assert_eq!(word(3), first, "a record in two halves");
        first
    }
}

/// Two faults and a guest that reads whatever PROD shows. (The guest is a thread of its own: loom
/// gives a thread that has yielded nothing of what it stored itself before, such as an empty memory.)
fn two_producers_and_a_consumer() {
    let rig = rig(1);
    let guest = {
        let rig = rig.clone();
        thread::spawn(move || {
            loop {
                let shown = rig.queue.prod();
                let sum: u64 = (0..shown).map(|slot| rig.read(slot)).sum();
                if shown == 2 {
                    return assert_eq!(sum, 3, "each record once");
                }
                thread::yield_now();
            }
        })
    };
    let other = {
        let rig = rig.clone();
        thread::spawn(move || rig.queue.push(&record(1)).expect("two slots"))
    };
    rig.queue.push(&record(2)).expect("two slots");
    other.join().expect("producer");
    guest.join().expect("guest");
}

#[test]
fn events_record_is_whole_when_prod_shows_it() {
    model("event queue", 2, two_producers_and_a_consumer);
}

#[test]
fn event_queue_without_the_release_of_prod_is_found_out() {
    twin(
        "event queue",
        Site::EventProd,
        2,
        two_producers_and_a_consumer,
    );
}

#[test]
fn event_queue_without_the_release_of_a_slot_is_found_out() {
    twin(
        "event queue",
        Site::EventWritten,
        2,
        two_producers_and_a_consumer,
    );
}

/// Two faults; whoever finishes last, both records are published.
fn two_producers() {
    let rig = rig(1);
    let other = {
        let rig = rig.clone();
        thread::spawn(move || rig.queue.push(&record(1)).expect("two slots"))
    };
    rig.queue.push(&record(2)).expect("two slots");
    other.join().expect("producer");
    assert_eq!(rig.queue.prod(), 2, "a record stays unpublished");
}

#[test]
fn events_every_record_is_published() {
    model("event publication", 3, two_producers);
}

#[test]
fn event_publication_without_its_fence_is_found_out() {
    twin("event publication", Site::EventBits, 3, two_producers);
}

/// One slot, a record in it, a guest that frees it, and a fault that needs it: the record is
/// read before it is overwritten, and what is lost is flagged.
fn a_slot_is_used_again() {
    let rig = rig(0);
    rig.queue.push(&record(1)).expect("empty");
    let producer = {
        let rig = rig.clone();
        thread::spawn(move || rig.queue.push(&record(2)).is_ok())
    };
    assert_eq!(rig.read(0), 1);
    rig.queue.write_cons(1);
    let accepted = producer.join().expect("producer");
    assert_eq!(rig.queue.prod() & FLAG != 0, !accepted, "lost in silence");
    assert_eq!(rig.queue.prod() & !FLAG, u32::from(!accepted));
    assert_eq!(rig.read(0), if accepted { 2 } else { 1 });
}

#[test]
fn events_a_full_queue_loses_nothing_in_silence() {
    model("event overflow", 3, a_slot_is_used_again);
}

/// A guest that says "I have read all" and looks at PROD once more before it waits for the
/// interrupt, and a fault at the same time.
fn the_guest_goes_to_sleep() {
    let rig = rig(1);
    rig.queue.push(&record(1)).expect("empty");
    let before = rig.pulses.0.load(Ordering::SeqCst);
    let producer = {
        let rig = rig.clone();
        thread::spawn(move || rig.queue.push(&record(2)).expect("room"))
    };
    rig.queue.write_cons(1);
    let seen = rig.queue.prod() == 2;
    producer.join().expect("producer");
    let interrupted = rig.pulses.0.load(Ordering::SeqCst) != before;
    assert!(seen || interrupted, "the guest sleeps beside a record");
}

#[test]
fn events_interrupt_is_not_lost() {
    model("event interrupt", 3, the_guest_goes_to_sleep);
}

#[test]
fn event_interrupt_without_its_fences_is_found_out() {
    twin(
        "event interrupt",
        Site::EventEdge,
        3,
        the_guest_goes_to_sleep,
    );
}

/// Which waiter has been woken.
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(&self, waiter: WaiterId) {
        self.0.store(waiter.0, Ordering::SeqCst);
    }
}

/// A slow thread records an event, and another thread one of an access that is then over. The SYNC
/// that comes next sees that record, or waits and is woken.
fn a_sync_behind_two_events(asks: bool) {
    let rig = rig(1);
    let (woken, waiter) = (Arc::new(Woken(AtomicU32::new(0))), WaiterId(3));
    rig.queue.attach(woken.clone());
    let slow = {
        let rig = rig.clone();
        thread::spawn(move || rig.queue.push(&record(1)).expect("two slots"))
    };
    rig.queue.push(&record(2)).expect("two slots");
    let due = rig.queue.mark();
    if !asks || rig.queue.barrier(due, waiter) == Barrier::Done {
        let shown = rig.queue.prod();
        let visible = (0..shown).any(|slot| rig.read(slot) == 2);
        assert!(visible, "the SYNC completes before the event is visible");
        slow.join().expect("producer");
        return;
    }
    slow.join().expect("producer");
    assert!(rig.queue.is_visible(due));
    let told = woken.0.load(Ordering::SeqCst);
    assert_eq!(told, waiter.0, "nobody wakes the SYNC");
}

#[test]
fn law3_sync_waits_for_an_event_behind_a_slower_one() {
    model("event and sync", 3, || a_sync_behind_two_events(true));
}

#[test]
fn a_sync_that_looks_for_events_without_its_fence_is_found_out() {
    twin("event and sync", Site::EventWaiter, 3, || {
        a_sync_behind_two_events(true);
    });
}

#[test]
fn a_sync_that_does_not_ask_for_events_is_found_out() {
    wrong("event and sync", 3, || a_sync_behind_two_events(false));
}

fn sink() -> EventSink {
    let mut caps = Capabilities::default();
    caps.idr0.set_stall_model(0);
    caps.idr5.set_stall_max(1);
    let memory = Arc::new(HeapMemory::new(64));
    let sink = EventSink::new(&caps, memory, Arc::new(NoInterrupts));
    sink.queue().configure(Gpa(0), 0).expect("disabled");
    sink.enable();
    sink
}

fn stalled(sink: &EventSink) -> StalledAccess {
    let access = Access {
        address: 0x1000,
        operation: Operation::Read,
        privileged: false,
    };
    let policy = FaultPolicy {
        stall: true,
        ..FaultPolicy::ABORT
    };
    let failed = Failed {
        fault: Fault::Translation(Place::Stage1),
        transaction: Transaction {
            stream: StreamId(1),
            substream: None,
            access,
        },
        verdict: policy.verdict(),
    };
    match sink.fault(&failed) {
        Answer::Stalled(stalled) => stalled,
        other => panic!("{other:?}"),
    }
}

/// A worker maps the page and resumes; the accessor sees the page when it sees the verdict.
fn a_worker_resumes(wait: fn(&StalledAccess) -> Resumption) {
    let sink = LoomArc::new(sink());
    let page = LoomArc::new(AtomicU32::new(0));
    let access = stalled(&sink);
    let stag = access.stag();
    let accessor = {
        let page = page.clone();
        thread::spawn(move || {
            assert_eq!(wait(&access), Resumption::Retry);
            assert_eq!(
                page.load(Ordering::Relaxed),
                1,
                "resumed before it was mapped"
            );
        })
    };
    page.store(1, Ordering::Relaxed);
    sink.resume_access(StreamId(1), stag, ResumeAction::Retry);
    accessor.join().expect("accessor");
    assert_eq!(sink.stalls().expect("stalls").in_use(), 0);
}

fn the_accessor_polls() {
    a_worker_resumes(|access| {
        loop {
            match access.poll() {
                Some(verdict) => return verdict,
                None => thread::yield_now(),
            }
        }
    });
}

#[test]
fn events_resume_hands_over() {
    model("resume", 3, the_accessor_polls);
}

#[test]
fn resume_without_its_release_is_found_out() {
    twin("resume", Site::StallVerdict, 3, the_accessor_polls);
}

/// The sleeper is woken: otherwise the model ends in a deadlock.
#[test]
fn law5_resume_wakes_the_accessor() {
    model("resume and sleep", 3, || {
        a_worker_resumes(StalledAccess::wait);
    });
}

/// A queue that is full when a transaction stalls, and a guest that makes room at the same time:
/// the record is written, once.
fn the_guest_makes_room() {
    let sink = LoomArc::new(sink());
    sink.record(&record(9)).expect("empty");
    let guest = {
        let sink = sink.clone();
        thread::spawn(move || sink.write_cons(1))
    };
    let access = stalled(&sink);
    guest.join().expect("guest");
    assert_eq!(sink.queue().prod(), 0, "the record is never written");
    assert_eq!(sink.queue().metrics().written, 2);
    drop(access);
}

#[test]
fn events_a_held_record_is_written() {
    model("held record", 3, the_guest_makes_room);
}

#[test]
fn held_record_without_its_fences_is_found_out() {
    twin("held record", Site::StallHeld, 3, the_guest_makes_room);
}

/// RESUME, the accessor giving up and the record's retry meet: the entry is given back once.
#[test]
fn events_an_entry_is_given_back_once() {
    model("stall ends", 2, || {
        let sink = LoomArc::new(sink());
        sink.record(&record(9)).expect("empty");
        let access = stalled(&sink);
        let guest = {
            let sink = sink.clone();
            thread::spawn(move || sink.write_cons(1))
        };
        sink.terminate_stalls(StreamId(1));
        drop(access);
        let stalls = sink.stalls().expect("stalls").clone();
        guest.join().expect("guest");
        assert_eq!(stalls.in_use(), 0);
        assert!(stalls.save().is_empty());
        sink.write_cons(sink.queue().prod());
        drop(stalled(&sink));
        assert_eq!(stalls.in_use(), 0);
    });
}

/// A new memory map is used by nobody's old record when the exchange returns (law 9).
#[test]
fn law9_the_old_map_is_not_written_any_more() {
    model("event map exchange", 3, || {
        let rig = rig(1);
        let other = {
            let rig = rig.clone();
            thread::spawn(move || rig.queue.push(&record(1)).expect("room"))
        };
        rig.queue.update_memory(Arc::new(HeapMemory::new(64)));
        let word = || load_u64(&*rig.memory, Gpa(0), Ordering::Relaxed).expect("backed");
        let (shown, old) = (rig.queue.prod(), word());
        other.join().expect("producer");
        assert_eq!(word(), old, "written after the exchange");
        assert!(old == 0 || shown == 1, "in the old map and not published");
        assert_eq!(rig.queue.prod(), 1, "and no record is lost");
    });
}
