//! What is ready: marks of rings against two workers that take (laws 5 and 8).
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::{model, twin};
use vcmdq::stepping::Ready;
use vcmdq_sync::weak::Site;

fn take_all(ready: &Ready) -> Vec<u32> {
    std::iter::from_fn(|| ready.take(0)).collect()
}

/// Two rings are marked while two workers take what they find. What they leave, because they looked
/// too early, is found at the end; nothing is lost and nothing taken twice.
fn two_marks_against_two_takers(slots: [u32; 2]) {
    let ready = Arc::new(Ready::new(2));
    let marker = {
        let ready = ready.clone();
        thread::spawn(move || slots.iter().for_each(|slot| ready.mark(*slot)))
    };
    let taker = {
        let ready = ready.clone();
        thread::spawn(move || take_all(&ready))
    };
    let mut taken = take_all(&ready);
    marker.join().expect("marker");
    taken.extend(taker.join().expect("taker"));
    taken.extend(take_all(&ready));
    taken.sort_unstable();
    assert_eq!(taken, slots, "a mark was lost");
}

#[test]
fn law5_ready_set_loses_no_mark_of_a_share() {
    model("ready set, one share", 2, || {
        two_marks_against_two_takers([0, 1]);
    });
}

#[test]
fn law5_ready_set_loses_no_mark_of_two_shares() {
    model("ready set, two shares", 2, || {
        two_marks_against_two_takers([0, 64]);
    });
}

#[test]
fn ready_set_that_forgets_what_is_left_is_found_out() {
    twin("ready set", Site::ReadyLeft, 2, || {
        two_marks_against_two_takers([0, 1]);
    });
}
