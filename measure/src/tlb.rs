//! What an invalidation costs, by how many entries there are: the software backend's cache, and a
//! hash table that is scanned, as in QEMU's emulation.

use crate::data::{Cost, Placed};
use crate::options::{Options, Part, Progress};
use dispatch::backend::{Backend, Software};
use dispatch::{Batch, Scope};
use serde::{Deserialize, Serialize};
use smmu_core::Asid;
use smmu_core::tlb::{Entry, Space, TlbSettings};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};
use vcmdq_benches::ping_pong::clock_cost;
use vcmdq_benches::plants::{cached, plant};
use vcmdq_benches::rounds::{Contender, times};
use vcmdq_benches::translate::hash::HashTlb;
use vcmdq_benches::translate::world::{address, entry, one_page, only, pages};

/// One page that is cached.
pub const BY_ADDRESS_PRESENT: &str = "a page that is cached";
/// One page that is not cached, which is what guests unmap most.
pub const BY_ADDRESS_ABSENT: &str = "a page that is not cached";
/// 31 neighbouring pages, all cached, by one range.
pub const BY_RANGE: &str = "31 pages that are cached";
/// One ASID, of 64 that have equally many entries; the processor's caches hold neither its entries
/// nor its counter, however few there are.
pub const BY_ASID: &str = "an ASID";

/// The software backend.
pub const CACHE: &str = "translation cache";
/// A hash table behind a mutex; what is not one exact page is found by a look at each entry.
pub const HASH: &str = "hash table";

const SIZES: [usize; 6] = [64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16];
/// Invalidations in a round; ASIDs.
const TIMES: u64 = 64;
const RANGE: u64 = 31;
/// Behind all pages that are cached.
const ABSENT: u64 = 1 << 20;
const ASID: Asid = Asid(0);

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlbCosts {
    /// Who ran where.
    pub placement: Vec<Placed>,
    /// Every kind, table and size.
    pub points: Vec<TlbPoint>,
}

/// One kind of invalidation at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlbPoint {
    /// What is invalidated; one of the constants of the module.
    pub what: String,
    /// [`CACHE`] or [`HASH`].
    pub table: String,
    /// Entries that there are before.
    pub entries: usize,
    /// Per invalidation.
    pub ns: Cost,
}

impl TlbCosts {
    /// The points of a curve, by size.
    #[must_use]
    pub fn curve(&self, what: &str, table: &str) -> Vec<&TlbPoint> {
        let points = self.points.iter();
        points
            .filter(|point| point.what == what && point.table == table)
            .collect()
    }
}

/// A way to invalidate, by number.
#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    /// How many of them make a round, where there are so many entries.
    count: fn(usize) -> u64,
    scope: fn(u64) -> Scope,
    hashed: fn(&HashTlb, u64),
    /// What they remove, where there are so many entries.
    removed: fn(usize) -> Vec<Entry>,
    /// Entries are of so many ASIDs.
    asids: u64,
}

const KINDS: [Kind; 4] = [
    Kind {
        what: BY_ADDRESS_PRESENT,
        count: |_| TIMES,
        scope: |number| one_page(ASID, number),
        hashed: |hash, number| hash.invalidate_page(ASID, address(number)),
        removed: |_| of_one(0..TIMES),
        asids: 1,
    },
    Kind {
        what: BY_ADDRESS_ABSENT,
        count: |_| TIMES,
        scope: |number| one_page(ASID, ABSENT + number),
        hashed: |hash, number| hash.invalidate_page(ASID, address(ABSENT + number)),
        removed: |_| Vec::new(),
        asids: 1,
    },
    Kind {
        what: BY_RANGE,
        count: ranges,
        scope: |number| pages(ASID, number * (RANGE + 1), RANGE),
        hashed: |hash, number| hash.invalidate_range(ASID, address(number * (RANGE + 1)), RANGE),
        removed: |size| {
            let first = |number| number * (RANGE + 1);
            let one = |number| of_one(first(number)..first(number) + RANGE);
            (0..ranges(size)).flat_map(one).collect()
        },
        asids: 1,
    },
    Kind {
        what: BY_ASID,
        count: |_| TIMES,
        scope: |number| Scope::Context(Asid(number as u16)),
        hashed: |hash, number| hash.invalidate_asid(Asid(number as u16)),
        removed: |size| all(size, TIMES),
        asids: TIMES,
    },
];

/// As many as there are entries for.
fn ranges(size: usize) -> u64 {
    (size as u64 / (RANGE + 1)).min(TIMES)
}

fn of_one(pages: std::ops::Range<u64>) -> Vec<Entry> {
    pages.map(|page| entry(ASID, page, [0; 2])).collect()
}

/// So many entries, as many of each ASID. The first 64 ASIDs evict none of each other's.
fn all(size: usize, asids: u64) -> Vec<Entry> {
    let each = size as u64 / asids;
    let of = |asid: u64| (0..each).map(move |page| entry(Asid(asid as u16), page, [0; 2]));
    (0..asids).flat_map(of).collect()
}

fn fill(hash: &HashTlb, entries: &[Entry]) {
    for entry in entries {
        if let Space::Asid(asid) = entry.space {
            hash.fill(asid, entry.va, entry.payload);
        }
    }
}

/// Memory that is read before anything is timed, so that the processor's caches have forgotten
/// few entries as they have forgotten many.
#[derive(Clone)]
struct Decoy(Rc<[u64]>);

impl Decoy {
    fn new() -> Self {
        Self((0..6 << 20).collect())
    }

    /// Entries of one ASID share what is read to invalidate them: more than a second-level cache
    /// is enough to be forgotten. Each of many ASIDs has a counter in a line and a page of its own.
    fn read(&self, asids: u64) {
        let words = if asids == 1 { 1 << 19 } else { self.0.len() };
        let lines = self.0[..words].iter().step_by(8);
        black_box(lines.fold(0u64, |sum, word| sum.wrapping_add(*word)));
    }
}

/// Entries of many ASIDs evict each other in a cache of the default size.
fn cache_of(kind: &Kind) -> Software {
    let log2_entries = if kind.asids == 1 { 16 } else { 20 };
    Software::new(TlbSettings {
        log2_entries,
        ..TlbSettings::default()
    })
}

fn cache(kind: Kind, size: usize, (clock_cost, decoy): (Duration, Decoy)) -> Contender<'static> {
    let (software, mut batch) = (cache_of(&kind), Batch::new());
    let (entries, removed) = (all(size, kind.asids), (kind.removed)(size));
    plant(&software, &entries);
    Contender::new(CACHE, move || {
        plant(&software, &removed);
        assert_eq!(cached(&software, &entries), entries.len(), "all are cached");
        decoy.read(kind.asids);
        let start = Instant::now();
        for number in 0..(kind.count)(size) {
            only(&mut batch, (kind.scope)(number));
            software.submit(&batch).expect("it takes everything");
        }
        let took = start.elapsed().saturating_sub(clock_cost);
        assert_eq!(cached(&software, &removed), 0, "none of them is left");
        took
    })
}

fn hash(kind: Kind, size: usize, (clock_cost, decoy): (Duration, Decoy)) -> Contender<'static> {
    // It never has to make room; QEMU's holds 256 entries at most.
    let hash = HashTlb::new(size + 1);
    let removed = (kind.removed)(size);
    fill(&hash, &all(size, kind.asids));
    Contender::new(HASH, move || {
        fill(&hash, &removed);
        assert_eq!(hash.len(), size, "all are there");
        decoy.read(kind.asids);
        let start = Instant::now();
        (0..(kind.count)(size)).for_each(|number| (kind.hashed)(&hash, number));
        let took = start.elapsed().saturating_sub(clock_cost);
        assert_eq!(hash.len(), size - removed.len(), "none of them is left");
        took
    })
}

pub(crate) fn measure(
    options: &Options,
    placement: Vec<Placed>,
    progress: &dyn Progress,
) -> Result<TlbCosts, String> {
    let rounds = options.rounds(31, 2);
    let sizes = if options.quick { &SIZES[..3] } else { &SIZES };
    progress.part(Part::Tlb, (KINDS.len() * sizes.len()) as u64);
    let with = (Duration::from_nanos(clock_cost()), Decoy::new());
    let mut points = Vec::new();
    for kind in KINDS {
        for size in sizes {
            let mut contenders = [
                cache(kind, *size, with.clone()),
                hash(kind, *size, with.clone()),
            ];
            let count = (kind.count)(*size) as usize;
            let times = times(&mut contenders, rounds, count, || {});
            let costs = contenders.iter().zip(times);
            points.extend(costs.map(|(table, times)| TlbPoint {
                what: kind.what.to_owned(),
                table: table.name.to_owned(),
                entries: *size,
                ns: Cost::of(table.name, times),
            }));
            progress.step();
        }
    }
    Ok(TlbCosts { placement, points })
}
