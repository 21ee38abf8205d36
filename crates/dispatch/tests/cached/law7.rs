//! Random runs.

use crate::rig::{Rig, Seen};
use crate::world::Dice;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many steps a run has: enough to fill the lists, not enough to make them long.
const STEPS: u64 = 1000;
/// How many runs without [`COUNT`]. Fewer do not reach everything, and nothing is demanded of them.
const RUNS: u64 = 100;
/// Environment variable: how many random steps in all.
const COUNT: &str = "VCMDQ_SOAK_CASES";

fn runs() -> u64 {
    let cases = std::env::var(COUNT).map(|cases| cases.parse::<u64>().expect(COUNT));
    cases.map_or(RUNS, |cases| cases.div_ceil(STEPS))
}

fn run(seed: u64, seen: &mut Seen) {
    let mut dice = Dice::new(seed);
    let mut rig = Rig::new(&mut dice);
    for _ in 0..STEPS {
        rig.step(&mut dice, seen);
    }
}

/// Each access ends as the present tables say, or as something says that was true since the
/// last command that had to remove it.
#[test]
fn law7_cached_core_agrees_with_a_naive_smmu() {
    let (runs, mut seen) = (runs(), Seen::default());
    for seed in 0..runs {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, &mut seen)));
        if let Err(panic) = result {
            let cases = (seed + 1) * STEPS;
            println!("seed {seed}, the last of {COUNT}={cases}");
            resume_unwind(panic);
        }
        if (seed + 1) % (runs / 10).max(1) == 0 {
            println!("{} of {} steps", (seed + 1) * STEPS, runs * STEPS);
        }
    }
    println!("{:#?}", seen.0);
    if runs >= RUNS {
        demand_variety(&seen, runs);
    } else {
        let enough = RUNS * STEPS;
        println!("whether every outcome was reached is not asked below {enough} steps");
    }
}

/// The runs mean something only if they reach every outcome, and use what is outdated.
fn demand_variety(seen: &Seen, runs: u64) {
    let fresh = ["abort", "through", "exchange", "outdated while under way"];
    let kept = [
        "kept: abort",
        "kept: through",
        "from a known table: through",
        "from a known table: event 0x10",
    ];
    let events = [0x02, 0x04, 0x06, 0x08, 0x0a, 0x10, 0x12, 0x13];
    let fresh_events = events.map(|id| format!("event {id:#04x}"));
    let kept_events = [0x04, 0x08, 0x0a, 0x10, 0x13].map(|id| format!("kept: event {id:#04x}"));
    let second = [(0x10, 0), (0x10, 1), (0x10, 2), (0x13, 1), (0x13, 2)]
        .map(|(id, class)| format!("event {id:#04x} of stage 2, CLASS={class}"));
    let second_kept = [(0x10, 2), (0x13, 1), (0x13, 2)]
        .map(|(id, class)| format!("kept: event {id:#04x} of stage 2, CLASS={class}"));
    let expected = fresh.iter().chain(&kept).map(|&name| name.to_owned());
    let expected = expected.chain(fresh_events).chain(kept_events);
    for kind in expected.chain(second).chain(second_kept) {
        let count = seen.0.get(&kind).copied().unwrap_or(0);
        assert!(
            count * 20 >= runs,
            "{kind}: seen {count} times in {runs} runs, which is too seldom to mean something"
        );
    }
}
