//! Stalled transactions: tags, verdicts, and records that wait for room.

use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::command::ResumeAction;
use smmu_core::fault::{Fault, FaultPolicy, Place};
use smmu_core::guest_memory::load_u64;
use smmu_core::spec::event::{EventId, EventRecord};
use smmu_core::translate::Failed;
use smmu_core::{Capabilities, Gpa, Stag, StreamId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use vcmdq::events::{
    Answer, EventSink, Resumption, SinkRestoreError, StalledAccess, StallsRestoreError, Unwritable,
};
use vcmdq::seams::NoInterrupts;
use vcmdq::testing::HeapMemory;

const FLAG: u32 = 1 << 31;

fn caps(stall_max: u16, term_model: bool) -> Capabilities {
    let mut caps = Capabilities::default();
    caps.idr0.set_stall_model(0);
    caps.idr0.set_term_model(term_model);
    caps.idr5.set_stall_max(stall_max);
    caps
}

struct Rig {
    sink: EventSink,
    memory: Arc<HeapMemory>,
    entries: u32,
}

fn rig_with(caps: &Capabilities, log2size: u8) -> Rig {
    let memory = Arc::new(HeapMemory::new(0x2000));
    let sink = EventSink::new(caps, memory.clone(), Arc::new(NoInterrupts));
    sink.queue().configure(Gpa(0), log2size).unwrap();
    sink.enable();
    Rig {
        sink,
        memory,
        entries: 1 << log2size,
    }
}

fn rig(log2size: u8) -> Rig {
    rig_with(&caps(4, false), log2size)
}

impl Rig {
    fn record(&self, at: u32) -> EventRecord {
        let slot = u64::from(at % self.entries);
        let word =
            |n: u64| load_u64(&*self.memory, Gpa(slot * 32 + n * 8), Ordering::Relaxed).unwrap();
        EventRecord([word(0), word(1), word(2), word(3)])
    }

    fn stall(&self, stream: u32, address: u64) -> StalledAccess {
        match self.sink.fault(&failed(stream, address, STALL)) {
            Answer::Stalled(stalled) => stalled,
            other => panic!("{other:?}"),
        }
    }
}

const STALL: FaultPolicy = FaultPolicy {
    abort: true,
    record: true,
    stall: true,
};

fn failed(stream: u32, address: u64, policy: FaultPolicy) -> Failed {
    let access = Access {
        address,
        operation: Operation::Read,
        privileged: false,
    };
    Failed {
        fault: Fault::Translation(Place::Stage1),
        transaction: Transaction {
            stream: StreamId(stream),
            substream: None,
            access,
        },
        verdict: policy.verdict(),
    }
}

#[test]
fn the_device_is_answered_and_the_event_recorded_as_the_verdict_says() {
    let rig = rig(3);
    let policy = |abort, record| FaultPolicy {
        abort,
        record,
        stall: false,
    };
    assert!(matches!(
        rig.sink.fault(&failed(1, 1, policy(true, false))),
        Answer::Abort
    ));
    assert!(matches!(
        rig.sink.fault(&failed(1, 2, policy(false, false))),
        Answer::RazWi
    ));
    assert_eq!(rig.sink.queue().prod(), 0, "silently");
    assert!(matches!(
        rig.sink.fault(&failed(1, 3, policy(true, true))),
        Answer::Abort
    ));
    assert!(matches!(
        rig.sink.fault(&failed(1, 4, policy(false, true))),
        Answer::RazWi
    ));
    let _stalled = rig.stall(1, 5);
    assert_eq!(rig.sink.queue().prod(), 3);
    let seen = (0..3).map(|n| (rig.record(n).input_addr(), rig.record(n).dw1().stall()));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [(3, false), (4, false), (5, true)]
    );
    assert_eq!(rig.record(0).id(), Some(EventId::Translation));
}

/// Row 16 of the peers' bugs: what counts is EVENTQEN.
#[test]
fn peers_row16_event_writes_are_gated_by_eventqen() {
    let rig = rig(1);
    rig.sink.smmu_disabled();
    let config = failed(1, 0, FaultPolicy::ABORT);
    assert!(matches!(rig.sink.fault(&config), Answer::Abort));
    assert_eq!(rig.sink.queue().prod(), 1, "SMMUEN=0 and EVENTQEN=1");
    rig.sink.disable();
    for _ in 0..4 {
        assert!(matches!(rig.sink.fault(&config), Answer::Abort));
    }
    let record = config.record(None);
    assert_eq!(rig.sink.record(&record), Err(Unwritable::Disabled));
    assert_eq!(
        rig.sink.queue().prod(),
        1,
        "EVENTQEN=0: neither record nor overflow"
    );
    assert_eq!(rig.sink.queue().metrics().disabled, 5);
    rig.sink.enable();
    assert_eq!(rig.sink.record(&record), Ok(()));
}

#[test]
fn resume_delivers_each_verdict() {
    for (term_model, action, expected) in [
        (false, ResumeAction::Retry, Resumption::Retry),
        (false, ResumeAction::Abort, Resumption::Abort),
        (false, ResumeAction::Terminate, Resumption::RazWi),
        (true, ResumeAction::Terminate, Resumption::Abort),
    ] {
        let rig = rig_with(&caps(4, term_model), 3);
        let stalled = rig.stall(7, 0x1000);
        let record = rig.record(0);
        assert_eq!(
            (record.dw1().stag(), record.dw0().stream()),
            (stalled.stag().0, 7)
        );
        assert_eq!(stalled.poll(), None);
        assert_eq!(stalled.wait_for(Duration::from_millis(1)), None);
        rig.sink.resume_access(StreamId(7), stalled.stag(), action);
        assert_eq!(stalled.poll(), Some(expected));
        assert_eq!(stalled.wait(), expected);
    }
}

#[test]
fn resume_of_what_is_not_stalled_has_no_effect() {
    let rig = rig(3);
    let stalled = rig.stall(7, 0x1000);
    let stag = stalled.stag();
    rig.sink
        .resume_access(StreamId(8), stag, ResumeAction::Abort);
    for other in (0..=u16::MAX).filter(|other| *other != stag.0) {
        rig.sink
            .resume_access(StreamId(7), Stag(other), ResumeAction::Abort);
    }
    assert_eq!(stalled.poll(), None);
    rig.sink
        .resume_access(StreamId(7), stag, ResumeAction::Retry);
    rig.sink
        .resume_access(StreamId(7), stag, ResumeAction::Abort);
    assert_eq!(
        stalled.poll(),
        Some(Resumption::Retry),
        "the first verdict counts"
    );
    drop(stalled);
    let tenants: Vec<_> = (0..4).map(|n| rig.stall(7, n)).collect();
    rig.sink
        .resume_access(StreamId(7), stag, ResumeAction::Abort);
    assert!(
        tenants.iter().all(|t| t.poll().is_none()),
        "an old tag is nobody's"
    );
}

#[test]
fn stall_term_ends_a_streams_stalls_and_smmuen_all() {
    let rig = rig(3);
    let (a, b, other) = (rig.stall(1, 0), rig.stall(1, 1), rig.stall(2, 2));
    rig.sink.terminate_stalls(StreamId(1));
    let verdicts = (a.poll(), b.poll(), other.poll());
    assert_eq!(
        verdicts,
        (Some(Resumption::Abort), Some(Resumption::Abort), None)
    );
    rig.sink.smmu_disabled();
    assert_eq!(other.poll(), Some(Resumption::Abort));
}

#[test]
fn a_full_table_aborts_with_a_record_that_does_not_stall() {
    let rig = rig(3);
    let held: Vec<_> = (0..4).map(|n| rig.stall(1, n)).collect();
    assert!(matches!(
        rig.sink.fault(&failed(1, 9, STALL)),
        Answer::Abort
    ));
    assert!(!rig.record(4).dw1().stall());
    assert_eq!(rig.sink.stalls().unwrap().exhausted(), 1);
    let tags: std::collections::BTreeSet<_> = held.iter().map(StalledAccess::stag).collect();
    assert_eq!(tags.len(), 4, "tags are unique");
    drop(held);
    assert_eq!(rig.sink.stalls().unwrap().in_use(), 0);
    let _again = rig.stall(1, 10);
}

#[test]
fn by_default_nothing_stalls() {
    let rig = rig_with(&Capabilities::default(), 1);
    assert!(rig.sink.stalls().is_none());
    assert!(matches!(
        rig.sink.fault(&failed(1, 9, STALL)),
        Answer::Abort
    ));
    assert!(!rig.record(0).dw1().stall());
}

#[test]
fn a_record_without_room_waits_and_is_written_once() {
    let rig = rig(0);
    let first = rig.stall(1, 0xA000);
    let second = rig.stall(1, 0xB000);
    assert_eq!(rig.sink.queue().prod(), 1, "no overflow: nothing is lost");
    rig.sink.write_cons(0);
    assert_eq!(rig.sink.queue().prod(), 1, "still full");
    rig.sink.write_cons(1);
    assert_eq!(rig.sink.queue().prod(), 0, "as soon as there is room");
    assert_eq!(rig.record(0).dw1().stag(), second.stag().0);
    rig.sink.write_cons(0);
    assert_eq!(rig.sink.queue().prod(), 0, "once");
    drop((first, second));
}

#[test]
fn a_transaction_that_ended_is_not_recorded_any_more() {
    let rig = rig(0);
    let first = rig.stall(1, 0xA000);
    let (given_up, terminated) = (rig.stall(2, 0xB000), rig.stall(3, 0xC000));
    drop(given_up);
    rig.sink.terminate_stalls(StreamId(3));
    rig.sink.write_cons(1);
    assert_eq!(rig.sink.queue().prod(), 1, "neither of them");
    assert_eq!(terminated.poll(), Some(Resumption::Abort));
    drop((first, terminated));
    assert_eq!(rig.sink.stalls().unwrap().in_use(), 0);
}

#[test]
fn records_that_wait_follow_whatever_makes_the_queue_writable() {
    let rig = rig(1);
    rig.sink.disable();
    let one = rig.stall(1, 1);
    assert_eq!(rig.sink.queue().prod(), 0);
    rig.sink.enable();
    assert_eq!(rig.sink.queue().prod(), 1, "enable");
    rig.sink.queue().pause();
    let two = rig.stall(1, 2);
    rig.sink.resume();
    assert_eq!(rig.sink.queue().prod(), 2, "resume");
    rig.sink.write_cons(2);
    rig.sink.disable();
    rig.sink.queue().configure(Gpa(1 << 40), 1).unwrap();
    rig.sink.enable();
    let three = rig.stall(1, 3);
    assert_eq!(rig.sink.queue().gerror(), 4, "EVENTQ_ABT_ERR");
    rig.sink
        .queue()
        .update_memory(Arc::new(HeapMemory::with_regions(&[(Gpa(1 << 40), 4096)])));
    assert_eq!(rig.sink.queue().prod(), 2);
    rig.sink.acknowledge(4);
    assert_eq!(rig.sink.queue().prod(), 3, "acknowledgement");
    drop((one, two, three));
}

/// Accessors that stall over and over, a guest that answers each record, and a queue of two.
#[test]
fn every_stalled_access_is_recorded_once_and_resumed() {
    const THREADS: u32 = 4;
    const EACH: u64 = 4_000;
    let rig = &rig(1);
    let running = &AtomicU32::new(THREADS);
    let (resumed, answered) = std::thread::scope(|scope| {
        let accessor = |stream: u32| {
            move || {
                for n in 0..EACH {
                    assert_eq!(rig.stall(stream, n).wait(), Resumption::Retry);
                }
                running.fetch_sub(1, Ordering::Release);
                EACH
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(accessor(t))).collect();
        let (mut cons, mut answered) = (0u32, 0);
        while running.load(Ordering::Acquire) != 0 {
            let prod = rig.sink.queue().prod();
            assert_eq!(prod & FLAG, 0, "no record of a stalled access is lost");
            while cons != prod {
                let record = rig.record(cons);
                let (stream, stag) = (record.dw0().stream(), record.dw1().stag());
                cons = (cons + 1) % (2 * rig.entries);
                rig.sink.write_cons(cons);
                rig.sink
                    .resume_access(StreamId(stream), Stag(stag), ResumeAction::Retry);
                answered += 1;
            }
            std::thread::yield_now();
        }
        let resumed: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        (resumed, answered)
    });
    assert_eq!((resumed, answered), (u64::from(THREADS) * EACH, resumed));
    assert_eq!(rig.sink.stalls().unwrap().in_use(), 0);
}

/// Faults without end, nobody reads: what is kept is bounded by the settings, what is lost is counted.
#[test]
fn law8_a_fault_storm_grows_nothing() {
    const EACH: u64 = 50_000;
    let rig = &rig(2);
    assert_eq!(rig.memory.take_dirty(), []);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let mut held = Vec::new();
                for n in 0..EACH {
                    let policy = if n % 2 == 0 {
                        STALL
                    } else {
                        FaultPolicy::ABORT
                    };
                    if let Answer::Stalled(stalled) = rig.sink.fault(&failed(thread, n, policy)) {
                        held.push(stalled);
                    }
                    assert!(rig.sink.stalls().unwrap().in_use() <= 4, "IDR5.STALL_MAX");
                }
                held.into_iter().for_each(std::mem::forget);
            });
        }
    });
    let metrics = rig.sink.queue().metrics();
    let stalled = rig.sink.stalls().unwrap().in_use() as u64;
    assert_eq!(stalled, 4);
    let recorded_stalls = rig.sink.save().stalls.iter().filter(|s| s.recorded).count() as u64;
    assert_eq!(metrics.written, 4, "the queue's size");
    let plain = 3 * EACH - stalled;
    assert_eq!(
        metrics.written - recorded_stalls + metrics.overflowed,
        plain
    );
    assert_eq!(rig.sink.queue().prod(), 4 | FLAG, "flagged once");
    assert_eq!(
        rig.memory.take_dirty(),
        [Gpa(0)],
        "and nothing written beside the queue"
    );
}

#[test]
fn law10_stalls_and_queue_survive_a_restore() {
    let rig = rig(0);
    let recorded = rig.stall(1, 0xA000);
    let waiting = rig.stall(2, 0xB000);
    let answered = rig.stall(3, 0xC000);
    rig.sink.terminate_stalls(StreamId(3));
    let _lost = rig.sink.fault(&failed(4, 0, FaultPolicy::ABORT));
    let state = rig.sink.save();
    assert_eq!((state.queue.prod, state.stalls.len()), (1 | FLAG, 3));

    let json = serde_json::to_string(&state).unwrap();
    let there = EventSink::new(&caps(4, false), rig.memory.clone(), Arc::new(NoInterrupts));
    there.queue().pause();
    there
        .restore(&serde_json::from_str(&json).unwrap())
        .unwrap();
    assert_eq!(there.save(), state);
    there.resume();
    assert_eq!(there.queue().prod(), 1 | FLAG, "full as before");
    // The guest answers before the device has come back, and reads on.
    there.resume_access(StreamId(1), recorded.stag(), ResumeAction::Retry);
    there.write_cons(1 | FLAG);
    assert_eq!(there.queue().prod(), FLAG, "the record that waited");
    assert_eq!(rig.record(0).dw1().stag(), waiting.stag().0);
    let stalls = there.stalls().unwrap();
    assert!(stalls.adopt(StreamId(9), recorded.stag()).is_none());
    let first = stalls.adopt(StreamId(1), recorded.stag()).unwrap();
    assert!(stalls.adopt(StreamId(1), recorded.stag()).is_none(), "once");
    assert_eq!(first.poll(), Some(Resumption::Retry));
    let third = stalls.adopt(StreamId(3), answered.stag()).unwrap();
    assert_eq!(third.poll(), Some(Resumption::Abort));
    stalls.abandon_orphans();
    assert_eq!(stalls.in_use(), 2, "the second device never came");
    drop((first, third));
    assert_eq!(stalls.in_use(), 0);
}

#[test]
fn law10_a_state_that_no_engine_writes_is_refused() {
    let rig = rig(0);
    let _one = rig.stall(1, 0xA000);
    let state = rig.sink.save();
    let there = EventSink::new(&caps(4, false), rig.memory.clone(), Arc::new(NoInterrupts));
    assert!(
        matches!(there.restore(&state), Err(SinkRestoreError::Queue(_))),
        "not paused"
    );
    there.queue().pause();
    let refuse = |change: &dyn Fn(&mut vcmdq::events::EventSinkState)| {
        let mut bad = state.clone();
        change(&mut bad);
        assert!(there.restore(&bad).is_err(), "{bad:?}");
    };
    refuse(&|s| s.queue.prod = 2);
    refuse(&|s| s.queue.cons = 1 << 20);
    refuse(&|s| s.queue.base = 8);
    refuse(&|s| s.queue.log2size = 20);
    refuse(&|s| s.queue.gerror = 1);
    refuse(&|s| s.stalls[0].stag ^= 1 << 8);
    refuse(&|s| s.stalls[0].verdict = 4);
    refuse(&|s| s.stalls.push(s.stalls[0]));
    let none = EventSink::new(
        &Capabilities::default(),
        rig.memory.clone(),
        Arc::new(NoInterrupts),
    );
    none.queue().pause();
    assert_eq!(
        none.restore(&state),
        Err(SinkRestoreError::Stalls(StallsRestoreError::NoRoom))
    );
    there.restore(&state).unwrap();
    assert_eq!(
        there.restore(&state),
        Err(SinkRestoreError::Stalls(StallsRestoreError::InUse))
    );
}
