//! Properties of random windows.

use crate::drive::{FirstPass, capabilities, coalesced};
use crate::model::{Cached, goes, must_go};
use crate::random::{any_cached, any_request};
use dispatch::coalesce::Coalescer;
use dispatch::{AddressCosts, BackendCapabilities, Batch, Costs, Invalidation, Scope};
use proptest::prelude::*;
use smmu_core::StreamId;

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
