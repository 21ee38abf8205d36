//! What it costs a walk to set an access flag or dirty state: stream table, context and three
//! descriptors, beside the same walk that need not.

use criterion::{Criterion, Throughput};
use smmu_core::Asid;
use smmu_core::access::Operation;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vcmdq_benches::translate::world::World;

/// Of the 256 that there are.
const ASID: Asid = Asid(7);
const PAGES: u64 = 1024;
const AF: u64 = 1 << 10;
const READ_ONLY: u64 = 1 << 7;
const DBM: u64 = 1 << 51;

/// Walks each page once, after its descriptor has been written.
fn round(world: &World, operation: Operation, with: u64, without: u64) -> Duration {
    for page in 0..PAGES {
        world.set_leaf(page, with, without);
    }
    let begun = Instant::now();
    for page in 0..PAGES {
        black_box(world.walk_for(ASID, page, operation));
    }
    begun.elapsed()
}

fn updates(c: &mut Criterion) {
    let (plain, updating) = (World::default(), World::default().updating(ASID));
    let rows = [
        ("no updates", &plain, Operation::Read, 0, 0),
        ("nothing to update", &updating, Operation::Read, 0, 0),
        ("access flag", &updating, Operation::Read, 0, AF),
        (
            "dirty state",
            &updating,
            Operation::Write,
            READ_ONLY | DBM,
            0,
        ),
        ("both", &updating, Operation::Write, READ_ONLY | DBM, AF),
    ];
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(PAGES));
    for (name, world, operation, with, without) in rows {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let rounds = (0..rounds).map(|_| round(world, operation, with, without));
                rounds.sum()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    updates(&mut criterion);
    criterion.final_summary();
}
