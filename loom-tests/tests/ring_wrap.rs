//! Publication of entries and of CONS, round the end of the ring.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Rig, model, raw_tlbi, twin};
use vcmdq::stepping::Stepper;
use vcmdq_sync::weak::Site;

const COMMANDS: u32 = 3;

/// A ring of two entries and three commands: the third goes into the first one's slot, once CONS
/// has passed it. What CONS has passed has taken effect, and each command exactly as written.
fn three_commands_in_two_slots() {
    let (rig, removed) = Rig::new(1);
    let worker = {
        let rig = rig.clone();
        thread::spawn(move || {
            let mut stepper = Stepper::default();
            while rig.ring.cons() != COMMANDS {
                if rig.engine.take_ready().is_some() {
                    stepper.serve(&rig.ring);
                } else {
                    thread::yield_now();
                }
            }
        })
    };
    for n in 0..COMMANDS {
        while n >= 2 && rig.ring.cons() + 2 <= n {
            thread::yield_now();
        }
        rig.write(u64::from(n % 2), raw_tlbi(u64::from(n) + 1));
        rig.ring.doorbell(n + 1);
        let done = rig.ring.cons();
        let all = (1u64 << (done + 1)) - 2;
        assert_eq!(
            removed.get() & all,
            all,
            "CONS {done} is ahead of what was removed"
        );
    }
    worker.join().expect("worker");
    assert_eq!(
        removed.get(),
        0b1110,
        "each command as it was written, none else"
    );
    assert_eq!(rig.ring.gerror(), 0);
}

#[test]
fn law6_ring_wraps() {
    model("ring wrap", 2, three_commands_in_two_slots);
}

#[test]
fn ring_without_the_release_of_prod_is_found_out() {
    twin(
        "ring wrap",
        Site::ProdPublish,
        2,
        three_commands_in_two_slots,
    );
}

#[test]
fn ring_without_the_release_of_cons_is_found_out() {
    twin(
        "ring wrap",
        Site::ConsPublish,
        2,
        three_commands_in_two_slots,
    );
}
