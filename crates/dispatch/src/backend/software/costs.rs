//! What the software backend's work costs.
//!
//! The figures are those of `cargo bench -p vcmdq-benches --bench cost` on a virtual machine with two
//! CPUs (AMD EPYC), in a cache of the default size, rounded.

use crate::costs::{AddressCosts, Costs};
use smmu_core::range::Granule;
use smmu_core::tlb::Tlb;

/// The sweep's number, two full fences, a look at the guards.
const CALL: u32 = 60;
const REQUEST: u32 = 10;
/// A set somewhere.
const SET: u32 = 12;
/// One more of the same request: the processor fetches several at the same time.
const FURTHER_SET: u32 = 5;
/// The VMM's code: a guess.
const DEVICE: u32 = 500;

/// By what the cache has held so far.
pub(super) fn of(tlb: &Tlb) -> Costs {
    Costs {
        call: CALL,
        request: REQUEST,
        addresses: addresses(tlb, false),
        addresses_of_all: addresses(tlb, true),
        most: SET + sets(tlb.max_sets()),
        device: DEVICE,
    }
}

fn addresses(tlb: &Tlb, every: bool) -> AddressCosts {
    let of = |granule| tlb.sets_for_an_address(granule, every);
    let first = |granule| SET + sets(of(granule).saturating_sub(1));
    AddressCosts {
        first: [
            first(None),
            first(Some(Granule::K4)),
            first(Some(Granule::K16)),
            first(Some(Granule::K64)),
        ],
        // Blocks of larger sizes are few.
        further: sets(tlb.sets_for_a_group(every)),
    }
}

fn sets(count: u64) -> u32 {
    u32::try_from(count)
        .unwrap_or(u32::MAX)
        .saturating_mul(FURTHER_SET)
}
