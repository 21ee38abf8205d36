//! Lookups that hit, at three sizes, beside the least that they could cost, a walk each time and
//! a hash table.

use super::array::BareArray;
use super::chain;
use super::goals::{Goals, ns};
use super::hash::HashTlb;
use super::world::{OF_ONE_ASID, PAGES, VMID, World, address, entry, read, strangers, translate};
use crate::rounds::{Contender, medians};
use dispatch::backend::software::Port;
use smmu_core::Asid;
use smmu_core::guard::{Guards, Use};
use smmu_core::tlb::{Tlb, TlbSettings};
use smmu_core::walk::Leaf;

/// Entries: what a processor's first cache holds; what the hash table of the peers holds; all.
pub const SIZES: [u64; 3] = [64, 255, PAGES];
/// Lookups in a round.
pub const LOOKUPS: usize = 20_000;

/// Pages of several ASIDs, numbered.
#[derive(Clone, Debug)]
pub struct Pages {
    asids: Vec<Asid>,
    /// How many.
    pub count: u64,
}

impl Pages {
    /// So many that a cache of the default size holds all of them.
    #[must_use]
    pub fn new(count: u64) -> Self {
        Self {
            asids: strangers(count.div_ceil(OF_ONE_ASID) as usize),
            count,
        }
    }

    /// The address space and the page of a number.
    #[inline]
    #[must_use]
    pub fn at(&self, number: u64) -> (Asid, u64) {
        let asid = self.asids[(number / OF_ONE_ASID) as usize];
        (asid, number % OF_ONE_ASID)
    }

    /// A port into each address space.
    #[must_use]
    pub fn ports(&self, world: &World) -> Vec<Port> {
        self.asids.iter().map(|asid| world.port(*asid)).collect()
    }

    /// Translates each once, so that all are cached.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn cache(&self, world: &World, ports: &mut [Port]) {
        for number in 0..self.count {
            translate(
                &mut ports[(number / OF_ONE_ASID) as usize],
                number % OF_ONE_ASID,
            );
        }
        let cached = |number: &u64| {
            let (asid, page) = self.at(*number);
            let stream = u32::from(asid.0).into();
            let hit = world.software.lookup(stream, VMID, asid, address(page));
            hit.is_some_and(|hit| hit.payload == world.walk(asid, page).pack())
        };
        let cached = (0..self.count).filter(cached).count() as u64;
        assert_eq!(cached, self.count, "all are cached, and right");
    }

    /// A hash table with all of them.
    #[must_use]
    pub fn hashed(&self, world: &World) -> HashTlb {
        let hash = HashTlb::new(self.count as usize);
        for number in 0..self.count {
            let (asid, page) = self.at(number);
            hash.fill(asid, address(page), world.walk(asid, page).pack());
        }
        assert_eq!(hash.len() as u64, self.count, "they fit");
        hash
    }
}

/// The permission check that belongs to a hit.
#[inline]
fn checked(payload: [u64; 2], page: u64) -> u64 {
    let leaf = Leaf::unpack(payload).expect("a leaf that was packed");
    let access = read(page);
    assert!(leaf.permissions.allow(&access), "it may be read");
    leaf.output(access.address)
}

/// In the order of the table's columns; the first is what the measuring itself costs.
#[must_use]
pub fn contenders(pages: &Pages) -> Vec<Contender<'_>> {
    let world = World::default();
    let mut ports = pages.ports(&world);
    pages.cache(&world, &mut ports);
    let hash = pages.hashed(&world);
    let tlb = Tlb::new(TlbSettings::default());
    let mut payloads = Vec::new();
    for number in 0..pages.count {
        let (asid, page) = pages.at(number);
        let payload = world.walk(asid, page).pack();
        assert!(tlb.fill(&entry(asid, page, payload), &tlb.ticket(VMID, asid)));
        payloads.push(payload);
    }
    let array = BareArray::new(&payloads);
    let count = pages.count;
    let guards = Guards::new(64);
    let own = guards.lease().expect("a guard");
    vec![
        Contender::new("loop", move || chain::run(LOOKUPS, count, |number| number)),
        Contender::new("array", move || {
            chain::run(LOOKUPS, count, |number| {
                array.lookup(number).expect("it is there")[0]
            })
        }),
        Contender::new("cache", move || {
            guards.open(&own, &Use::untranslated(1.into(), VMID));
            let took = chain::run(LOOKUPS, count, |number| {
                let (asid, page) = pages.at(number);
                let hit = tlb.lookup(VMID, asid, address(page));
                checked(hit.expect("it is cached").payload, page)
            });
            assert!(!guards.close(&own), "nobody waits");
            took
        }),
        Contender::new("port", move || {
            chain::run(LOOKUPS, count, |number| {
                let port = &mut ports[(number / OF_ONE_ASID) as usize];
                translate(port, number % OF_ONE_ASID)
            })
        }),
        Contender::new("hash", move || {
            chain::run(LOOKUPS, count, |number| {
                let (asid, page) = pages.at(number);
                let found = hash.lookup(asid, address(page));
                checked(found.expect("it is there"), page)
            })
        }),
        Contender::new("walk", move || {
            chain::run(LOOKUPS, count, |number| {
                let (asid, page) = pages.at(number);
                let leaf = world.walk(asid, page);
                assert!(leaf.permissions.allow(&read(page)), "it may be read");
                leaf.output(address(page))
            })
        }),
    ]
}

/// The rows. What the measuring costs is taken off everything, so that no ratio is flattered.
pub fn measure(rounds: usize, goals: &mut Goals) {
    for size in SIZES {
        let pages = Pages::new(size);
        let times = medians(&mut contenders(&pages), rounds, LOOKUPS);
        let [array, cache, port, hash, walk] =
            std::array::from_fn(|at| (times[at + 1] - times[0]).max(0.0));
        let of = |what: &str| format!("{what}, {size} entries");
        goals.row(
            &of("cache hit and permission check in an open guard"),
            ns(cache),
            format!("bare array {} ({:.1}x)", ns(array), cache / array),
            "10 ns, 2x",
            Some(cache <= 10.0 && cache <= 2.0 * array),
        );
        goals.row(
            &of("  Port::translate, guard and all"),
            ns(port),
            format!("bare array {} ({:.1}x)", ns(array), port / array),
            "22 ns (10 + 12)",
            Some(port <= 22.0),
        );
        let slower = |other: f64| format!("{:.1}x of Port::translate", other / port);
        goals.row(
            &of("  hash table behind a mutex"),
            ns(hash),
            slower(hash),
            "",
            None,
        );
        goals.row(
            &of("  walk without a cache"),
            ns(walk),
            slower(walk),
            "",
            None,
        );
    }
}
