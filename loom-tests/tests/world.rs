//! What translations start from, exchanged without waiting (law 3): SMMUEN is acknowledged only when
//! no access goes on by what was there before.
#![cfg(loom)]

use dispatch::{Backend, Traffic};
use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, read};
use loom_tests::{model, twin};
use smmu_core::Capabilities;
use smmu_core::spec::register::Gbpa;
use vcmdq_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

const AT: u64 = 0x1000;

/// A device uses its bypassed stream. A vCPU makes everything abort and waits for the
/// acknowledgement: nobody uses the bypass after it, and what was done by it is seen.
fn traffic_is_stopped() {
    let small = Arc::new(SmallSmmu::new());
    let mut port = small.port();
    // Kept from here on, so that nothing but its version says that it is out of date.
    let first = port.translate(None, read(AT), 8, |_| ()).map(drop);
    assert_eq!(first, Ok(()));
    let acknowledged = Arc::new(AtomicBool::new(false));
    // Relaxed: the acknowledgement must make it visible.
    let used = Arc::new(AtomicU64::new(0));
    let device = {
        let (acknowledged, used) = (acknowledged.clone(), used.clone());
        thread::spawn(move || {
            if let Ok(_guard) = port.translate(None, read(AT), 8, |_| ()) {
                let late = acknowledged.load(Ordering::Relaxed);
                assert!(!late, "an access goes by what was acknowledged as gone");
                used.store(1, Ordering::Relaxed);
            }
        })
    };
    let abort = Traffic::Disabled(Gbpa::new().with_abort(true), Capabilities::default());
    small.core.traffic_changed(&abort);
    while !small.core.traffic_settled() {
        thread::yield_now();
    }
    acknowledged.store(true, Ordering::Relaxed);
    let seen = used.load(Ordering::Relaxed);
    device.join().expect("device");
    let used = used.load(Ordering::Relaxed);
    assert_eq!(seen, used, "what was done before is not seen");
}

#[test]
fn law3_exchange_is_acknowledged_when_nobody_uses_the_old() {
    model("exchange of traffic", 3, traffic_is_stopped);
}

#[test]
fn exchange_without_the_guards_fence_is_found_out() {
    twin(
        "exchange of traffic",
        Site::GuardFence,
        3,
        traffic_is_stopped,
    );
}

#[test]
fn exchange_that_looks_at_no_guard_is_found_out() {
    twin(
        "exchange of traffic",
        Site::WorldGuards,
        3,
        traffic_is_stopped,
    );
}

#[test]
fn exchange_with_a_relaxed_close_is_found_out() {
    twin(
        "exchange of traffic",
        Site::GuardClose,
        3,
        traffic_is_stopped,
    );
}
