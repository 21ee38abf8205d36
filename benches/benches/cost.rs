//! What the software backend's requests cost, beside what it says that they cost: worker's slices are
//! made of the second (law 8), and must not be longer for it than they should be.
//!
//! Each batch is submitted to a cache of the default size through which another one has gone before,
//! so that what it looks at lies where it lies in a busy engine.

use dispatch::backend::Software;
use dispatch::{Backend, Batch, Invalidation, Scope, Stage};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::tlb::{Entry, PageClass, Space};
use smmu_core::{Asid, Vmid};
use std::hint::black_box;
use std::time::Instant;
use vcmdq_benches::rounds::{Contender, medians};
use vcmdq_benches::streams::Numbers;
use vcmdq_benches::{is_quick, table};

/// Requests in a batch.
const BATCH: usize = 64;
/// Batches of a round, each of other addresses.
const BATCHES: usize = 16;

fn addresses(asid: Option<Asid>, page: u64, pages: u64, granule: Option<Granule>) -> Invalidation {
    let range = TlbiRange {
        addr: page << 12,
        bytes: pages << 12,
        granule,
        ttl: 0,
        leaf: true,
    };
    stage_one(Scope::Addresses { asid, range })
}

fn stage_one(scope: Scope) -> Invalidation {
    Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope,
    }
}

/// A cache that has held pages of `classes`, and perhaps global ones.
fn software(classes: &[PageClass], globals: bool) -> Software {
    let software = Software::default();
    let asid = Space::Asid(Asid(1));
    for space in [Some(asid), globals.then_some(Space::Global)] {
        for class in classes {
            let Some(space) = space else { continue };
            let entry = Entry {
                vmid: Vmid(0),
                space,
                va: 0x1000_0000,
                class: *class,
                payload: [0; 2],
            };
            let ticket = software.ticket(Vmid(0), Asid(1));
            software.fill(&entry, &ticket);
        }
    }
    software
}

fn batches(mut request: impl FnMut(&mut Numbers) -> Invalidation, size: usize) -> Vec<Batch> {
    let mut numbers = Numbers::new(5);
    let mut one = || {
        let mut batch = Batch::new();
        batch.restart(Vmid(0));
        (0..size).for_each(|at| batch.push(request(&mut numbers), at as u32));
        batch
    };
    (0..BATCHES).map(|_| one()).collect()
}

struct Shape {
    name: &'static str,
    software: Software,
    batches: Vec<Batch>,
}

fn shapes() -> Vec<Shape> {
    let pages = || software(&[PageClass::Page4K], false);
    let blocks = [
        PageClass::Page4K,
        PageClass::Block2M,
        PageClass::Block1G,
        PageClass::Block512G,
    ];
    let shape = |name, software, batches| Shape {
        name,
        software,
        batches,
    };
    let context = |numbers: &mut Numbers| stage_one(Scope::Context(numbers.asid()));
    let known = Some(Granule::K4);
    let range =
        |pages| move |n: &mut Numbers| addresses(Some(n.asid()), n.page() & !7, pages, known);
    let page = |n: &mut Numbers| addresses(Some(n.asid()), n.page(), 1, known);
    let unknown = |n: &mut Numbers| addresses(Some(n.asid()), n.page(), 1, None);
    let every = |granule| move |n: &mut Numbers| addresses(None, n.page(), 1, granule);
    vec![
        shape("one ASID", pages(), batches(context, 1)),
        shape("64 ASIDs", pages(), batches(context, BATCH)),
        shape("one page", pages(), batches(page, 1)),
        shape("64 pages", pages(), batches(page, BATCH)),
        shape("64 of 64 pages", pages(), batches(range(64), BATCH)),
        shape("16 of 1024 pages", pages(), batches(range(1024), 16)),
        shape("16 of 2048 pages", pages(), batches(range(2048), 16)),
        shape(
            "64 pages, TG=0, 4 sizes, globals",
            software(&blocks, true),
            batches(unknown, BATCH),
        ),
        shape(
            "64 pages, every ASID",
            pages(),
            batches(every(known), BATCH),
        ),
        shape(
            "16 pages, every ASID, 4 sizes",
            software(&blocks, true),
            batches(every(None), 16),
        ),
    ]
}

fn main() {
    let rounds = if is_quick() { 3 } else { 301 };
    let shapes = shapes();
    let mut contenders: Vec<_> = shapes
        .iter()
        .map(|shape| {
            Contender::new(shape.name, move || {
                let start = Instant::now();
                for batch in &shape.batches {
                    let _done = black_box(shape.software.submit(batch));
                }
                start.elapsed()
            })
        })
        .collect();
    let measured = medians(&mut contenders, rounds, BATCHES);
    let row = |(shape, ns): (&Shape, f64)| {
        let costs = shape.software.costs();
        let requests = shape.batches[0].requests();
        let said = u64::from(costs.call) + requests.clone().map(|r| costs.of(&r)).sum::<u64>();
        vec![
            shape.name.to_owned(),
            format!("{ns:.0}"),
            said.to_string(),
            format!("{:.1}", ns / requests.len() as f64),
        ]
    };
    let rows: Vec<_> = shapes.iter().zip(measured).map(row).collect();
    let header = ["batch", "ns", "estimate", "ns/request"];
    table::print("Batches at the software backend, medians", &header, &rows);
}
