//! Where entries lie and which of them have to go.

use super::*;
use crate::range::{Granule, TlbiRange};
use alloc::vec::Vec;

const VMID: Vmid = Vmid(0);
/// Of the small cache that is used here.
const CAPACITY: u64 = 1 << 12;

fn cache() -> Tlb {
    Tlb::new(TlbSettings {
        log2_entries: 12,
        log2_asids: 8,
    })
}

fn fill(tlb: &Tlb, asid: u16, va: u64, class: PageClass) {
    let asid = Asid(asid);
    let entry = Entry {
        vmid: VMID,
        space: Space::Asid(asid),
        va,
        class,
        payload: [va, 0],
    };
    assert!(
        tlb.fill(&entry, &tlb.ticket(VMID, asid)),
        "nobody else fills"
    );
}

/// Fills pages of 4 KiB, and counts how many of them are there afterwards.
fn fill_pages(tlb: &Tlb, asid: u16, pages: &[u64]) -> usize {
    for page in pages {
        fill(tlb, asid, page << 12, PageClass::Page4K);
    }
    count(tlb, asid, pages)
}

fn count(tlb: &Tlb, asid: u16, pages: &[u64]) -> usize {
    let is_there = |page: &&u64| tlb.lookup(VMID, Asid(asid), **page << 12).is_some();
    pages.iter().filter(is_there).count()
}

fn remove(tlb: &Tlb, asid: Option<u16>, addr: u64, pages: u64) {
    let asid = asid.map(Asid);
    let mut signature = Signature::default();
    signature.add(asid);
    let range = TlbiRange {
        addr,
        bytes: pages << 12,
        granule: Some(Granule::K4),
        ttl: 3,
        leaf: true,
    };
    tlb.sweep(signature).addresses(VMID, asid, &range);
}

#[test]
fn one_asid_may_use_the_whole_capacity() {
    for asid in [1, 7, 0xFFFF] {
        let pages: Vec<u64> = (0x1234..0x1234 + CAPACITY / 8 * 8).collect();
        // The first and the last group are cut, so a set may be wanted by sixteen pages.
        let there = fill_pages(&cache(), asid, &pages);
        assert!(there >= pages.len() - 8, "{there} of {}", pages.len());
        let most = &pages[..pages.len() * 3 / 4];
        assert_eq!(fill_pages(&cache(), asid, most), most.len());
    }
}

#[test]
fn pages_far_from_each_other_use_the_whole_capacity() {
    // 2, 16 and 128 MiB: as many of one page each as there are sets.
    for log2_pages in [9, 12, 15] {
        let pages: Vec<u64> = (0..CAPACITY / 8).map(|n| n << log2_pages).collect();
        let there = fill_pages(&cache(), 1, &pages);
        let most = pages.len() * 3 / 4;
        assert!(
            there >= most,
            "{there} of {}, 2^{log2_pages} apart",
            pages.len()
        );
    }
}

#[test]
fn asids_that_map_the_same_few_pages_do_not_meet() {
    let tlb = cache();
    let pages: Vec<u64> = (0x100..0x100 + CAPACITY / 64).collect();
    for asid in 300..364 {
        fill_pages(&tlb, asid, &pages);
    }
    let there: usize = (300..364).map(|asid| count(&tlb, asid, &pages)).sum();
    assert_eq!(there, 64 * pages.len());
}

#[test]
fn the_dead_are_replaced_before_the_living() {
    // Four pages of each group of eight, so that two ASIDs fill every set.
    let half: Vec<u64> = (0..CAPACITY).filter(|page| page % 8 < 4).collect();
    let tlb = cache();
    assert_eq!(fill_pages(&tlb, 1, &half), half.len());
    assert_eq!(fill_pages(&tlb, 2, &half), half.len());
    tlb.sweep(Signature::default()).asid(VMID, Asid(1));
    assert_eq!(fill_pages(&tlb, 3, &half), half.len());
    assert_eq!(count(&tlb, 2, &half), half.len(), "those that live stay");
    tlb.sweep(Signature::default()).asid(VMID, Asid(2));
    assert_eq!(fill_pages(&tlb, 4, &half), half.len());
    assert_eq!(count(&tlb, 3, &half), half.len(), "though they are older");
}

#[test]
fn the_oldest_of_a_set_is_replaced_first() {
    let tlb = cache();
    // Those of one set; its ways are filled in this order, one of them a second time.
    let order = [3, 0, 7, 1, 6, 2, 5, 4];
    fill_pages(&tlb, 1, &order);
    fill_pages(&tlb, 1, &[3]);
    let next: Vec<u64> = (1..=8).map(|n| CAPACITY * (n + 1) - n * 8).collect();
    for (n, oldest) in [0, 7, 1, 6, 2, 5, 4, 3].into_iter().enumerate() {
        assert_eq!(count(&tlb, 1, &[oldest]), 1, "not its turn yet");
        fill_pages(&tlb, 1, &next[n..=n]);
        assert_eq!(count(&tlb, 1, &[oldest]), 0, "its turn");
    }
}

#[test]
fn law7_an_address_without_an_asid_is_found_wherever_it_lies() {
    let tlb = cache();
    let pages: Vec<u64> = (0..16).chain(CAPACITY * 3..CAPACITY * 3 + 16).collect();
    for asid in 0..64 {
        fill_pages(&tlb, asid, &pages);
    }
    let there = |tlb: &Tlb| -> usize { (0..64).map(|asid| count(tlb, asid, &pages)).sum() };
    assert!(there(&tlb) > 256, "there is something to remove");
    remove(&tlb, None, (CAPACITY * 3) << 12, 16);
    remove(&tlb, None, 0, 16);
    assert_eq!(there(&tlb), 0);
}

#[test]
fn law7_a_range_as_long_as_the_cache_leaves_nothing_of_it() {
    for (pages, asid) in [
        (CAPACITY - 16, Some(1)),
        (CAPACITY, Some(1)),
        (CAPACITY / 64, None),
    ] {
        let tlb = cache();
        let all: Vec<u64> = (5..5 + pages).collect();
        assert!(fill_pages(&tlb, 1, &all) + 16 >= all.len());
        fill_pages(&tlb, 2, &[4]);
        remove(&tlb, asid, 5 << 12, pages);
        assert_eq!(count(&tlb, 1, &all), 0, "{pages} pages of {asid:?}");
    }
}

/// Two devices that walk at the same time leave a page in two ways. When its ASID has been invalidated,
/// what is walked and filled next is found.
#[test]
fn a_page_that_was_filled_twice_is_found_after_its_asid_was_invalidated() {
    // Not the first way of its set.
    const VA: u64 = 0x3000;
    let (tlb, asid) = (cache(), Asid(1));
    let filled = Filled {
        owner: Owner::of(VMID),
        tag: Tag::of(Space::Asid(asid), VA, PageClass::Page4K),
        leaf: Leaf {
            stamp: tlb.ticket(VMID, asid).stamp(Space::Asid(asid)),
            payload: [1, 0],
        },
    };
    let stamp_of = |vmid, space| tlb.generations.stamp(vmid, space);
    let meanwhile = || {
        fill(&tlb, asid.0, VA, PageClass::Page4K);
        true
    };
    assert!(tlb.table.publish(&filled, stamp_of, meanwhile));
    tlb.sweep(Signature::default()).asid(VMID, asid);
    assert!(tlb.lookup(VMID, asid, VA).is_none());
    assert_eq!(fill_pages(&tlb, asid.0, &[VA >> 12]), 1);
}
