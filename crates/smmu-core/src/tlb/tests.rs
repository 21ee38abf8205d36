//! The cache against a list that removes exactly what the architecture demands.

use super::*;
use crate::range::{Granule, TlbiRange};
use alloc::vec::Vec;
use proptest::prelude::*;

const VMID: Vmid = Vmid(0);

fn page(asid: u16, va: u64) -> Entry {
    let space = Space::Asid(Asid(asid));
    Entry {
        vmid: VMID,
        space,
        va,
        class: PageClass::Page4K,
        payload: [va, u64::from(asid)],
    }
}

fn global(va: u64) -> Entry {
    Entry {
        space: Space::Global,
        ..page(0, va)
    }
}

fn fill(tlb: &Tlb, entry: Entry) -> bool {
    let asid = if let Space::Asid(asid) = entry.space {
        asid
    } else {
        Asid(0)
    };
    tlb.fill(&entry, &tlb.ticket(entry.vmid, asid))
}

fn there(tlb: &Tlb, asid: u16, va: u64) -> bool {
    tlb.lookup(VMID, Asid(asid), va).is_some()
}

fn range(addr: u64, pages: u64, granule: Option<Granule>) -> TlbiRange {
    let bytes = pages * granule.map_or(4096, Granule::bytes);
    TlbiRange {
        addr,
        bytes,
        granule,
        ttl: 0,
        leaf: true,
    }
}

fn remove(tlb: &Tlb, asid: Option<u16>, range: &TlbiRange) {
    let asid = asid.map(Asid);
    let mut signature = Signature::default();
    signature.add(asid);
    tlb.sweep(signature).addresses(VMID, asid, range);
}

#[test]
fn a_range_takes_its_pages_and_no_neighbour() {
    let tlb = Tlb::new(TlbSettings::default());
    for n in 0..66 {
        assert!(fill(&tlb, page(1, 0x10_0000 + n * 4096)));
    }
    assert!(fill(&tlb, page(2, 0x10_1000)));
    remove(&tlb, Some(1), &range(0x10_1000, 63, Some(Granule::K4)));
    for n in 0..66 {
        assert_eq!(
            there(&tlb, 1, 0x10_0000 + n * 4096),
            n == 0 || n >= 64,
            "page {n}"
        );
    }
    assert!(there(&tlb, 2, 0x10_1000), "another ASID's entry");
}

#[test]
fn law7_an_address_takes_global_entries_but_an_asid_does_not() {
    let tlb = Tlb::new(TlbSettings::default());
    fill(&tlb, global(0x5000));
    fill(&tlb, page(1, 0x6000));
    tlb.sweep(Signature::default()).asid(VMID, Asid(1));
    assert!(!there(&tlb, 1, 0x6000));
    assert!(there(&tlb, 1, 0x5000), "NH_ASID spares global entries");
    remove(&tlb, Some(7), &range(0x5000, 1, None));
    assert!(!there(&tlb, 1, 0x5000), "NH_VA of any ASID takes them");
    fill(&tlb, global(0x5000));
    tlb.sweep(Signature::default())
        .asid_and_globals(VMID, Asid(9));
    assert!(!there(&tlb, 1, 0x5000));
}

#[test]
fn law7_an_unknown_granule_takes_blocks_of_every_size() {
    let tlb = Tlb::new(TlbSettings::default());
    for class in PageClass::ALL {
        fill(
            &tlb,
            Entry {
                class,
                ..page(1, 0x1234_5678_9000)
            },
        );
    }
    remove(&tlb, Some(1), &range(0x1234_5678_9000, 1, None));
    assert!(!there(&tlb, 1, 0x1234_5678_9000));
}

/// Several TLBIs with TG=0 made one: what any of them would take goes, and nothing else.
#[test]
fn law7_a_range_of_unknown_granule_takes_what_each_of_its_pages_takes() {
    let places = |class: PageClass| (0..8).map(move |n| n << class.shift());
    for class in PageClass::ALL {
        let (one, many) = (
            Tlb::new(TlbSettings::default()),
            Tlb::new(TlbSettings::default()),
        );
        for tlb in [&one, &many] {
            places(class).for_each(|va| {
                fill(
                    tlb,
                    Entry {
                        class,
                        ..page(1, va)
                    },
                );
            });
        }
        let (from, pages) = (0x3000, 40);
        for page in 0..pages {
            remove(&one, Some(1), &range(from + (page << 12), 1, None));
        }
        remove(&many, Some(1), &range(from, pages, None));
        for va in places(class) {
            assert_eq!(there(&many, 1, va), there(&one, 1, va), "{class:?} {va:#x}");
        }
    }
}

#[test]
fn the_classes_of_a_granule_are_those_that_say_so() {
    let bits = |granule: Option<Granule>| {
        let of = PageClass::ALL.into_iter();
        let of = of.filter(|class| granule == Some(class.granule()) || granule.is_none());
        of.fold(0u32, |bits, class| bits | class.bit())
    };
    for granule in [
        None,
        Some(Granule::K4),
        Some(Granule::K16),
        Some(Granule::K64),
    ] {
        assert_eq!(PageClass::bits_of(granule), bits(granule), "{granule:?}");
    }
}

#[test]
fn a_known_granule_spares_the_others() {
    let tlb = Tlb::new(TlbSettings::default());
    fill(
        &tlb,
        Entry {
            class: PageClass::Page64K,
            ..page(1, 0x1_0000)
        },
    );
    remove(&tlb, Some(1), &range(0x1_0000, 16, Some(Granule::K4)));
    assert!(there(&tlb, 1, 0x1_0000));
    remove(&tlb, Some(1), &range(0x1_0000, 1, Some(Granule::K64)));
    assert!(!there(&tlb, 1, 0x1_0000));
}

#[test]
fn a_block_goes_with_any_address_inside_it() {
    let tlb = Tlb::new(TlbSettings::default());
    fill(
        &tlb,
        Entry {
            class: PageClass::Block2M,
            ..page(1, 0x20_0000)
        },
    );
    assert!(there(&tlb, 1, 0x3F_FFFF));
    remove(&tlb, Some(1), &range(0x3F_F000, 1, Some(Granule::K4)));
    assert!(!there(&tlb, 1, 0x20_0000));
}

#[test]
fn an_upper_half_address_is_not_its_lower_half_twin() {
    let tlb = Tlb::new(TlbSettings::default());
    fill(&tlb, page(1, 0xFFFF_8000_0000_1000));
    assert!(!there(&tlb, 1, 0x0000_8000_0000_1000));
    assert!(there(&tlb, 1, 0xFFFF_8000_0000_1000));
}

#[test]
fn law3_a_walk_overtaken_by_an_invalidation_is_not_cached() {
    let tlb = Tlb::new(TlbSettings::default());
    let entry = page(1, 0x5000);
    let ticket = tlb.ticket(VMID, Asid(1));
    remove(&tlb, Some(1), &range(0x5000, 1, None));
    assert!(!tlb.fill(&entry, &ticket));
    assert!(!there(&tlb, 1, 0x5000));
    // An ASID's generation works without the log: the entry is born stale.
    let ticket = tlb.ticket(VMID, Asid(1));
    tlb.sweep(Signature::default()).asid(VMID, Asid(1));
    tlb.fill(&entry, &ticket);
    assert!(!there(&tlb, 1, 0x5000));
}

#[test]
fn a_walk_survives_invalidations_of_other_asids() {
    let tlb = Tlb::new(TlbSettings::default());
    let ticket = tlb.ticket(VMID, Asid(1));
    for _ in 0..20 {
        remove(&tlb, Some(2), &range(0x5000, 1, None));
    }
    assert!(tlb.fill(&page(1, 0x5000), &ticket));
    assert!(
        !tlb.fill(&global(0x5000), &ticket),
        "a global entry is everybody's"
    );
}

#[test]
fn law8_a_huge_range_costs_no_more_than_the_cache_has_sets() {
    let tlb = Tlb::new(TlbSettings::default());
    fill(&tlb, page(1, 0x5000));
    fill(&tlb, page(2, 0x5000));
    let huge = TlbiRange {
        bytes: 1 << 52,
        ..range(0, 1, Some(Granule::K4))
    };
    remove(&tlb, Some(1), &huge);
    assert!(!there(&tlb, 1, 0x5000));
    assert!(there(&tlb, 2, 0x5000));
    remove(&tlb, None, &huge);
    assert!(!there(&tlb, 2, 0x5000));
}

/// Up to so many sets a range is exact, beyond it the ASID's other entries go too; whoever has no ASID
/// looks at one set in each lane.
#[test]
fn law8_a_removal_looks_at_a_bounded_number_of_sets() {
    let exact = |pages: u64, asid| {
        let tlb = Tlb::new(TlbSettings::default());
        assert_eq!(tlb.max_sets(), 256);
        fill(&tlb, page(1, 0x1000));
        fill(&tlb, page(1, 1 << 40));
        let range = TlbiRange {
            bytes: pages << 12,
            ..range(0, 1, Some(Granule::K4))
        };
        remove(&tlb, asid, &range);
        assert!(!there(&tlb, 1, 0x1000));
        there(&tlb, 1, 1 << 40)
    };
    assert!(exact(256 * 8, Some(1)));
    assert!(!exact(256 * 8 + 1, Some(1)));
    assert!(exact(4 * 8, None));
    assert!(!exact(4 * 8 + 1, None));
    // A page of unknown size, of every ASID: each size that is cached is looked for in 64 lanes.
    let tlb = Tlb::new(TlbSettings::default());
    assert_eq!(tlb.sets_for_an_address(None, true), 0);
    for (sizes, class) in (1..).zip(PageClass::ALL) {
        let class = Entry {
            class,
            ..page(1, 1 << 44)
        };
        fill(&tlb, class);
        fill(&tlb, page(1, 1 << 40));
        let sets = tlb.sets_for_an_address(None, true);
        assert_eq!(sets, 64 * sizes);
        remove(&tlb, None, &range(0x5000, 1, None));
        assert_eq!(there(&tlb, 1, 1 << 40), sets <= 256, "{sizes} sizes");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Fill(Entry),
    Everything,
    Vmid(Vmid),
    Asid(Vmid, Asid),
    AsidAndGlobals(Vmid, Asid),
    Addresses(Vmid, Option<Asid>, TlbiRange),
}

/// A cache that keeps everything and removes by the letter of IHI 0070, 4.4.2.
#[derive(Default)]
struct Naive(Vec<Entry>);

impl Naive {
    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Fill(entry) => self.0.push(entry),
            Op::Everything => self.0.clear(),
            Op::Vmid(vmid) => self.0.retain(|e| e.vmid != vmid),
            Op::Asid(vmid, asid) => {
                self.0
                    .retain(|e| !(e.vmid == vmid && e.space == Space::Asid(asid)));
            }
            Op::AsidAndGlobals(vmid, asid) => {
                let hit = [Space::Asid(asid), Space::Global];
                self.0
                    .retain(|e| !(e.vmid == vmid && hit.contains(&e.space)));
            }
            Op::Addresses(vmid, asid, range) => self.0.retain(|e| {
                let mine = match (e.space, asid) {
                    (Space::Asid(own), Some(asid)) => own == asid,
                    _ => true,
                };
                let base = e.va >> e.class.shift() << e.class.shift();
                !(e.vmid == vmid && mine && range.hits(base, e.class.shift(), e.class.granule()))
            }),
        }
    }

    /// Whether a hit with this payload may still be returned.
    fn knows(&self, vmid: Vmid, asid: Asid, payload: [u64; 2]) -> bool {
        self.0.iter().any(|e| {
            let mine = e.space == Space::Global || e.space == Space::Asid(asid);
            e.vmid == vmid && mine && e.payload == payload
        })
    }
}

fn apply(tlb: &Tlb, op: &Op) {
    match *op {
        Op::Fill(entry) => {
            fill(tlb, entry);
        }
        Op::Everything => tlb.sweep(Signature::default()).everything(),
        Op::Vmid(vmid) => tlb.sweep(Signature::default()).vmid(vmid),
        Op::Asid(vmid, asid) => tlb.sweep(Signature::default()).asid(vmid, asid),
        Op::AsidAndGlobals(vmid, asid) => {
            tlb.sweep(Signature::default()).asid_and_globals(vmid, asid);
        }
        Op::Addresses(vmid, asid, range) => {
            let mut signature = Signature::default();
            signature.add(asid);
            tlb.sweep(signature).addresses(vmid, asid, &range);
        }
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let vmid = || (0u16..2).prop_map(Vmid);
    let asid = || (0u16..4).prop_map(Asid);
    let addr = || {
        let base = prop_oneof![Just(0u64), Just(0xFFFF_0000_0000_0000)];
        (base, 0u64..64, 0u64..3).prop_map(|(b, page, block)| b + page * 4096 + (block << 21))
    };
    let class = (0usize..PageClass::ALL.len()).prop_map(|n| PageClass::ALL[n]);
    let space = prop_oneof![3 => asid().prop_map(Space::Asid), 1 => Just(Space::Global)];
    let filled = (vmid(), space, addr(), class, any::<[u64; 2]>()).prop_map(
        |(vmid, space, va, class, payload)| Entry {
            vmid,
            space,
            va,
            class,
            payload,
        },
    );
    let granule = prop_oneof![Just(None), (1u8..4).prop_map(Granule::from_tg)];
    let range = (addr(), 1u64..40, granule).prop_map(|(addr, pages, granule)| {
        let bytes = pages * granule.map_or(4096, Granule::bytes);
        let addr = addr & !(granule.map_or(4096, Granule::bytes) - 1);
        TlbiRange {
            addr,
            bytes,
            granule,
            ttl: 0,
            leaf: false,
        }
    });
    prop_oneof![
        12 => filled.prop_map(Op::Fill),
        1 => Just(Op::Everything),
        1 => vmid().prop_map(Op::Vmid),
        2 => (vmid(), asid()).prop_map(|(v, a)| Op::Asid(v, a)),
        1 => (vmid(), asid()).prop_map(|(v, a)| Op::AsidAndGlobals(v, a)),
        6 => (vmid(), proptest::option::of(asid()), range)
            .prop_map(|(v, a, r)| Op::Addresses(v, a, r)),
    ]
}

proptest! {
    #[test]
    fn law7_no_lookup_hits_what_the_architecture_has_removed(
        ops in proptest::collection::vec(any_op(), 1..80), small: bool,
    ) {
        let tlb = Tlb::new(TlbSettings { log2_entries: if small { 7 } else { 12 }, log2_asids: 6 });
        let mut naive = Naive::default();
        for op in &ops {
            apply(&tlb, op);
            naive.apply(op);
            for Entry { vmid, space, va, .. } in ops.iter().filter_map(|op| match op {
                Op::Fill(entry) => Some(*entry),
                _ => None,
            }) {
                let asid = if let Space::Asid(asid) = space { asid } else { Asid(3) };
                if let Some(hit) = tlb.lookup(vmid, asid, va) {
                    prop_assert!(naive.knows(vmid, asid, hit.payload), "stale {hit:?} after {op:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_number_is_unique_within_its_class(va: u64, class in 0usize..10) {
        let class = PageClass::ALL[class];
        let tag = Tag::of(Space::Global, va, class);
        prop_assert_eq!(tag.class(), class);
        prop_assert_eq!(tag.page(), (va & ((1 << 53) - 1)) >> class.shift());
    }
}
