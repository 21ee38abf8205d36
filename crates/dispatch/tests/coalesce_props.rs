//! Coalescing against a model that removes exactly what the architecture demands (law 7).

use dispatch::coalesce::Coalescer;
use dispatch::{AddressCosts, BackendCapabilities, Batch, Costs, Invalidation, Scope, Stage};
use proptest::prelude::*;
use smmu_core::decode::SinglePage;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, StreamId, Vmid};

/// Something that an SMMU may have cached.
#[derive(Clone, Copy, Debug)]
struct Cached {
    vmid: Vmid,
    stage_two: bool,
    /// Of EL2, in VMID 0.
    el2: bool,
    /// `None` is global.
    asid: Option<Asid>,
    granule: Granule,
    /// Level of the leaf, or of the table descriptor.
    level: u8,
    table: bool,
    va: u64,
}

impl Cached {
    fn base_and_last(&self) -> (u64, u64) {
        // A table descriptor at level n stands for what a leaf there would map.
        let span = 1u64 << self.granule.leaf_shift(self.level);
        let base = self.va & !(span - 1);
        (base, base + (span - 1))
    }
}

/// IHI 0070, 4.4.1 and 4.4.2, and our own `ContextAndGlobals`: what *must* go.
fn must_go(request: &Invalidation, cached: &Cached) -> bool {
    goes(request, cached, false)
}

/// What a backend removes; one that takes no ranges without a granule knows their first page only.
fn goes(request: &Invalidation, cached: &Cached, any_granule: bool) -> bool {
    let stage = match request.stage {
        Stage::One => !cached.stage_two,
        Stage::Two => cached.stage_two,
        Stage::Both => !cached.el2,
        Stage::El2 => true,
    } && cached.el2 == (request.stage == Stage::El2);
    let vmid = request.vmid == cached.vmid;
    match request.scope {
        Scope::All => true,
        Scope::Vmid => stage && vmid,
        Scope::Context(asid) => stage && vmid && cached.asid == Some(asid),
        Scope::ContextAndGlobals(asid) => {
            stage && vmid && (cached.asid.is_none() || cached.asid == Some(asid))
        }
        Scope::Addresses { asid, range } => {
            let whose = asid.is_none() || cached.asid.is_none() || cached.asid == asid;
            stage && vmid && whose && addressed(&range, cached, any_granule)
        }
        Scope::DeviceTlb { .. } | Scope::ContextTable { .. } => false,
    }
}

fn addressed(range: &TlbiRange, cached: &Cached, any_granule: bool) -> bool {
    let (base, last) = cached.base_and_last();
    if cached.table && range.leaf {
        return false;
    }
    match range.granule {
        None if any_granule => base <= range.last() && range.addr <= last,
        None => base <= range.addr && range.addr <= last,
        Some(granule) => {
            let level = match (range.ttl, cached.table) {
                (0, _) => true,
                (ttl, false) => cached.level == ttl,
                (ttl, true) => cached.level < ttl,
            };
            level && granule == cached.granule && base <= range.last() && range.addr <= last
        }
    }
}

/// As the first pass hands requests over: single pages on a way of their own, and what continues the
/// last one by a page is not looked at again.
#[derive(Default)]
struct FirstPass {
    continued_by: Option<Invalidation>,
}

impl FirstPass {
    fn push(&mut self, coalescer: &mut Coalescer, request: Invalidation, origin: u32) {
        let next = |request| {
            let addr = single_page(&request)?.addr.checked_add(4096)?;
            let Scope::Addresses { asid, range } = request.scope else {
                return None;
            };
            let range = TlbiRange { addr, ..range };
            let scope = Scope::Addresses { asid, range };
            Some(Invalidation { scope, ..request })
        };
        if self.continued_by == Some(request) {
            coalescer.extend(4096);
            self.continued_by = next(request);
        } else if let Some(page) = single_page(&request) {
            let continues = coalescer.push_page(&page, origin);
            self.continued_by = next(request).filter(|_| continues);
        } else {
            coalescer.push(request, origin);
            self.continued_by = None;
        }
    }
}

fn single_page(request: &Invalidation) -> Option<SinglePage> {
    let Scope::Addresses { asid, range } = request.scope else {
        return None;
    };
    let page = range.granule == Some(Granule::K4) && range.bytes == 4096 && range.ttl != 0;
    (page && request.stage == Stage::One).then_some(SinglePage {
        vmid: request.vmid,
        asid: asid?,
        addr: range.addr,
        ttl: range.ttl,
        leaf: range.leaf,
    })
}

fn coalesced(requests: &[Invalidation], capabilities: &BackendCapabilities) -> Vec<Invalidation> {
    let mut coalescer = Coalescer::new(capabilities);
    let mut pass = FirstPass::default();
    for (origin, request) in requests.iter().enumerate() {
        pass.push(&mut coalescer, *request, origin as u32);
    }
    coalescer.finish();
    let (mut batch, mut all) = (Batch::new(), Vec::new());
    while coalescer.next_batch(&mut batch) {
        assert!(
            batch.requests().all(|r| r.vmid == batch.vmid()),
            "one VMID each"
        );
        all.extend(batch.requests());
    }
    all
}

fn capabilities(ranges: bool, widen_above: u64) -> BackendCapabilities {
    BackendCapabilities {
        ranges,
        ranges_of_any_granule: false,
        caches_contexts: false,
        may_block: false,
        widen_above,
    }
}

fn any_granule() -> impl Strategy<Value = Granule> {
    (0usize..3).prop_map(|n| Granule::ALL[n])
}

fn any_range() -> impl Strategy<Value = TlbiRange> {
    let granule = prop_oneof![2 => any_granule().prop_map(Some), 1 => Just(None)];
    (0u64..48, 1u64..5, granule, 0u8..4, any::<bool>()).prop_map(
        |(at, count, granule, ttl, leaf)| {
            let unit = granule.map_or(4096, Granule::bytes);
            let (bytes, ttl) = if granule.is_some() {
                (count * unit, ttl)
            } else {
                (4096, 0)
            };
            TlbiRange {
                addr: at * unit,
                bytes,
                granule,
                ttl,
                leaf,
            }
        },
    )
}

fn any_request() -> impl Strategy<Value = Invalidation> {
    let vmid = (0u16..2).prop_map(Vmid);
    let asid = || (0u16..3).prop_map(Asid);
    let addresses = |asid, range| Scope::Addresses { asid, range };
    let single = (0u64..48, 1u8..4, any::<bool>()).prop_map(|(page, ttl, leaf)| TlbiRange {
        addr: page << 12,
        bytes: 4096,
        granule: Some(Granule::K4),
        ttl,
        leaf,
    });
    let scope = prop_oneof![
        20 => (asid(), single).prop_map(move |(a, r)| addresses(Some(a), r)),
        20 => (asid(), any_range()).prop_map(move |(a, r)| addresses(Some(a), r)),
        4 => any_range().prop_map(move |r| addresses(None, r)),
        3 => asid().prop_map(Scope::Context),
        1 => asid().prop_map(Scope::ContextAndGlobals),
        1 => Just(Scope::Vmid),
    ];
    let stage = prop_oneof![
        8 => Just(Stage::One),
        1 => Just(Stage::Two),
        1 => Just(Stage::Both),
        4 => Just(Stage::El2),
    ];
    (vmid, stage, scope).prop_map(|(vmid, stage, scope)| {
        let vmid = if stage == Stage::El2 { Vmid(0) } else { vmid };
        let stage = match scope {
            _ if stage == Stage::El2 => stage,
            Scope::Context(_) | Scope::ContextAndGlobals(_) => Stage::One,
            Scope::Addresses { asid: Some(_), .. } => Stage::One,
            Scope::Vmid if stage == Stage::Two => Stage::Both,
            _ => stage,
        };
        Invalidation { vmid, stage, scope }
    })
}

fn any_cached() -> impl Strategy<Value = Cached> {
    let asid = proptest::option::of((0u16..3).prop_map(Asid));
    let place = (0u64..1 << 22, any_granule(), 1u8..4);
    (0u16..2, 0u8..4, asid, place, any::<bool>()).prop_map(
        |(vmid, kind, asid, (va, granule, level), table)| Cached {
            vmid: Vmid(if kind == 0 { 0 } else { vmid }),
            stage_two: kind == 1,
            el2: kind == 0,
            asid,
            granule,
            // A table descriptor of the last level would be a leaf.
            level: if table { level.min(2) } else { level },
            table,
            va,
        },
    )
}

/// A backend whose prices have nothing in common.
const PRICES: Costs = Costs {
    call: 100_000,
    request: 1000,
    addresses: AddressCosts {
        first: [7, 11, 13, 17],
        further: 3,
    },
    addresses_of_all: AddressCosts {
        first: [70, 110, 130, 170],
        further: 30,
    },
    most: 400,
    device: 0,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    /// What a window is said to cost is never less than what it comes to.
    #[test]
    fn law8_no_window_is_cheaper_than_its_batches(
        requests in proptest::collection::vec(any_request(), 1..48), any_granule: bool,
    ) {
        let mut coalescer = Coalescer::new(&BackendCapabilities {
            ranges_of_any_granule: any_granule,
            ..capabilities(true, 0x8000)
        });
        coalescer.set_costs(&PRICES);
        let mut said = 0;
        let mut pass = FirstPass::default();
        for (request, origin) in requests.iter().zip(0..) {
            pass.push(&mut coalescer, *request, origin);
            prop_assert!(coalescer.spent() >= said, "it never falls");
            said = coalescer.spent();
        }
        let (mut cost, mut batch) = (0, Batch::new());
        coalescer.finish();
        while coalescer.next_batch(&mut batch) {
            let requests = batch.requests().map(|request| PRICES.of(&request));
            cost += u64::from(PRICES.call) + requests.sum::<u64>();
        }
        prop_assert!(said >= cost, "{said} said, {cost} it is");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn law7_coalesced_requests_remove_at_least_as_much(
        requests in proptest::collection::vec(any_request(), 1..24),
        entries in proptest::collection::vec(any_cached(), 64),
        ranges: bool, any_granule: bool,
        widen_above in prop_oneof![Just(u64::MAX), Just(0x8000u64)],
    ) {
        let capabilities = BackendCapabilities {
            ranges_of_any_granule: any_granule,
            ..capabilities(ranges, widen_above)
        };
        let fewer = coalesced(&requests, &capabilities);
        prop_assert!(fewer.len() <= requests.len());
        for entry in &entries {
            if let Some(request) = requests.iter().find(|request| must_go(request, entry)) {
                prop_assert!(
                    fewer.iter().any(|request| goes(request, entry, any_granule)),
                    "{request:?} removes {entry:?}, but none of {fewer:?} does"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    /// Whatever a ring that shares a call asks for, something that removes it names the ring: its SYNC
    /// waits for the accesses that this concerns.
    #[test]
    fn law3_a_shared_request_names_every_ring_that_needs_it(
        rings in proptest::collection::vec(proptest::collection::vec(any_request(), 0..8), 2..5),
        entries in proptest::collection::vec(any_cached(), 64),
        ranges: bool, any_granule: bool,
        widen_above in prop_oneof![Just(u64::MAX), Just(0x8000u64)],
    ) {
        let mut coalescer = Coalescer::new(&BackendCapabilities {
            ranges_of_any_granule: any_granule,
            ..capabilities(ranges, widen_above)
        });
        let mut origin = 0..;
        for (nth, requests) in (0..).zip(&rings) {
            coalescer.begin_ring(nth);
            // The next command does not continue another ring's.
            let mut pass = FirstPass::default();
            for (request, origin) in requests.iter().zip(&mut origin) {
                pass.push(&mut coalescer, *request, origin);
            }
        }
        coalescer.finish();
        let mut batch = Batch::new();
        let mut kept = Vec::new();
        while coalescer.next_batch(&mut batch) {
            let requests = batch.requests().enumerate();
            kept.extend(requests.map(|(at, request)| (request, batch.rings_of(at))));
        }
        for (nth, requests) in rings.iter().enumerate() {
            let own = |entry: &&Cached| requests.iter().any(|request| must_go(request, entry));
            for entry in entries.iter().filter(own) {
                let covered = kept.iter().any(|(request, rings)| {
                    goes(request, entry, any_granule) && rings >> nth & 1 != 0
                });
                prop_assert!(covered, "ring {nth} needs {entry:?} removed, by none of {kept:?}");
            }
        }
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

fn va(asid: u16, range: TlbiRange) -> Invalidation {
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

fn page(n: u64, granule: Option<Granule>, ttl: u8) -> TlbiRange {
    TlbiRange {
        addr: n << 12,
        bytes: 4096,
        granule,
        ttl,
        leaf: true,
    }
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

proptest! {
    /// A batch gives back what it was given.
    #[test]
    fn law7_a_batch_keeps_requests_as_they_are(
        requests in proptest::collection::vec(any_request(), 2..40), stream: u32,
    ) {
        let device = Invalidation {
            scope: Scope::DeviceTlb {
                stream: StreamId(stream),
                pasid: None,
                global: false,
                addr: 0x5000,
                size: 3,
            },
            ..Invalidation::everything()
        };
        let all: Vec<_> = requests.iter().flat_map(|r| [*r, device]).collect();
        let mut batch = Batch::new();
        all.iter().zip(0..).for_each(|(request, at)| batch.push(*request, at));
        prop_assert!(batch.requests().eq(all.iter().copied()));
        batch.retire(3);
        prop_assert!(batch.requests().eq(all[3..].iter().copied()));
        prop_assert!((0..batch.len()).all(|at| batch.request(at) == all[at + 3]));
    }
}
