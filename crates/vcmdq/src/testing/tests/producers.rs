//! Pieces, laps and threads.

use super::consumer::Consumer;
use super::*;
use smmu_core::queue_index::MAX_LOG2SIZE;
use smmu_core::spec::command::opcode;
use vcmdq_sync::atomic::{AtomicBool, Ordering};

/// The lengths of the pieces as the consumer saw them, each ended by a SYNC.
fn synced_lengths(log: &[RawCommand]) -> Vec<usize> {
    let pieces = log.split_inclusive(|command| command.opcode() == opcode::SYNC);
    pieces.map(<[_]>::len).collect()
}

#[test]
fn only_the_last_piece_has_a_sync_and_takes_up_to_65_slots() {
    for count in [0usize, 1, 63, 64, 65, 128, 130] {
        let (queue, consumer) = inline(settings(8));
        let commands: Vec<_> = (0..count as u64).map(numbered).collect();
        queue.submit(&commands).expect("consumed");
        let log = consumer.take_log();
        assert_eq!(synced_lengths(&log), [count + 1]);
        assert_eq!(log[..count], commands);
        let pieces = count.saturating_sub(1) / 64 + 1;
        assert_eq!(queue.prod_writes(), pieces as u64);
    }
}

#[test]
fn a_sync_names_its_own_slot_or_nothing() {
    let (queue, consumer) = inline(settings(4));
    queue.submit(&[numbered(1)]).expect("consumed");
    assert_eq!(consumer.take_log()[1].dw1, BASE.0 + 16);
    let (queue, consumer) = inline(with(Completion::Cons, 4));
    queue.submit(&[numbered(1)]).expect("consumed");
    assert_eq!(
        consumer.take_log()[1],
        RawCommand {
            dw0: 0x2046,
            dw1: 0
        }
    );
}

/// From any place in any lap, in queues of every small size, everything arrives once, in order.
#[test]
fn laps_of_every_small_queue() {
    for log2size in 0..=7u8 {
        for start in [
            0,
            1,
            (1 << log2size) - 1,
            1 << log2size,
            (2 << log2size) - 1,
        ] {
            for completion in [Completion::Word, Completion::Cons] {
                let (queue, consumer) = inline(QueueSettings {
                    start,
                    ..with(completion, log2size)
                });
                let mut next = 0;
                for count in [1, 3, 64, 2, 130, 1, 1, 1, 1, 5] {
                    let commands: Vec<_> = (next..next + count).map(numbered).collect();
                    queue.submit(&commands).expect("consumed");
                    let mut log = consumer.take_log();
                    assert_eq!(log.pop().map(RawCommand::opcode), Some(opcode::SYNC));
                    assert_eq!(log, commands, "log2size {log2size}, start {start}");
                    next += count;
                }
            }
        }
    }
}

#[test]
fn the_largest_queue_is_accepted() {
    let (queue, _consumer) = inline(settings(MAX_LOG2SIZE));
    assert_eq!(queue.entries(), 1 << 19);
    queue.submit(&[numbered(1)]).expect("consumed");
}

const THREADS: u64 = 4;
const ROUNDS: u64 = 300;

/// What each of several producers submits in its rounds.
fn round(thread: u64, round: u64) -> Vec<RawCommand> {
    let count = [1, 1, 7, 66][(round % 4) as usize];
    (0..count)
        .map(|n| numbered(thread << 32 | round << 8 | n))
        .collect()
}

fn several_producers(settings: QueueSettings) {
    let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 16 << settings.log2size)]));
    let consumer = Arc::new(Consumer::new(memory.clone(), settings, false));
    let queue = GuestQueue::new(settings, memory, consumer.clone()).expect("backed");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                consumer.run();
                std::thread::yield_now();
            }
        });
        let produce = |thread| {
            let queue = &queue;
            move || (0..ROUNDS).for_each(|n| queue.submit(&round(thread, n)).expect("consumed"))
        };
        let producers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(produce(thread)))
            .collect();
        let ended = producers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join);
        let failed = ended.filter(Result::is_err).count();
        stop.store(true, Ordering::Relaxed);
        worker.join().expect("consumer");
        assert_eq!(failed, 0);
    });
    let log = consumer.take_log();
    for thread in 0..THREADS {
        let own = log
            .iter()
            .filter(|c| c.opcode() != opcode::SYNC && c.dw1 >> 32 == thread);
        let expected = (0..ROUNDS).flat_map(|n| round(thread, n));
        assert!(own.copied().eq(expected), "thread {thread}");
    }
    let syncs = log.iter().filter(|c| c.opcode() == opcode::SYNC).count() as u64;
    assert_eq!(syncs, THREADS * ROUNDS);
    // One piece for each submission, and more where it has 66 commands.
    let most = u64::from(queue.entries()).min(64);
    let pieces = THREADS * (ROUNDS + ROUNDS / 4 * (66 / most));
    assert!(queue.prod_writes() <= pieces, "{queue:?}");
}

#[test]
fn several_producers_wait_for_words() {
    several_producers(settings(8));
}

#[test]
fn several_producers_wait_for_cons() {
    several_producers(with(Completion::Cons, 8));
}

/// The queue is always full: slots are taken as CONS frees them.
#[test]
fn several_producers_share_a_queue_that_is_too_small() {
    several_producers(with(Completion::Word, 5));
    several_producers(with(Completion::Cons, 5));
}
