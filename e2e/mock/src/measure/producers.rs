//! Producers that send a page and a SYNC again and again, and wait for each: how many calls that makes.

use crate::report::note;
use crate::rig::{Rig, Work, page};
use anyhow::{Context, Result, ensure};
use std::thread;

/// Producers at a time.
const PRODUCERS: [u64; 4] = [1, 2, 4, 8];
/// SYNCs of each.
const ROUNDS: u64 = 400;
/// Calls for a SYNC that are good enough, however many producers there are.
const ENOUGH: f64 = 0.2;

pub(super) fn run() -> Result<()> {
    note("producers (threads)  calls/SYNC  goal");
    for producers in PRODUCERS {
        let rig = Rig::new(&[7], Work::Threads)?;
        thread::scope(|scope| {
            let queue = &rig.queue;
            let produce = move |first: u64| {
                (0..ROUNDS).try_for_each(|round| queue.submit(&[page(first + round, 0)]))
            };
            let threads = (0..producers).map(|of| scope.spawn(move || produce(of * ROUNDS)));
            let threads: Vec<_> = threads.collect();
            for thread in threads {
                let produced = thread.join().ok().context("a producer has panicked")?;
                produced?;
            }
            anyhow::Ok(())
        })?;
        rig.no_error()?;
        let (calls, _) = rig.kernel.made();
        let syncs = rig.metrics().syncs;
        ensure!(syncs == producers * ROUNDS, "{syncs} SYNCs");
        let share = calls as f64 / syncs as f64;
        let goal = (1.0 / producers as f64).max(ENOUGH);
        note(&format!("{producers:>19} {share:>11.3} {goal:>5.2}"));
    }
    Ok(())
}
