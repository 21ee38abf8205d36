//! The whole way, from a full ring in guest memory to the software backend, beside the baseline
//! and beside a backend that does nothing; and the goals of the project, in one run.
//!
//! Before each lap the ring is filled and the entries that its commands remove are put into the
//! translation cache; neither is timed.

use criterion::{Criterion, Throughput};
use dispatch::backend::Software;
use smmu_core::guest_memory::GuestMemory;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::Entry;
use std::sync::Arc;
use std::time::Duration;
use vcmdq_benches::baseline::Baseline;
use vcmdq_benches::rig::{LOG2SIZE, Rig, guest_memory};
use vcmdq_benches::rounds::{Contender, medians};
use vcmdq_benches::streams::{self, Stream};
use vcmdq_benches::{is_quick, plants, table};

/// What fits into the ring at once, and what it removes.
struct Lap<'a> {
    commands: &'a [RawCommand],
    entries: Vec<Entry>,
}

fn laps(stream: &Stream) -> Vec<Lap<'_>> {
    let pieces = stream.commands.chunks(1 << LOG2SIZE);
    let lap = |commands| Lap {
        commands,
        entries: plants::of(commands),
    };
    pieces.map(lap).collect()
}

fn all(laps: &[Lap<'_>], mut one: impl FnMut(&Lap<'_>) -> Duration) -> Duration {
    laps.iter().map(&mut one).sum()
}

/// The contenders of one stream, each shown to remove what it must.
fn contenders<'a>(laps: &'a [Lap<'a>]) -> Vec<Contender<'a>> {
    let software = Arc::new(Software::default());
    let memory: Arc<dyn GuestMemory> = guest_memory();
    let mut rig = Rig::software(memory.clone(), software.clone());
    let mut bare = Rig::nothing(memory.clone(), &software);
    let baseline = Baseline::new(memory, software.clone());
    for lap in laps {
        plants::verify(&software, lap.commands, || {
            rig.fill(lap.commands);
            rig.consume(lap.commands.len());
        });
        plants::verify(&software, lap.commands, || {
            baseline.fill(lap.commands);
            baseline.consume(lap.commands.len());
        });
    }
    let software_too = software.clone();
    vec![
        Contender::new("engine", move || {
            all(laps, |lap| {
                plants::plant(&software, &lap.entries);
                rig.fill(lap.commands);
                rig.consume(lap.commands.len())
            })
        }),
        Contender::new("without backend", move || {
            all(laps, |lap| {
                bare.fill(lap.commands);
                bare.consume(lap.commands.len())
            })
        }),
        Contender::new("baseline", move || {
            all(laps, |lap| {
                plants::plant(&software_too, &lap.entries);
                baseline.fill(lap.commands);
                baseline.consume(lap.commands.len())
            })
        }),
    ]
}

fn stage(c: &mut Criterion) {
    for stream in streams::with_goals(1 << LOG2SIZE) {
        let mut group = c.benchmark_group(format!("replay/{}", stream.name));
        group.throughput(Throughput::Elements(stream.commands.len() as u64));
        let laps = laps(&stream);
        for contender in &mut contenders(&laps) {
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
        let ns = medians(&mut contenders(&laps), rounds, units);
        let ratio = ns[2] / ns[0];
        let at_least = stream.goal_ratio.unwrap_or(1.0);
        let met = ns[0] <= stream.goal_ns && ratio >= at_least;
        let shown = |ns: f64| format!("{ns:.2}");
        rows.push(vec![
            stream.name.to_owned(),
            shown(ns[0]),
            shown(stream.goal_ns),
            shown(ns[2]),
            format!("{ratio:.1}x"),
            format!("{at_least:.0}x"),
            table::yes_no(met),
        ]);
        rows.push(vec![
            "  without backend".to_owned(),
            shown(ns[1]),
            shown(stream.goal_ns / 2.0),
            String::new(),
            String::new(),
            String::new(),
            table::yes_no(ns[1] <= stream.goal_ns / 2.0),
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
