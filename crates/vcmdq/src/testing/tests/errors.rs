//! Errors of the queue, and giving up.

use super::super::{QueueError, Recovered};
use super::consumer::ILLEGAL;
use super::*;
use smmu_core::spec::command::opcode;
use smmu_core::spec::register::cerror;

#[test]
fn an_illegal_command_becomes_a_sync_and_the_rest_goes_on() {
    let (queue, consumer) = inline(settings(4));
    let illegal = RawCommand {
        dw0: u64::from(ILLEGAL),
        dw1: 0,
    };
    queue
        .submit(&[numbered(1), illegal, numbered(2)])
        .expect("recovered");
    let log = consumer.take_log();
    let event = RawCommand {
        dw0: 0x2046,
        dw1: 0,
    };
    assert_eq!(log[..3], [numbered(1), event, numbered(2)]);
    assert_eq!(log[3].opcode(), opcode::SYNC);
}

#[test]
fn a_failed_fetch_and_a_failed_atc_inv_are_tried_again() {
    for err in [cerror::ABT, cerror::ATC_INV_SYNC] {
        let (queue, consumer) = inline(settings(4));
        consumer.fail_next(&[err]);
        let pending = queue.insert_and_sync(&[numbered(1)]).expect("space");
        assert!(!pending.is_done().expect("backed"));
        assert_eq!(queue.serve_error(), Ok(Some(Recovered::Retried { err })));
        assert_eq!(queue.serve_error(), Ok(None));
        pending.wait().expect("done");
        assert_eq!(consumer.take_log()[0], numbered(1));
    }
}

#[test]
fn an_error_that_comes_again_and_again_ends_in_a_time_out() {
    let (queue, consumer) = inline(QueueSettings {
        patience: Duration::from_millis(30),
        ..settings(4)
    });
    consumer.fail_next(&[cerror::ABT; 1 << 20]);
    let error = queue.submit(&[numbered(1)]);
    assert!(
        matches!(error, Err(QueueError::SyncTimedOut { slot: 1, .. })),
        "{error:?}"
    );
}

/// A producer gives up, its SYNC completes late, and its slot is filled again in the next lap.
#[test]
fn a_slot_that_was_given_up_is_filled_again() {
    for completion in [Completion::Word, Completion::Cons] {
        let (queue, consumer) = inline(QueueSettings {
            patience: Duration::from_millis(20),
            ..with(completion, 2)
        });
        consumer.hold_syncs(true);
        let error = queue.submit(&[numbered(1)]);
        assert!(
            matches!(error, Err(QueueError::SyncTimedOut { slot: 1, .. })),
            "{error:?}"
        );
        queue
            .insert(&[numbered(2), numbered(3), numbered(4)])
            .expect("only the SYNC is not consumed");
        let error = queue.insert(&[numbered(5)]);
        assert!(
            matches!(error, Err(QueueError::Full { wanted: 1, .. })),
            "{error:?}"
        );
        consumer.hold_syncs(false);
        for n in 6..20 {
            queue.submit(&[numbered(n)]).expect("consumed");
        }
        let log = consumer.take_log();
        let numbers = log
            .iter()
            .filter(|c| c.opcode() != opcode::SYNC)
            .map(|c| c.dw1);
        assert!(numbers.eq([1, 2, 3, 4].into_iter().chain(6..20)));
    }
}

#[test]
fn what_is_longer_than_the_queue_is_refused() {
    let (queue, _consumer) = inline(settings(1));
    let three = [numbered(1), numbered(2), numbered(3)];
    assert_eq!(
        queue.insert(&three),
        Err(QueueError::TooLong {
            wanted: 3,
            entries: 2
        })
    );
    let error = queue.insert_and_sync(&three[..2]).map(drop);
    assert_eq!(
        error,
        Err(QueueError::TooLong {
            wanted: 3,
            entries: 2
        })
    );
}

#[test]
fn a_queue_outside_of_memory_is_refused() {
    let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 4096)]));
    let consumer = Arc::new(super::consumer::Consumer::new(
        memory.clone(),
        settings(9),
        true,
    ));
    let error = GuestQueue::new(settings(9), memory, consumer).map(drop);
    assert!(matches!(error, Err(QueueError::Memory(_))), "{error:?}");
}
