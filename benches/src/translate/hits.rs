//! Lookups that hit, at three sizes, beside the least that they could cost, a walk each time and
//! a hash table.

use super::array::BareArray;
use super::chain;
use super::goals::{Goals, ns};
use super::hash::HashTlb;
use super::world::{PAGES, VMID, World, address, entry, read, translate};
use crate::rounds::{Contender, medians};
use dispatch::backend::software::Port;
use smmu_core::Asid;
use smmu_core::guard::{Guards, Slot, Use};
use smmu_core::tlb::{Tlb, TlbSettings, View};
use smmu_core::walk::Leaf;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Entries: what a processor's first cache holds; what the hash table of the peers holds; all.
pub const SIZES: [u64; 3] = [64, 255, PAGES];
/// Lookups in a round.
pub const LOOKUPS: usize = 20_000;

/// The first so many pages of one ASID, which a cache of the default size holds.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    /// Whose.
    pub asid: Asid,
    /// How many.
    pub count: u64,
}

impl Pages {
    /// As many as are asked for.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let asid = Asid(1);
        Self { asid, count }
    }

    /// Translates each once, so that all are cached.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn cache(&self, world: &World, port: &mut Port) {
        for page in 0..self.count {
            translate(port, page);
        }
        let cached = |page: &u64| {
            let stream = u32::from(self.asid.0).into();
            let hit = (world.software).lookup(stream, VMID, self.asid, address(*page));
            hit.is_some_and(|hit| hit.payload == world.walk(self.asid, *page).pack())
        };
        let cached = (0..self.count).filter(cached).count() as u64;
        assert_eq!(cached, self.count, "all are cached, and right");
    }

    /// A hash table with all of them.
    #[must_use]
    pub fn hashed(&self, world: &World) -> HashTlb {
        let hash = HashTlb::new(self.count as usize);
        for page in 0..self.count {
            hash.fill(self.asid, address(page), world.walk(self.asid, page).pack());
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

/// What is looked up in, with the same entries everywhere.
struct Caches {
    asid: Asid,
    count: u64,
    world: World,
    port: RefCell<Port>,
    guards: Guards,
    own: Slot,
    tlb: Tlb,
    /// As a port keeps it.
    view: View,
    array: BareArray,
    hash: HashTlb,
}

impl Caches {
    fn new(pages: Pages) -> Self {
        let Pages { asid, count } = pages;
        let world = World::default();
        let mut port = world.port(asid);
        pages.cache(&world, &mut port);
        let tlb = Tlb::new(TlbSettings::default());
        let array = BareArray::new(tlb.capacity());
        for page in 0..count {
            let payload = world.walk(asid, page).pack();
            assert!(tlb.fill(&entry(asid, page, payload), &tlb.ticket(VMID, asid)));
            array.fill(asid, address(page), payload);
        }
        let guards = Guards::new(64);
        Self {
            asid,
            count,
            port: RefCell::new(port),
            own: guards.lease().expect("a guard"),
            guards,
            view: tlb.view(VMID, asid),
            tlb,
            array,
            hash: pages.hashed(&world),
            world,
        }
    }

    #[inline]
    fn in_array(&self, page: u64) -> u64 {
        let found = self.array.lookup(self.asid, address(page));
        found.expect("it is there")[0]
    }

    #[inline]
    fn in_cache(&self, page: u64) -> u64 {
        let hit = self.tlb.lookup_in(&self.view, address(page));
        checked(hit.expect("it is cached").payload, page)
    }

    #[inline]
    fn in_hash(&self, page: u64) -> u64 {
        let found = self.hash.lookup(self.asid, address(page));
        checked(found.expect("it is there"), page)
    }

    #[inline]
    fn walked(&self, page: u64) -> u64 {
        let leaf = self.world.walk(self.asid, page);
        assert!(leaf.permissions.allow(&read(page)), "it may be read");
        leaf.output(address(page))
    }

    fn guarded(&self, body: impl FnOnce() -> Duration) -> Duration {
        self.guards
            .open(&self.own, &Use::untranslated(1.into(), VMID));
        let took = body();
        assert!(!self.guards.close(&self.own), "nobody waits");
        took
    }

    fn through_ports(&self) -> Duration {
        let mut port = self.port.borrow_mut();
        chain::dependent(LOOKUPS, self.count, |page| translate(&mut port, page))
    }
}

/// In the order of [`measure`]; the first two are what the measuring itself costs.
#[must_use]
pub fn contenders(pages: Pages) -> Vec<Contender<'static>> {
    let caches = Rc::new(Caches::new(pages));
    let count = pages.count;
    let of = |name, mut body: Box<dyn FnMut(&Caches) -> Duration>| {
        let caches = caches.clone();
        Contender::new(name, move || body(&caches))
    };
    vec![
        of(
            "loop",
            Box::new(move |_| chain::dependent(LOOKUPS, count, |n| n)),
        ),
        of(
            "loop, independent",
            Box::new(move |_| chain::independent(LOOKUPS, count, |n| n)),
        ),
        of(
            "array",
            Box::new(move |c| chain::dependent(LOOKUPS, count, |n| c.in_array(n))),
        ),
        of(
            "array, independent",
            Box::new(move |c| chain::independent(LOOKUPS, count, |n| c.in_array(n))),
        ),
        of(
            "cache",
            Box::new(move |c| c.guarded(|| chain::dependent(LOOKUPS, count, |n| c.in_cache(n)))),
        ),
        of(
            "cache, independent",
            Box::new(move |c| c.guarded(|| chain::independent(LOOKUPS, count, |n| c.in_cache(n)))),
        ),
        of("port", Box::new(|c| c.through_ports())),
        of(
            "hash",
            Box::new(move |c| chain::dependent(LOOKUPS, count, |n| c.in_hash(n))),
        ),
        of(
            "walk",
            Box::new(move |c| chain::dependent(LOOKUPS, count, |n| c.walked(n))),
        ),
    ]
}

/// The rows. What the measuring costs is taken off everything, so that no ratio is flattered.
pub fn measure(rounds: usize, goals: &mut Goals) {
    for size in SIZES {
        let pages = Pages::new(size);
        let times = medians(&mut contenders(pages), rounds, LOOKUPS);
        let of = |at: usize, measuring: usize| (times[at] - times[measuring]).max(0.0);
        let [port, hash, walk] = [of(6, 0), of(7, 0), of(8, 0)];
        for (how, array, cache) in [
            ("one after the other", of(2, 0), of(4, 0)),
            ("independent", of(3, 1), of(5, 1)),
        ] {
            goals.row(
                &format!("hit and permission check in an open guard, {how}, {size} entries"),
                ns(cache),
                format!("bare array {} ({:.1}x)", ns(array), cache / array),
                "10 ns, 2x",
                Some(cache <= 10.0 && cache <= 2.0 * array),
            );
        }
        let slower = |other: f64| format!("{:.1}x of Port::translate", other / port);
        goals.row(
            &format!("Port::translate, guard and all, {size} entries"),
            ns(port),
            format!("bare array {}", ns(of(2, 0))),
            "22 ns (10 + 12)",
            Some(port <= 22.0),
        );
        goals.row(
            "  hash table behind a mutex",
            ns(hash),
            slower(hash),
            "",
            None,
        );
        goals.row("  walk without a cache", ns(walk), slower(walk), "", None);
    }
}
