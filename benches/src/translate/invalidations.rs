//! What it costs to remove entries, by how many there are.

use super::goals::{Goals, ns};
use super::hash::HashTlb;
use super::hits::{Pages, SIZES};
use super::world::{VMID, World, address, entry, one_page, only};
use crate::plants::plant;
use crate::rounds::{Contender, medians};
use dispatch::backend::{Backend, Software};
use dispatch::{Batch, Scope};
use smmu_core::Asid;
use smmu_core::tlb::{Entry, TlbSettings};
use std::time::{Duration, Instant};

/// Invalidations in a round.
const TIMES: u64 = 64;
/// Behind all pages that are cached.
const ABSENT: u64 = 1 << 20;

fn each(mut once: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    (0..TIMES).for_each(&mut once);
    start.elapsed()
}

fn submit(software: &Software, batch: &mut Batch, scope: Scope) {
    only(batch, scope);
    software.submit(batch).expect("it takes everything");
}

fn holds(software: &Software, asid: Asid, page: u64) -> bool {
    let stream = u32::from(asid.0).into();
    software.lookup(stream, VMID, asid, address(page)).is_some()
}

/// Pages that are not cached, which is what a guest unmaps most, and pages that are.
pub fn of_pages(rounds: usize, goals: &mut Goals) {
    for size in SIZES {
        let pages = Pages::new(size);
        let times = medians(&mut page_contenders(pages), rounds, TIMES as usize);
        for (at, what) in ["not cached", "cached"].into_iter().enumerate() {
            let (own, hash) = (times[2 * at], times[2 * at + 1]);
            goals.row(
                &format!("invalidate a page that is {what}, {size} entries"),
                ns(own),
                format!("hash table {} ({:.1}x)", ns(hash), hash / own),
                "",
                None,
            );
        }
    }
}

fn page_contenders(pages: Pages) -> Vec<Contender<'static>> {
    let world = World::default();
    let asid = pages.asid;
    pages.cache(&world, &mut world.port(asid));
    let software = world.software.clone();
    let hash = std::rc::Rc::new(pages.hashed(&world));
    let cached: Vec<Entry> = (0..TIMES).map(|page| world.entry(asid, page)).collect();
    let (software_too, hash_too, entries) = (software.clone(), hash.clone(), cached.clone());
    let (mut batch, mut batch_too) = (Batch::new(), Batch::new());
    vec![
        Contender::new("cache, absent", move || {
            each(|page| submit(&software, &mut batch, one_page(asid, ABSENT + page)))
        }),
        Contender::new("hash, absent", move || {
            each(|page| hash.invalidate_page(asid, address(ABSENT + page)))
        }),
        Contender::new("cache, cached", move || {
            plant(&software_too, &entries);
            let took = each(|page| submit(&software_too, &mut batch_too, one_page(asid, page)));
            assert!((0..TIMES).all(|page| !holds(&software_too, asid, page)));
            plant(&software_too, &entries);
            took
        }),
        Contender::new("hash, cached", move || {
            for entry in &cached {
                hash_too.fill(asid, entry.va, entry.payload);
            }
            let took = each(|page| hash_too.invalidate_page(asid, address(page)));
            for entry in &cached {
                hash_too.fill(asid, entry.va, entry.payload);
            }
            took
        }),
    ]
}

/// Entries of 64 ASIDs, `of_each` of each. None evicts another in a cache of 2^20 entries.
fn of_asids(of_each: u64) -> Vec<Entry> {
    let of = |asid: u64| {
        let page = move |page| entry(Asid(asid as u16), asid * of_each + page, [0; 2]);
        (0..of_each).map(page)
    };
    (1..=TIMES).flat_map(of).collect()
}

/// An ASID of which much is cached beside one of which little is. Before either is timed the
/// processor's caches have seen equally much.
pub fn of_asid(rounds: usize, goals: &mut Goals) {
    let large = TlbSettings {
        log2_entries: 20,
        ..TlbSettings::default()
    };
    let (few, many) = (of_asids(1), of_asids(1024));
    let decoy = Software::new(large);
    plant(&decoy, &many);
    let hash = HashTlb::new(many.len());
    let contender = |name, entries| {
        let (software, decoy, many) = (Software::new(large), &decoy, &many);
        let mut batch = Batch::new();
        Contender::new(name, move || {
            plant(&software, entries);
            assert!(all(&software, entries, true), "all are cached");
            assert!(all(decoy, many, true), "so are the decoys");
            let took = each(|n| submit(&software, &mut batch, Scope::Context(Asid(n as u16 + 1))));
            assert!(all(&software, entries, false), "none is left");
            took
        })
    };
    let hashed = |name, entries| {
        let hash = &hash;
        Contender::new(name, move || {
            fill(hash, entries);
            let took = each(|n| hash.invalidate_asid(Asid(n as u16 + 1)));
            assert!(hash.is_empty(), "none is left");
            took
        })
    };
    let mut contenders = [
        contender("64", &few),
        contender("64 Ki", &many),
        hashed("hash, 64", &few),
        hashed("hash, 64 Ki", &many),
    ];
    let times = medians(&mut contenders, rounds, TIMES as usize);
    let ratio = times[1] / times[0];
    goals.row(
        "invalidate an ASID, 65536 entries",
        ns(times[1]),
        format!("64 entries {} ({ratio:.2}x)", ns(times[0])),
        "the same (1.1x)",
        Some(ratio <= 1.1),
    );
    goals.row(
        "  hash table",
        ns(times[3]),
        format!("64 entries {} ({:.0}x)", ns(times[2]), times[3] / times[2]),
        "",
        None,
    );
}

fn fill(hash: &HashTlb, entries: &[Entry]) {
    for entry in entries {
        let smmu_core::tlb::Space::Asid(asid) = entry.space else {
            continue;
        };
        hash.fill(asid, entry.va, entry.payload);
    }
}

fn all(software: &Software, entries: &[Entry], cached: bool) -> bool {
    crate::plants::cached(software, entries) == if cached { entries.len() } else { 0 }
}
