//! Translations through a stage 2 of the guest's, against invalidations of that stage: alone in the
//! cache, and through a port with a SYNC behind them (law 3).
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::software::{SmallSmmu, access_against_sync, read};
use loom_tests::{model, twin, wrong};
use smmu_core::range::TlbiRange;
use smmu_core::tlb::{Entry, PageClass, Signature, Space, Tlb, TlbSettings};
use smmu_core::{Asid, Vmid};
use vcmdq_sync::atomic::{AtomicU64, Ordering};
use vcmdq_sync::weak::Site;

const VMID: Vmid = Vmid(0);
const ASID: Asid = Asid(1);
const VA: u64 = 0x5000;
/// In another set than the address.
const IPA: u64 = 0x9000;

fn entry(space: Space, va: u64, payload: u64) -> Entry {
    Entry {
        vmid: VMID,
        space,
        va,
        class: PageClass::Page4K,
        payload: [payload, 0],
    }
}

/// TLBI_S2_IPA of the page, as a batch of its own.
fn s2_ipa(tlb: &Tlb) {
    let mut signature = Signature::default();
    signature.add_stage2(true);
    let range = TlbiRange {
        addr: IPA,
        bytes: 4096,
        granule: None,
        ttl: 0,
        leaf: true,
    };
    tlb.sweep(signature).intermediate(VMID, &range);
}

/// The guest changes a descriptor of stage 2 from 1 to 2 and has the old page removed; meanwhile a device
/// translates through both stages, with the page from the cache or from the descriptor. Afterwards
/// neither the page nor what was combined with it is the old one.
fn a_nested_refill_and(is_cached: bool, remove: fn(&Tlb)) {
    let tlb = Arc::new(Tlb::new(TlbSettings {
        log2_entries: 7,
        log2_asids: 4,
    }));
    let descriptor = Arc::new(AtomicU64::new(1));
    if is_cached {
        let page = entry(Space::Stage2, IPA, 1);
        assert!(tlb.fill(&page, &tlb.ticket(VMID, ASID)));
    }
    let device = {
        let (tlb, descriptor) = (tlb.clone(), descriptor.clone());
        thread::spawn(move || {
            let ticket = tlb.ticket(VMID, ASID);
            let page = match tlb.lookup_stage2(VMID, IPA) {
                Some(hit) => hit.payload[0],
                None => {
                    let walked = descriptor.load(Ordering::Relaxed);
                    tlb.fill(&entry(Space::Stage2, IPA, walked), &ticket);
                    walked
                }
            };
            tlb.fill_nested(&entry(Space::Asid(ASID), VA, page), &ticket);
        })
    };
    descriptor.store(2, Ordering::Relaxed);
    remove(&tlb);
    device.join().expect("device");
    let view = tlb.view(VMID, ASID).nested();
    for found in [tlb.lookup_stage2(VMID, IPA), tlb.lookup_in(&view, VA)] {
        let old = found.is_some_and(|hit| hit.payload[0] == 1);
        assert!(!old, "what was removed is cached");
    }
}

/// One page of stage 2, and all of stage 1 behind it, as Linux does.
fn a_refill_and_s2_ipa() {
    a_nested_refill_and(false, |tlb| {
        s2_ipa(tlb);
        tlb.sweep(Signature::default()).vmid(VMID);
    });
}

/// The same with the page in the cache: who sees the new counter of stage 1 does not find it.
fn a_combination_and_s2_ipa() {
    a_nested_refill_and(true, |tlb| {
        s2_ipa(tlb);
        tlb.sweep(Signature::default()).vmid(VMID);
    });
}

fn a_refill_and_s12_vmall() {
    a_nested_refill_and(false, |tlb| {
        let sweep = tlb.sweep(Signature::default());
        sweep.stage2(VMID);
        sweep.vmid(VMID);
    });
}

const OLD: u64 = 0x40_0000;
const NEW: u64 = 0x60_0000;

/// A device translates through both stages, with a configuration that it knows and nothing else
/// cached. The guest moves the block of stage 2: nobody uses the old one after the SYNC, and nothing of it
/// is found later.
fn a_nested_access_and_a_sync(invalidate: fn(&SmallSmmu)) {
    let small = SmallSmmu::new();
    small.nest_to(OLD);
    let mut port = small.port();
    let first = port.translate(None, read(0x1000), 8, |_| ());
    assert_eq!(first.map(|guard| guard.output().address), Ok(OLD + 0x1000));
    small.invalidate_both_stages();
    let mut port = access_against_sync(&small, port, [OLD, NEW], |small| {
        small.map_stage2(NEW);
        invalidate(small);
    });
    let later = port.translate(None, read(0x1000), 8, |_| ());
    let later = later.map(|guard| guard.output().address);
    assert_eq!(later, Ok(NEW + 0x1000), "what was removed is cached");
}

fn a_nested_access_and_s2_ipa() {
    a_nested_access_and_a_sync(SmallSmmu::invalidate_stage2);
}

fn a_nested_access_and_s12_vmall() {
    a_nested_access_and_a_sync(SmallSmmu::invalidate_both_stages);
}

#[test]
fn law3_nested_refill_against_s2_ipa() {
    model("nested refill against S2_IPA", 3, a_refill_and_s2_ipa);
    model("combination against S2_IPA", 3, a_combination_and_s2_ipa);
}

#[test]
fn nested_refill_without_its_fence_is_found_out() {
    let name = "nested refill against S2_IPA";
    twin(name, Site::FillFence, 3, a_refill_and_s2_ipa);
}

#[test]
fn combination_without_the_acquire_of_its_ticket_is_found_out() {
    let name = "combination against S2_IPA";
    twin(name, Site::TicketAcquire, 3, a_combination_and_s2_ipa);
}

#[test]
fn law3_nested_refill_against_s12_vmall() {
    model("nested refill against S12_VMALL", 3, a_refill_and_s12_vmall);
}

#[test]
fn nested_refill_without_the_acquire_of_its_ticket_is_found_out() {
    let name = "nested refill against S12_VMALL";
    twin(name, Site::TicketAcquire, 3, a_refill_and_s12_vmall);
}

#[test]
fn law3_nested_access_against_s2_ipa_and_sync() {
    let name = "nested access against S2_IPA and SYNC";
    model(name, 2, a_nested_access_and_s2_ipa);
}

#[test]
fn law3_nested_access_against_s12_vmall_and_sync() {
    let name = "nested access against S12_VMALL and SYNC";
    model(name, 2, a_nested_access_and_s12_vmall);
}

/// The guest forgets stage 2, which the model must see.
#[test]
fn nested_access_against_nh_all_only_is_found_out() {
    let name = "nested access against NH_ALL and SYNC";
    wrong(name, 2, || {
        a_nested_access_and_a_sync(SmallSmmu::invalidate_all_of_stage1);
    });
}

#[test]
fn nested_access_without_the_fence_of_its_fill_is_found_out() {
    let name = "nested access against S2_IPA and SYNC";
    twin(name, Site::FillFence, 2, a_nested_access_and_s2_ipa);
}
