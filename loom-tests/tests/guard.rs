//! Guards against SYNC (law 3): a SYNC completes only when nobody uses what was removed.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::{model, twin};
use smmu_core::guard::{Guards, Interest, Mark, Use};
use smmu_core::{Asid, StreamId, Vmid};
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

struct Shared {
    guards: Guards,
    /// What a lookup finds: true until the worker removes it.
    cached: AtomicBool,
    /// How many times the device has used it. Relaxed: a SYNC must make it visible.
    used: AtomicU64,
    /// Set when the worker is woken. Only read-modify-writes, as loom wants it.
    woken: AtomicBool,
    synced: AtomicBool,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        guards: Guards::new(1),
        cached: AtomicBool::new(true),
        used: AtomicU64::new(0),
        woken: AtomicBool::new(false),
        synced: AtomicBool::new(false),
    })
}

fn anything() -> Use {
    Use::anything(StreamId(1), Vmid(0))
}

/// A device opens its guard, looks up, uses what it finds, and closes, `times` over.
fn device(shared: &Shared, times: u32) {
    let slot = shared.guards.lease().expect("a slot");
    for _ in 0..times {
        shared.guards.open(&slot, &anything());
        if shared.cached.load(Ordering::Relaxed) {
            assert!(
                !shared.synced.load(Ordering::Relaxed),
                "used after its SYNC"
            );
            let used = shared.used.load(Ordering::Relaxed);
            shared.used.store(used + 1, Ordering::Relaxed);
        }
        if shared.guards.close(&slot) {
            shared.guards.wake(|_| {
                shared.woken.swap(true, Ordering::AcqRel);
            });
        }
    }
    shared.guards.give_back(slot);
}

/// Marks, waits as a ring does (asking again only when woken), and says that it is done.
fn sync(shared: &Shared, mark: impl FnOnce(Mark)) -> u64 {
    mark(Mark::of(3));
    while !shared.guards.quiesced(Mark::of(3)) {
        while !shared.woken.swap(false, Ordering::AcqRel) {
            thread::yield_now();
        }
    }
    shared.synced.store(true, Ordering::Relaxed);
    shared.used.load(Ordering::Relaxed)
}

fn invalidate_and_sync(shared: &Shared) -> u64 {
    shared.cached.store(false, Ordering::Relaxed);
    sync(shared, |mark| {
        shared.guards.mark(mark, Interest::EVERYTHING, |_| true);
    })
}

fn a_device_and_a_sync(times: u32) {
    let shared = shared();
    let other = {
        let shared = shared.clone();
        thread::spawn(move || device(&shared, times))
    };
    let seen = invalidate_and_sync(&shared);
    other.join().expect("device");
    let all = shared.used.load(Ordering::Relaxed);
    assert_eq!(
        seen, all,
        "a use of what was removed came to light after the SYNC"
    );
}

const A: Asid = Asid(1);
const B: Asid = Asid(2);

fn of(asid: Asid) -> Use {
    Use {
        asid: Some(asid),
        global: false,
        ..anything()
    }
}

/// A device uses what is removed, then turns to another ASID: what its guard says at last does not
/// concern the SYNC, what it said first does.
fn a_device_that_turns_to_another_asid() {
    let shared = shared();
    let other = {
        let shared = shared.clone();
        thread::spawn(move || {
            let slot = shared.guards.lease().expect("a slot");
            for asid in [A, B] {
                shared.guards.open(&slot, &of(asid));
                if asid == A && shared.cached.load(Ordering::Relaxed) {
                    assert!(
                        !shared.synced.load(Ordering::Relaxed),
                        "used after its SYNC"
                    );
                    shared.used.store(1, Ordering::Relaxed);
                }
                if shared.guards.close(&slot) {
                    shared.guards.wake(|_| {
                        shared.woken.swap(true, Ordering::AcqRel);
                    });
                }
            }
            shared.guards.give_back(slot);
        })
    };
    shared.cached.store(false, Ordering::Relaxed);
    let whom = Interest::of(Vmid(0), A);
    let seen = sync(&shared, |mark| {
        let match_a = |used: &Use| used.in_context(Vmid(0), A, false);
        shared.guards.mark(mark, whom, match_a);
    });
    other.join().expect("device");
    let all = shared.used.load(Ordering::Relaxed);
    assert_eq!(
        seen, all,
        "a use of what was removed came to light after the SYNC"
    );
}

/// A device forgets to close its guard and opens the slot again. A SYNC that waits for the first
/// opening is woken by the end of the second.
fn a_guard_that_was_leaked() {
    let shared = shared();
    let other = {
        let shared = shared.clone();
        thread::spawn(move || {
            let slot = shared.guards.lease().expect("a slot");
            shared.guards.open(&slot, &anything());
            shared.guards.open(&slot, &anything());
            if shared.guards.close(&slot) {
                shared.guards.wake(|_| {
                    shared.woken.swap(true, Ordering::AcqRel);
                });
            }
            shared.guards.give_back(slot);
        })
    };
    invalidate_and_sync(&shared);
    other.join().expect("device");
}

#[test]
fn law3_guard_leaked_and_opened_again_wakes() {
    model("guard, leaked", 3, a_guard_that_was_leaked);
}

#[test]
fn guard_leaked_and_opened_by_a_store_is_found_out() {
    twin(
        "guard, leaked",
        Site::GuardLeaked,
        3,
        a_guard_that_was_leaked,
    );
}

#[test]
fn law3_guard_turned_to_another_asid() {
    model("guard, turned", 3, a_device_that_turns_to_another_asid);
}

#[test]
fn guard_without_the_fence_of_its_reopening_is_found_out() {
    twin(
        "guard, turned",
        Site::GuardReopen,
        3,
        a_device_that_turns_to_another_asid,
    );
}

#[test]
fn law3_guard_against_sync() {
    model("guard", 3, || a_device_and_a_sync(1));
}

#[test]
fn law3_guard_opened_again_against_sync() {
    model("guard, twice", 2, || a_device_and_a_sync(2));
}

#[test]
fn guard_without_its_fence_is_found_out() {
    twin("guard", Site::GuardFence, 3, || a_device_and_a_sync(1));
}

#[test]
fn guard_without_the_release_of_its_closing_is_found_out() {
    twin("guard", Site::GuardClose, 3, || a_device_and_a_sync(1));
}

#[test]
fn guard_that_nobody_asked_to_wake_is_found_out() {
    twin("guard", Site::GuardWaited, 3, || a_device_and_a_sync(1));
}
