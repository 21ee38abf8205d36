//! Lookups of random numbers, in two ways.

use std::hint::black_box;
use std::time::{Duration, Instant};

fn run<const DEPENDENT: bool>(
    count: usize,
    below: u64,
    mut lookup: impl FnMut(u64) -> u64,
) -> Duration {
    let mut state = black_box(0x2545_F491_4F6C_DD1D_u64);
    let mut found = 0;
    let start = Instant::now();
    for _ in 0..count {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let number = ((state >> 32) * below) >> 32;
        if DEPENDENT {
            state ^= lookup(number) >> 63;
        } else {
            found ^= lookup(number);
        }
    }
    black_box((state, found));
    start.elapsed()
}

/// Looks `count` numbers below `below` up, each of which needs what the one before has found: how
/// long one takes. `lookup` returns an output address: its top bit is zero, which only the lookup
/// knows.
pub fn dependent(count: usize, below: u64, lookup: impl FnMut(u64) -> u64) -> Duration {
    run::<true>(count, below, lookup)
}

/// The same without the need: the processor does as many at once as it can, as in a
/// scatter-gather list.
pub fn independent(count: usize, below: u64, lookup: impl FnMut(u64) -> u64) -> Duration {
    run::<false>(count, below, lookup)
}
