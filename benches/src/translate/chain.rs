//! Lookups each of which needs the one before, so that a processor cannot do several at once and
//! what is measured is how long one takes.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Looks `count` random numbers below `below` up. `lookup` returns an output address: its top bit
/// is zero, which only the lookup knows.
pub fn run(count: usize, below: u64, mut lookup: impl FnMut(u64) -> u64) -> Duration {
    let mut state = black_box(0x2545_F491_4F6C_DD1D_u64);
    let start = Instant::now();
    for _ in 0..count {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let number = ((state >> 32) * below) >> 32;
        state ^= lookup(number) >> 63;
    }
    black_box(state);
    start.elapsed()
}
