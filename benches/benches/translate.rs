//! Translations: what a hit, a guard and an invalidation cost, alone and beside another thread;
//! beside an array, a walk each time and a hash table; and the goals, in one run.

use criterion::{Criterion, Throughput};
use vcmdq_benches::is_quick;
use vcmdq_benches::ping_pong::Pins;
use vcmdq_benches::translate::goals::Goals;
use vcmdq_benches::translate::hits::{self, Pages, SIZES};
use vcmdq_benches::translate::{far, guards, invalidations, nested, syncs, threads};

fn stage(c: &mut Criterion) {
    for size in SIZES {
        let pages = Pages::new(size);
        let mut group = c.benchmark_group(format!("translate/{size}"));
        group.throughput(Throughput::Elements(hits::LOOKUPS as u64));
        for contender in &mut hits::contenders(pages) {
            group.bench_function(contender.name, |b| {
                b.iter_custom(|rounds| (0..rounds).map(|_| (contender.round)()).sum());
            });
        }
        group.finish();
    }
}

fn goals() {
    let rounds = if is_quick() { 3 } else { 101 };
    let mut goals = Goals::default();
    let pins = Pins::take();
    hits::measure(rounds, &mut goals);
    nested::measure(rounds, &mut goals);
    far::measure(rounds, &mut goals);
    guards::measure(rounds, &mut goals);
    invalidations::of_asid(rounds, &mut goals);
    invalidations::of_pages(rounds, &mut goals);
    match pins {
        Some(pins) => {
            threads::scaling(pins, rounds, &mut goals);
            threads::beside_invalidations(pins, rounds, &mut goals);
            syncs::at_the_backend(pins, rounds, &mut goals);
            syncs::through_an_engine(pins, rounds.min(31), &mut goals);
        }
        None => println!("translate: no two cores to pin threads to, their goals are left out"),
    }
    goals.print(&format!(
        "Translations, medians of {rounds} interleaved rounds, the loop's own time taken off"
    ));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stage(&mut criterion);
    criterion.final_summary();
    goals();
}
