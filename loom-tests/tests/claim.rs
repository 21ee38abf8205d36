//! Ownership of a ring moves between threads, and a reason to look at it is not lost.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::{model, twin};
use vcmdq_sync::atomic::{AtomicU32, Ordering};
use vcmdq_sync::claim::ClaimCell;
use vcmdq_sync::weak::Site;

struct Shared {
    reasons: AtomicU32,
    seen: ClaimCell<u32>,
}

/// What a worker does with a ring that was announced: owns it and looks until nobody has come
/// meanwhile, or leaves it to the owner.
fn look(shared: &Shared) {
    shared.reasons.fetch_add(1, Ordering::Relaxed);
    let Some(mut claim) = shared.seen.enter() else {
        return;
    };
    loop {
        claim.with(|seen| *seen = shared.reasons.load(Ordering::Relaxed));
        match claim.leave() {
            Ok(()) => return,
            Err(again) => claim = again,
        }
    }
}

fn two_threads_with_a_reason_each() {
    let shared = Arc::new(Shared {
        reasons: AtomicU32::new(0),
        seen: ClaimCell::new(0),
    });
    let other = {
        let shared = shared.clone();
        thread::spawn(move || look(&shared))
    };
    look(&shared);
    other.join().expect("other");
    let seen = shared.seen.enter().expect("free").with(|seen| *seen);
    assert_eq!(seen, 2, "the last owner has seen every reason");
}

#[test]
fn law5_claim_hands_over() {
    model("claim", 3, two_threads_with_a_reason_each);
}

#[test]
fn claim_without_its_release_is_found_out() {
    twin("claim", Site::ClaimLeave, 3, two_threads_with_a_reason_each);
}

#[test]
fn claim_without_another_round_is_found_out() {
    twin("claim", Site::ClaimAgain, 3, two_threads_with_a_reason_each);
}
