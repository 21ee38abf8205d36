//! One request fewer where that saves a block, and nothing lost by it.

use crate::common::*;
use dispatch::{Backend, Invalidation, Scope};
use proptest::prelude::*;
use smmu_core::Asid;
use smmu_core::range::TlbiRange;
use vcmdq_iommufd::ArmSmmuv3;
use vcmdq_iommufd::testing::Counting;

fn calls(requests: &[Invalidation]) -> usize {
    let host = Host::new(Counting::Converted);
    host.backend.submit(&batch(requests)).expect("taken");
    let calls = host.kernel.take_calls();
    assert!(all_done(&host.kernel.take_executed(), requests));
    let joined = host.backend.metrics().joined;
    assert_eq!(calls, [requests.len() - joined as usize]);
    calls[0]
}

/// `count` requests far from each other, but for the last `near`, each of which is close to the one before.
fn with_near(count: usize, near: usize, distance: u64) -> Vec<Invalidation> {
    let mut requests = far(count);
    for n in 0..near {
        let first = count - 2 * (n + 1);
        requests[first + 1] = pages(((first as u64) << 12) + distance, 1);
    }
    requests
}

#[test]
fn law7_of_64_requests_two_become_one() {
    assert_eq!(calls(&with_near(64, 1, 3)), 63);
    assert_eq!(calls(&with_near(127, 1, 16)), 126);
    assert_eq!(calls(&with_near(66, 3, 2)), 63);
}

#[test]
fn law7_nothing_is_joined_where_no_block_is_saved() {
    // Too few, too many, too far away, not enough of them.
    assert_eq!(calls(&with_near(63, 1, 3)), 63);
    assert_eq!(calls(&with_near(60, 1, 3)), 60);
    assert_eq!(calls(&with_near(70, 7, 3)), 70);
    assert_eq!(calls(&with_near(64, 1, 40)), 64);
    assert_eq!(calls(&with_near(66, 2, 3)), 66);
    // Another address space's neighbour.
    let mut requests = far(64);
    let Scope::Addresses { range, .. } = pages(1, 1).scope else {
        unreachable!("pages are addresses");
    };
    requests[1] = request(Scope::Addresses { asid: None, range });
    assert_eq!(calls(&requests), 64);
}

#[test]
fn law7_what_stands_for_two_takes_tables_and_levels_of_either() {
    let kinds = [(0, true), (0, false), (2, true), (3, true), (3, false)];
    let near = |page: u64, (ttl, leaf): (u8, bool)| {
        let range = range(page, 1);
        request(Scope::Addresses {
            asid: Some(Asid(1)),
            range: TlbiRange { ttl, leaf, ..range },
        })
    };
    for (early, late) in kinds.iter().flat_map(|a| kinds.map(|b| (*a, b))) {
        for [first, second] in [[0, 3], [3, 0]] {
            let mut requests = far(62);
            requests.push(near((62 << 12) + first, early));
            requests.push(near((62 << 12) + second, late));
            assert_eq!(calls(&requests), 63, "{early:?} {late:?}");
        }
    }
}

/// Without ranges it would be more commands.
#[test]
fn law7_nothing_is_joined_for_a_host_without_ranges() {
    let host = Host::with(Counting::Converted, ArmSmmuv3::new(false), |_| {});
    host.backend
        .submit(&batch(&with_near(64, 1, 3)))
        .expect("taken");
    assert_eq!(host.kernel.take_calls(), [64]);
}

/// What a ring is charged for, and what is done again, goes by the request's own place.
#[test]
fn law4_a_joined_request_that_is_refused_is_the_earlier_one() {
    let host = Host::new(Counting::Converted);
    let requests = with_near(64, 1, 3);
    let mut one = requests.clone();
    one.truncate(63);
    // Pages 62 and 65 of the one request that they become.
    let both = pages(62 << 12, 4);
    host.backend.submit(&batch(&[both])).expect("taken");
    host.kernel.refuse(host.kernel.take_executed()[0]);
    let rejected = host.backend.submit(&batch(&requests)).expect_err("refused");
    assert_eq!(rejected.accepted, 62);
    assert!(all_done(&host.kernel.take_executed(), &requests[..62]));
    assert_eq!(host.backend.metrics().joined, 0);
}

proptest! {
    #[test]
    fn law7_what_is_joined_asks_for_no_less(
        requests in prop::collection::vec(any_request(), 63..=68),
        bad in 0usize..63,
        refused in any::<bool>(),
    ) {
        let host = Host::new(Counting::Converted);
        if refused {
            host.backend.submit(&batch(&requests[bad..=bad])).expect("taken");
            host.kernel.refuse(host.kernel.take_executed()[0]);
        }
        let done = match host.backend.submit(&batch(&requests)) {
            Ok(()) => requests.len(),
            Err(rejected) => rejected.accepted,
        };
        prop_assert!(all_done(&host.kernel.take_executed(), &requests[..done]));
    }
}
