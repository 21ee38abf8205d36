//! STAGE first pass, with those before and after it up to the backend, which does nothing: fetch,
//! decode, first pass, coalesce, batch, complete. Full rings in real guest memory.

use criterion::{Criterion, Throughput};
use dispatch::backend::Software;
use std::time::Duration;
use vcmdq_benches::rig::{LOG2SIZE, Rig, guest_memory};
use vcmdq_benches::streams;

fn stage(c: &mut Criterion) {
    let mut group = c.benchmark_group("first_pass");
    let mut rig = Rig::nothing(guest_memory(), &Software::default());
    for stream in streams::with_goals(1 << LOG2SIZE) {
        group.throughput(Throughput::Elements(stream.commands.len() as u64));
        group.bench_function(stream.name, |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .flat_map(|_| stream.commands.chunks(1 << LOG2SIZE))
                    .map(|lap| {
                        rig.fill(lap);
                        rig.consume(lap.len())
                    })
                    .sum::<Duration>()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion);
    criterion.final_summary();
}
