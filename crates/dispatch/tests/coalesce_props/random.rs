//! Random requests and cached entries, few enough of each that they meet.

use crate::model::Cached;
use dispatch::{Invalidation, Scope, Stage};
use proptest::prelude::*;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, Vmid};

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

pub(crate) fn any_request() -> impl Strategy<Value = Invalidation> {
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

pub(crate) fn any_cached() -> impl Strategy<Value = Cached> {
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
