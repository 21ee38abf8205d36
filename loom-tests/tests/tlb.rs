//! A walk against the invalidation of what it has read, and a lookup against the exchange of what it
//! finds.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::{model, twin};
use smmu_core::range::TlbiRange;
use smmu_core::tlb::{Entry, PageClass, Signature, Space, Tlb, TlbSettings};
use smmu_core::{Asid, Vmid};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

const VA: u64 = 0x5000;
const ASID: Asid = Asid(1);
const OTHER_ASID: Asid = Asid(2);

fn one_page(addr: u64) -> TlbiRange {
    TlbiRange {
        addr,
        bytes: 4096,
        granule: None,
        ttl: 0,
        leaf: true,
    }
}

/// The guest changes a descriptor from 1 to 2 and has the old translation removed; meanwhile a
/// device walks and fills. Afterwards the cache holds the new translation or none.
fn a_fill_and(remove: fn(&Tlb)) {
    let tlb = Arc::new(Tlb::new(TlbSettings {
        log2_entries: 7,
        log2_asids: 4,
    }));
    let descriptor = Arc::new(AtomicU64::new(1));
    let device = {
        let (tlb, descriptor) = (tlb.clone(), descriptor.clone());
        thread::spawn(move || {
            let ticket = tlb.ticket(Vmid(0), ASID);
            let entry = Entry {
                vmid: Vmid(0),
                space: Space::Asid(ASID),
                va: VA,
                class: PageClass::Page4K,
                payload: [descriptor.load(Ordering::Relaxed), 0],
            };
            tlb.fill(&entry, &ticket);
        })
    };
    descriptor.store(2, Ordering::Relaxed);
    remove(&tlb);
    device.join().expect("device");
    if let Some(hit) = tlb.lookup(Vmid(0), ASID, VA) {
        assert_eq!(
            hit.payload[0], 2,
            "a stale translation survived its invalidation"
        );
    }
}

/// By address: the entry is taken out, or the fill finds the sweep in the log.
fn a_fill_and_a_sweep() {
    a_fill_and(|tlb| {
        let mut signature = Signature::default();
        signature.add(Some(ASID));
        let range = one_page(VA);
        tlb.sweep(signature).addresses(Vmid(0), Some(ASID), &range);
    });
}

/// By address; and the numbers that the log can tell apart go round before the filler has read it.
fn a_fill_and_many_sweeps() {
    a_fill_and(|tlb| {
        for asid in [ASID, OTHER_ASID, OTHER_ASID, OTHER_ASID, OTHER_ASID] {
            let mut signature = Signature::default();
            signature.add(Some(asid));
            let sweep = tlb.sweep(signature);
            if asid == ASID {
                sweep.addresses(Vmid(0), Some(ASID), &one_page(VA));
            }
        }
    });
}

/// The whole ASID: the entry is born with a counter, and who sees the new counter must see the new
/// descriptor.
fn a_fill_and_an_asid() {
    a_fill_and(|tlb| tlb.sweep(Signature::default()).asid(Vmid(0), ASID));
}

fn page(va: u64, payload: u64) -> Entry {
    Entry {
        vmid: Vmid(0),
        space: Space::Asid(ASID),
        va,
        class: PageClass::Page4K,
        payload: [payload; 2],
    }
}

/// A slot is filled with another page's entry while it is looked up: what is found is what was
/// looked for, whole.
fn a_lookup_and_a_refill() {
    // In a loom build a set has one way.
    const OTHER: u64 = VA + 0x1000;
    let tlb = Arc::new(Tlb::new(TlbSettings {
        log2_entries: 7,
        log2_asids: 4,
    }));
    assert!(tlb.fill(&page(VA, 1), &tlb.ticket(Vmid(0), ASID)));
    let walker = {
        let tlb = tlb.clone();
        thread::spawn(move || {
            assert!(tlb.fill(&page(OTHER, 2), &tlb.ticket(Vmid(0), ASID)));
        })
    };
    for (va, payload) in [(VA, 1), (OTHER, 2)] {
        if let Some(hit) = tlb.lookup(Vmid(0), ASID, va) {
            assert_eq!(hit.payload, [payload; 2], "another page's translation");
        }
    }
    walker.join().expect("walker");
    assert!(tlb.lookup(Vmid(0), ASID, VA).is_none(), "evicted");
    let hit = tlb.lookup(Vmid(0), ASID, OTHER).expect("cached");
    assert_eq!(hit.payload, [2; 2]);
}

#[test]
fn law3_tlb_lookup_against_refill() {
    model("tlb lookup against refill", 3, a_lookup_and_a_refill);
}

#[test]
fn tlb_lookup_without_its_fence_is_found_out() {
    twin(
        "tlb lookup against refill",
        Site::LookupFence,
        3,
        a_lookup_and_a_refill,
    );
}

#[test]
fn tlb_refill_without_its_fence_is_found_out() {
    twin(
        "tlb lookup against refill",
        Site::RefillFence,
        3,
        a_lookup_and_a_refill,
    );
}

#[test]
fn law3_tlb_fill_against_sweep() {
    model("tlb fill", 3, a_fill_and_a_sweep);
}

#[test]
fn tlb_fill_without_its_fence_is_found_out() {
    twin("tlb fill", Site::FillFence, 3, a_fill_and_a_sweep);
}

#[test]
fn law3_tlb_fill_against_a_log_that_has_gone_round() {
    model("tlb fill, many sweeps", 2, a_fill_and_many_sweeps);
}

#[test]
fn tlb_fill_that_does_not_look_at_the_number_again_is_found_out() {
    twin(
        "tlb fill, many sweeps",
        Site::LogAgain,
        2,
        a_fill_and_many_sweeps,
    );
}

#[test]
fn law3_tlb_fill_against_asid() {
    model("tlb fill against asid", 3, a_fill_and_an_asid);
}

#[test]
fn tlb_ticket_without_its_acquire_is_found_out() {
    twin(
        "tlb fill against asid",
        Site::TicketAcquire,
        3,
        a_fill_and_an_asid,
    );
}
