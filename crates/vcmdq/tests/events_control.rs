//! Control calls on the event queue while threads fault: exchange of memory (law 9), pause (law 10),
//! disable; and a thread that is slow to write its record.

use smmu_core::guest_memory::{GuestMemory, MemoryError, load_u64};
use smmu_core::spec::event::EventRecord;
use smmu_core::{Capabilities, Gpa};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use vcmdq::events::{EventQueue, EventSink, Unwritable};
use vcmdq::seams::NoInterrupts;
use vcmdq::testing::HeapMemory;

const FLAG: u32 = 1 << 31;

fn record(n: u64) -> EventRecord {
    EventRecord([n; 4])
}

/// Memory in which the first writer stands still, having written, until it is told to go on.
struct Slow {
    ram: HeapMemory,
    first: AtomicBool,
    inside: mpsc::SyncSender<()>,
    go_on: AtomicBool,
}

impl GuestMemory for Slow {
    fn words(&self, at: Gpa, count: usize) -> Result<&[AtomicU64], MemoryError> {
        self.ram.words(at, count)
    }

    fn store_u32(&self, at: Gpa, value: u32, order: Ordering) -> Result<(), MemoryError> {
        self.ram.store_u32(at, value, order)
    }

    fn mark_dirty(&self, _at: Gpa, _len: usize) {
        if self.first.swap(false, Ordering::SeqCst) {
            self.inside.send(()).unwrap();
            while !self.go_on.load(Ordering::Acquire) {
                thread::yield_now();
            }
        }
    }
}

/// Runs `during` while a thread is writing the first record, and `after` when it has finished.
fn beside_a_slow_thread(during: impl FnOnce(&EventQueue, &Slow), after: impl FnOnce(&EventQueue)) {
    let (inside, is_inside) = mpsc::sync_channel(0);
    let slow = Arc::new(Slow {
        ram: HeapMemory::new(0x1000),
        first: AtomicBool::new(true),
        inside,
        go_on: AtomicBool::new(false),
    });
    let queue = EventQueue::new(3, slow.clone(), Arc::new(NoInterrupts));
    queue.configure(Gpa(0), 2).unwrap();
    queue.enable();
    thread::scope(|scope| {
        let faulting = scope.spawn(|| queue.push(&record(1)));
        is_inside.recv().unwrap();
        during(&queue, &slow);
        slow.go_on.store(true, Ordering::Release);
        assert_eq!(faulting.join().unwrap(), Ok(()));
    });
    after(&queue);
}

#[test]
fn nobody_waits_for_a_slower_thread() {
    beside_a_slow_thread(
        |queue, _| {
            let mark = queue.mark();
            assert_eq!(queue.push(&record(2)), Ok(()));
            assert_eq!(queue.push(&record(3)), Ok(()));
            assert_eq!(queue.prod(), 0, "PROD goes in order");
            assert!(
                !queue.is_visible(mark),
                "a SYNC would wait for the first one"
            );
        },
        |queue| {
            assert_eq!(queue.prod(), 3, "the slow one publishes for all");
            assert!(queue.is_visible(queue.mark()));
        },
    );
}

#[test]
fn a_full_queue_counts_what_is_not_published_yet() {
    beside_a_slow_thread(
        |queue, _| {
            for n in 2..=4 {
                assert_eq!(queue.push(&record(n)), Ok(()));
            }
            assert_eq!(queue.push(&record(5)), Err(Unwritable::Full));
        },
        |queue| assert_eq!(queue.prod(), 4 | FLAG),
    );
}

#[test]
fn eventqen_is_acknowledged_when_accepted_records_are_visible() {
    beside_a_slow_thread(
        |queue, _| {
            queue.disable();
            assert!(queue.is_enabled(), "CR0ACK follows");
            assert!(queue.configure(Gpa(0), 1).is_err());
            assert_eq!(queue.push(&record(2)), Err(Unwritable::Disabled));
        },
        |queue| {
            assert!(!queue.is_enabled());
            assert_eq!(queue.prod(), 1);
        },
    );
}

/// Whether a control call returns while a thread is writing by the old map.
fn returns_early(control: impl FnOnce(&EventQueue) + Send) -> bool {
    let returned = AtomicBool::new(false);
    let mut early = true;
    beside_a_slow_thread(
        |queue, slow| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    control(queue);
                    returned.store(true, Ordering::Release);
                });
                thread::sleep(Duration::from_millis(50));
                early = returned.load(Ordering::Acquire);
                slow.go_on.store(true, Ordering::Release);
            });
        },
        |queue| assert_eq!(queue.prod() & !FLAG, 1, "the record is not lost"),
    );
    early
}

#[test]
fn law9_event_update_memory_waits_for_a_thread_that_writes_by_the_old_map() {
    let new = Arc::new(HeapMemory::new(0x1000));
    assert!(!returns_early(|queue| queue.update_memory(new)));
}

#[test]
fn law10_event_pause_waits_for_a_thread_that_writes_a_record() {
    assert!(!returns_early(EventQueue::pause));
}

#[test]
fn law10_a_paused_queue_touches_no_memory_and_says_what_it_lost() {
    let memory = Arc::new(HeapMemory::new(0x1000));
    let queue = EventQueue::new(3, memory.clone(), Arc::new(NoInterrupts));
    queue.configure(Gpa(0), 2).unwrap();
    queue.enable();
    queue.pause();
    assert_eq!(queue.push(&record(7)), Err(Unwritable::Paused));
    assert_eq!(memory.take_dirty(), []);
    queue.resume();
    assert_eq!(queue.prod(), FLAG);
    assert_eq!(queue.push(&record(8)), Ok(()));
}

/// Two maps in turn, threads that fault all the time, a guest that reads in whatever map a record
/// went to: none is lost, and after each exchange the old map stays as it is.
#[test]
fn law9_faults_go_on_while_maps_are_exchanged() {
    const EACH: u64 = 4_000;
    let maps = [0, 1].map(|_| Arc::new(HeapMemory::new(0x10_0000)));
    let sink = &EventSink::new(
        &Capabilities::default(),
        maps[0].clone(),
        Arc::new(NoInterrupts),
    );
    sink.queue().configure(Gpa(0), 14).unwrap();
    sink.enable();
    let running = &AtomicU64::new(2);
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for n in 1..=EACH {
                    assert_eq!(sink.record(&record(thread << 32 | n)), Ok(()));
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        for turn in 1.. {
            sink.queue().update_memory(maps[turn % 2].clone());
            let old = &maps[(turn + 1) % 2];
            let _before = old.take_dirty();
            thread::sleep(Duration::from_micros(200));
            assert_eq!(old.take_dirty(), [], "written after the exchange");
            if running.load(Ordering::Acquire) == 0 {
                break;
            }
        }
    });
    assert_eq!(u64::from(sink.queue().prod()), 2 * EACH);
    let word = |map: &HeapMemory, slot| load_u64(map, Gpa(slot * 32), Ordering::Relaxed).unwrap();
    let mut ids: Vec<u64> = (0..2 * EACH)
        .map(|slot| word(&maps[0], slot) | word(&maps[1], slot))
        .collect();
    ids.sort_unstable();
    let all = (0..2).flat_map(|thread| (1..=EACH).map(move |n| thread << 32 | n));
    assert!(ids.into_iter().eq(all), "each record in one of the maps");
}
