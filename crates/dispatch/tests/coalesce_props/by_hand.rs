//! Rules that have a name, one by one.

use crate::drive::{capabilities, coalesced};
use dispatch::coalesce::Coalescer;
use dispatch::{
    AddressCosts, BackendCapabilities, Batch, Costs, Invalidation, MAX_BATCH, Scope, Stage,
};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, Vmid};

pub(crate) fn va(asid: u16, range: TlbiRange) -> Invalidation {
    let scope = Scope::Addresses {
        asid: Some(Asid(asid)),
        range,
    };
    Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope,
    }
}

pub(crate) fn page(n: u64, granule: Option<Granule>, ttl: u8) -> TlbiRange {
    TlbiRange {
        addr: n << 12,
        bytes: 4096,
        granule,
        ttl,
        leaf: true,
    }
}

/// Linux without range invalidation: 64 pages are 64 commands. They are one request for a backend
/// that takes whatever overlaps them, and stay 64 for one that passes them on to hardware.
#[test]
fn law7_pages_of_unknown_granule_are_one_request_where_that_is_understood() {
    let pages: Vec<_> = (0..64).map(|n| va(1, page(n, None, 0))).collect();
    let of_any = |ranges_of_any_granule| BackendCapabilities {
        ranges_of_any_granule,
        ..capabilities(true, u64::MAX)
    };
    let all = TlbiRange {
        bytes: 64 << 12,
        ..page(0, None, 0)
    };
    assert_eq!(coalesced(&pages, &of_any(true)), [va(1, all)]);
    assert_eq!(coalesced(&pages, &of_any(false)), pages);
}

/// A device that does not answer is every ring's to hear of that asked it.
#[test]
fn law4_a_devices_invalidations_are_not_shared_between_rings() {
    let mut coalescer = Coalescer::new(&capabilities(true, u64::MAX));
    let scope = Scope::DeviceTlb {
        stream: StreamId(1),
        pasid: None,
        global: false,
        addr: 0,
        size: 0,
    };
    let request = Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope,
    };
    for nth in 0..2 {
        coalescer.begin_ring(nth);
        coalescer.push(request, 2 * nth);
        coalescer.push(request, 2 * nth + 1);
    }
    coalescer.finish();
    let mut batch = Batch::new();
    assert!(coalescer.device_batch(&mut batch, |_| true));
    let kept = |at| (batch.origin(at), batch.rings_of(at));
    assert_eq!((batch.len(), kept(0), kept(1)), (2, (0, 1), (2, 2)));
}

/// The bug that the naive model found first: an ASID spares the global entries that an address
/// takes.
#[test]
fn law7_an_asid_does_not_cover_an_address() {
    let asid = Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope: Scope::Context(Asid(1)),
    };
    let address = va(1, page(5, Some(Granule::K4), 3));
    for both in [[asid, address], [address, asid]] {
        let kept = coalesced(&both, &capabilities(true, u64::MAX));
        assert!(kept.contains(&address), "{kept:?}");
    }
    let wide = coalesced(
        &[va(1, page(5, Some(Granule::K4), 3))],
        &capabilities(true, 0),
    );
    assert_eq!(wide[0].scope, Scope::ContextAndGlobals(Asid(1)));
}

/// The second one: with TG=0 two neighbours are two pages of unknown size.
#[test]
fn law7_neighbours_of_unknown_granule_stay_single() {
    let kept = coalesced(
        &[va(1, page(4, None, 0)), va(1, page(5, None, 0))],
        &capabilities(true, u64::MAX),
    );
    assert_eq!(kept.len(), 2);
    let kept = coalesced(
        &[va(1, page(4, None, 0)), va(1, page(4, None, 0))],
        &capabilities(true, u64::MAX),
    );
    assert_eq!(kept.len(), 1, "the very same page is a duplicate");
}

#[test]
fn law7_different_levels_and_leaves_become_any() {
    let mut second = page(5, Some(Granule::K4), 2);
    second.leaf = false;
    let kept = coalesced(
        &[va(1, page(4, Some(Granule::K4), 3)), va(1, second)],
        &capabilities(true, u64::MAX),
    );
    let Scope::Addresses { range, .. } = kept[0].scope else {
        panic!("{kept:?}")
    };
    assert_eq!(
        (kept.len(), range.bytes, range.ttl, range.leaf),
        (1, 8192, 0, false)
    );
}

#[test]
fn neighbours_become_one_range_and_two_producers_two() {
    let pages: Vec<_> = (0..32)
        .flat_map(|n| {
            [
                va(1, page(n, Some(Granule::K4), 3)),
                va(2, page(1000 + n, Some(Granule::K4), 3)),
            ]
        })
        .collect();
    let kept = coalesced(&pages, &capabilities(true, u64::MAX));
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(coalesced(&pages, &capabilities(false, u64::MAX)).len(), 64);
}

#[test]
fn a_device_is_asked_after_every_translation_has_gone() {
    let device = Invalidation {
        vmid: Vmid(0),
        stage: Stage::One,
        scope: Scope::DeviceTlb {
            stream: 7.into(),
            pasid: None,
            global: false,
            addr: 0,
            size: 52,
        },
    };
    let mut coalescer = Coalescer::new(&capabilities(true, u64::MAX));
    coalescer.push(device, 0);
    coalescer.push(va(1, page(1, None, 0)), 1);
    coalescer.push(device, 2);
    coalescer.finish();
    let mut batch = Batch::new();
    assert!(coalescer.next_batch(&mut batch) && batch.len() == 1);
    assert!(!coalescer.next_batch(&mut batch));
    assert!(coalescer.device_batch(&mut batch, |stream| stream == 7.into()));
    assert_eq!(
        (batch.len(), batch.origin(0)),
        (1, 0),
        "the earliest command is charged"
    );
    assert!(!coalescer.device_batch(&mut batch, |_| false));
}

#[test]
fn law7_a_range_that_a_backend_cannot_name_becomes_wider() {
    let range = TlbiRange {
        addr: 0x1000,
        bytes: 0x3000,
        granule: Some(Granule::K4),
        ttl: 3,
        leaf: true,
    };
    let kept = coalesced(&[va(1, range)], &capabilities(false, u64::MAX));
    assert_eq!(kept[0].scope, Scope::ContextAndGlobals(Asid(1)));
    let ipas = Invalidation {
        vmid: Vmid(0),
        stage: Stage::Two,
        scope: Scope::Addresses { asid: None, range },
    };
    let kept = coalesced(&[ipas], &capabilities(false, u64::MAX));
    assert_eq!((kept[0].stage, kept[0].scope), (Stage::Both, Scope::Vmid));
}

/// The pages before the top of the address space, and a range that is all of it.
#[test]
fn law7_a_page_at_the_top_merges_without_wrapping() {
    let top = 0xFFFF_FFFF_FFFF_F000;
    let page = |addr: u64| va(1, page(addr >> 12, Some(Granule::K4), 3));
    let everything = TlbiRange {
        addr: 0,
        bytes: u64::MAX,
        granule: Some(Granule::K4),
        ttl: 0,
        leaf: false,
    };
    let capabilities = capabilities(true, u64::MAX);
    for requests in [
        vec![page(top), page(top - 0x1000)],
        vec![page(top - 0x1000), page(top), page(0)],
        vec![va(1, everything), page(top), page(0x5000)],
    ] {
        let kept = coalesced(&requests, &capabilities);
        for request in &requests {
            let Scope::Addresses { range, .. } = request.scope else {
                unreachable!()
            };
            let holds = |kept: &Invalidation| match kept.scope {
                Scope::Addresses { range: own, .. } => {
                    own.addr <= range.addr && own.last() >= range.last().min(u64::MAX - 1)
                }
                _ => false,
            };
            assert!(kept.iter().any(holds), "{request:?} of {kept:?}");
        }
    }
}

/// Each of these looks for what it covers. In a window of them that would be half a million looks.
#[test]
fn law8_wide_requests_do_not_look_through_a_long_window_again_and_again() {
    let whole = |vmid| Invalidation {
        vmid: Vmid(vmid),
        stage: Stage::Both,
        scope: Scope::Vmid,
    };
    let mut coalescer = Coalescer::new(&capabilities(true, u64::MAX));
    coalescer.set_costs(&Costs::NOTHING);
    for _ in 0..2 {
        coalescer.restart(&capabilities(true, u64::MAX));
        let count = MAX_BATCH as u16;
        (0..count).for_each(|n| coalescer.push(whole(n), u32::from(n)));
        // Each look has its price.
        assert!(
            (1..100_000).contains(&coalescer.spent()),
            "{}",
            coalescer.spent()
        );
        coalescer.finish();
        let mut batch = Batch::new();
        for n in 0..count {
            assert!(coalescer.next_batch(&mut batch));
            assert!(batch.requests().eq([whole(n)]), "nothing is lost");
        }
        assert!(!coalescer.next_batch(&mut batch));
    }
}

/// A guest may name a range that reaches beyond the last address. It ends there, and is not shorter
/// than nothing when it comes once more.
#[test]
fn law8_a_range_beyond_the_top_costs_no_less_when_it_comes_again() {
    let mut coalescer = Coalescer::new(&capabilities(true, u64::MAX));
    let further = AddressCosts {
        first: [1; 4],
        further: 1,
    };
    coalescer.set_costs(&Costs {
        addresses: further,
        addresses_of_all: further,
        ..Costs::default()
    });
    let top = TlbiRange {
        addr: u64::MAX << 16,
        bytes: 1 << 30,
        granule: Some(Granule::K4),
        ttl: 0,
        leaf: true,
    };
    coalescer.push(va(1, top), 0);
    let spent = coalescer.spent();
    coalescer.push(va(1, top), 1);
    assert_eq!(coalescer.spent(), spent);
    coalescer.finish();
    let mut batch = Batch::new();
    assert!(coalescer.next_batch(&mut batch));
    let to_the_top = TlbiRange {
        bytes: 1 << 16,
        ..top
    };
    assert_eq!(batch.requests().collect::<Vec<_>>(), [va(1, to_the_top)]);
}
