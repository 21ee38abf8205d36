//! What calls cost, learnt from those that were made: so that the engine's budgets and its decision whether
//! rings share a call go by this host and not by a guess.
//!
//! A call of `n` entries is taken to last `fixed + n * each`. Both are corrected by every measured call
//! in proportion to how much of it they make up (normalised least mean squares). Workers write at the same
//! time; a correction that is lost is made up for by the next.

use dispatch::Costs;
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Before anything has been measured: a system call, and a command of a hardware queue.
const FIXED_NS: f32 = 3_000.0;
const EACH_NS: f32 = 50.0;
/// How much of its error a call corrects.
const RATE: f32 = 0.125;
/// What a call of so many entries says of each of them counts as much as what it says of the call.
const SCALE: f32 = 64.0;
/// A call that was preempted, or hung, is no measure of anything.
const LONGEST_NS: f32 = 1e6;

/// The estimate: two `f32` in a word, nanoseconds of a call and of [`SCALE`] entries.
#[derive(Debug)]
pub(crate) struct Learnt(AtomicU64);

impl Default for Learnt {
    fn default() -> Self {
        Self(AtomicU64::new(pack(FIXED_NS, EACH_NS * SCALE)))
    }
}

fn pack(fixed: f32, scaled: f32) -> u64 {
    u64::from(fixed.to_bits()) << 32 | u64::from(scaled.to_bits())
}

fn unpack(word: u64) -> (f32, f32) {
    (
        f32::from_bits((word >> 32) as u32),
        f32::from_bits(word as u32),
    )
}

impl Learnt {
    /// A call of `entries`, all of which were executed, has lasted `ns`.
    pub(crate) fn learn(&self, entries: usize, ns: u64) {
        let ns = ns as f32;
        if entries == 0 || ns > LONGEST_NS {
            return;
        }
        // Relaxed: the word is complete in itself.
        let (fixed, scaled) = unpack(self.0.load(Ordering::Relaxed));
        let part = entries as f32 / SCALE;
        let error = ns - (fixed + scaled * part);
        let step = RATE * error / (1.0 + part * part);
        let fixed = (fixed + step).max(0.0);
        let scaled = (scaled + step * part).max(0.0);
        self.0.store(pack(fixed, scaled), Ordering::Relaxed);
    }

    pub(crate) fn costs(&self) -> Costs {
        let (fixed, scaled) = unpack(self.0.load(Ordering::Relaxed));
        let each = (scaled / SCALE) as u32;
        Costs {
            call: fixed as u32,
            request: each,
            most: u32::MAX,
            device: each,
            ..Costs::NOTHING
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt_of(fixed: u64, each: u64, sizes: &[usize]) -> Costs {
        let learnt = Learnt::default();
        for round in 0..400 {
            let entries = sizes[round % sizes.len()];
            learnt.learn(entries, fixed + each * entries as u64);
        }
        learnt.costs()
    }

    fn near(is: u32, should: u64) -> bool {
        (u64::from(is)).abs_diff(should) <= should / 8 + 20
    }

    #[test]
    fn a_fast_host_and_a_slow_one_are_told_apart() {
        for (fixed, each) in [(700, 15), (20_000, 400)] {
            let costs = learnt_of(fixed, each, &[1, 2, 64, 200]);
            assert!(
                near(costs.call, fixed) && near(costs.request, each),
                "{costs:?}"
            );
            assert_eq!(costs.device, costs.request);
        }
    }

    /// Nothing is known of each entry then, and the sum is still right.
    #[test]
    fn calls_of_one_size_are_foretold() {
        let costs = learnt_of(5_000, 0, &[1]);
        assert!(near(costs.call + costs.request, 5_000), "{costs:?}");
    }

    #[test]
    fn a_call_that_hung_teaches_nothing() {
        let learnt = Learnt::default();
        let before = learnt.costs();
        learnt.learn(3, 1_000_000_000);
        assert_eq!(learnt.costs(), before);
    }
}
