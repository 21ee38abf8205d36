//! What a guard costs its user, and what idle ones cost a SYNC.

use super::goals::{Goals, ns};
use super::world::{VMID, address};
use crate::rounds::{Contender, medians};
use smmu_core::guard::{Guards, Mark, Use};
use smmu_core::{Asid, StreamId};
use std::hint::black_box;
use std::time::{Duration, Instant};

const TIMES: usize = 10_000;
const IDLE: usize = 64;

fn using(page: u64) -> Use {
    Use {
        stream: StreamId(1),
        vmid: VMID,
        asid: Some(Asid(1)),
        global: false,
        first: address(page),
        last: address(page) | 0xFFF,
    }
}

fn repeat(mut once: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    for turn in 0..TIMES as u64 {
        once(turn);
    }
    start.elapsed()
}

/// The rows.
///
/// # Panics
///
/// If a guard that nobody marked keeps somebody waiting.
pub fn measure(rounds: usize, goals: &mut Goals) {
    let (one, idle) = (Guards::new(64), Guards::new(256));
    let slot = one.lease().expect("a guard");
    for _ in 0..IDLE {
        let slot = idle.lease().expect("a guard");
        idle.open(&slot, &using(0));
        assert!(!idle.close(&slot), "nobody waits");
    }
    // As all of them were used: the most that there is to look at.
    let (mark, whom) = (Mark::of(1), using(0).interest());
    let mut contenders = [
        Contender::new("guard", || {
            repeat(|turn| {
                one.open(&slot, black_box(&using(turn)));
                assert!(!one.close(&slot), "nobody waits");
            })
        }),
        Contender::new("idle", || {
            repeat(|_| {
                idle.mark(mark, whom, |used| used.in_context(VMID, Asid(1), false));
                assert!(idle.quiesced(mark), "nothing is open");
            })
        }),
    ];
    let times = medians(&mut contenders, rounds, TIMES);
    let none = String::new;
    goals.row(
        "open and close a scoped guard",
        ns(times[0]),
        none(),
        "12 ns",
        Some(times[0] <= 12.0),
    );
    goals.row(
        "quiesce over 64 idle guards",
        ns(times[1]),
        none(),
        "0.1 µs",
        Some(times[1] <= 100.0),
    );
}
