//! The whole way, from a full ring in guest memory to the software backend, beside the baseline
//! and beside a backend that does nothing; and the goals of the project, in one run.
//!
//! Before each lap the ring is filled and the entries that its commands remove are put into the
//! translation cache; neither is timed.

use criterion::{Criterion, Throughput};
use vcmdq_benches::drains::{Who, contenders, laps};
use vcmdq_benches::rig::LOG2SIZE;
use vcmdq_benches::rounds::medians;
use vcmdq_benches::{is_quick, streams, table};

const WHO: [Who; 3] = [Who::Engine, Who::EngineBare, Who::Baseline];

fn stage(c: &mut Criterion) {
    for stream in streams::with_goals(1 << LOG2SIZE) {
        let mut group = c.benchmark_group(format!("replay/{}", stream.name));
        group.throughput(Throughput::Elements(stream.commands.len() as u64));
        let laps = laps(&stream);
        for contender in &mut contenders(&laps, &WHO, None) {
            group.bench_function(contender.name, |b| {
                b.iter_custom(|rounds| (0..rounds).map(|_| (contender.round)()).sum());
            });
        }
        group.finish();
    }
}

fn goals() {
    let rounds = if is_quick() { 3 } else { 301 };
    let mut rows = Vec::new();
    for stream in streams::with_goals(1 << LOG2SIZE) {
        let laps = laps(&stream);
        let units = stream.commands.len();
        let ns = medians(&mut contenders(&laps, &WHO, None), rounds, units);
        let ratio = ns[2] / ns[0];
        let at_least = stream.goal_ratio.unwrap_or(1.0);
        let Some(goal) = stream.goal_ns else { continue };
        let met = ns[0] <= goal && ratio >= at_least;
        let shown = |ns: f64| format!("{ns:.2}");
        rows.push(vec![
            stream.name.to_owned(),
            shown(ns[0]),
            shown(goal),
            shown(ns[2]),
            format!("{ratio:.1}x"),
            format!("{at_least:.0}x"),
            table::yes_no(met),
        ]);
        rows.push(vec![
            "  without backend".to_owned(),
            shown(ns[1]),
            shown(goal / 2.0),
            String::new(),
            String::new(),
            String::new(),
            table::yes_no(ns[1] <= goal / 2.0),
        ]);
    }
    let header = [
        "stream",
        "ns/command",
        "goal",
        "baseline",
        "ratio",
        "goal",
        "met",
    ];
    let title = format!("Full rings, medians of {rounds} interleaved rounds");
    table::print(&title, &header, &rows);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion);
    criterion.final_summary();
    goals();
}
