//! Which stage an access is refused by, found in a cache or by a walk.

use super::*;
use dispatch::backend::software::Denied;
use smmu_core::access::{Access, Operation};
use smmu_core::fault::{Fault, Place};
use smmu_core::spec::event::Class;
use smmu_core::{StreamId, SubstreamId};

/// Rows 21 and 22 of the peers' bugs, on a hit: the stage that refuses says so, with CLASS and the
/// intermediate address if it is stage 2.
#[test]
fn peers_row21_row22_a_permission_fault_on_a_hit_names_its_stage() {
    let stages = Stages::new();
    let input = |ipa: u64| {
        Fault::Permission(Place::Stage2 {
            class: Class::Input,
            ipa,
        })
    };
    let second_leaf = |ipa: u64| SECOND + 0x2000 + 8 * (ipa >> 12);
    let first_leaf = |va: u64| TABLES + 0x2000 + 8 * (va >> 12 & 0x1ff);
    let forbid = |at: u64, bits: u64| {
        let entry = stages.memory.get(at).expect("in memory");
        stages.memory.set(at, entry ^ bits);
    };
    // Stage 2 refuses writes of one page, stage 1 of the next; of the pieces stage 2 does.
    forbid(second_leaf(PAGE), 1 << 7);
    forbid(first_leaf(VA_NEIGHBOUR), 1 << 7);
    forbid(SECOND + 0x3000 + 8 * 5, 1 << 7);
    let expected = [
        (ONE, VA, input(PAGE)),
        (ONE, VA_NEIGHBOUR, Fault::Permission(Place::Stage1)),
        (ONE, VA_PIECES + 0x5000, input(PIECES + 0x5000)),
        (ALONE, PAGE, input(PAGE)),
    ];
    let check = |when: &str| {
        for (who, address, fault) in expected {
            let failed = stages.write_fails(who, address);
            assert_eq!(failed.fault, fault, "{when}: {address:#x}");
            let record = failed.record(None);
            let second = fault != Fault::Permission(Place::Stage1);
            assert_eq!((record.dw1().s2(), record.dw1().class()), (second, 2));
            assert_eq!(record.input_addr(), address);
        }
    };
    check("walked");
    for (who, address, _) in expected {
        stages.read(who, address);
    }
    check("cached");
    // Both refuse: stage 1 comes first.
    forbid(first_leaf(VA), 1 << 7);
    stages.execute(&[[of_vmid(0x10), 0]]);
    stages.read(ONE, VA);
    let failed = stages.write_fails(ONE, VA);
    assert_eq!(failed.fault, Fault::Permission(Place::Stage1));
}

/// S2PTW on a hit: a table's page is cached with what it is.
#[test]
fn protected_walks_refuse_device_memory_from_the_cache() {
    let stages = Stages::new();
    let third = TABLES + 0x2000;
    let page = SECOND + 0x2000 + 8 * (third >> 12);
    stages.memory.set(page, third | RIGHTS & !0x3c);
    stages.read(ONE, VA);
    let second = stages.memory.get(2 * 64 + 16).expect("STE");
    stages.memory.set(2 * 64 + 16, second | 1 << 54);
    stages.execute(&[[0x03 | 2 << 32, 1], [of_vmid(0x10), 0]]);
    // A guest that has sent no S12_VMALL: the page of stage 2 is still cached.
    let failed = stages.access(ONE, VA, Operation::Read);
    let fault = Fault::Permission(Place::Stage2 {
        class: Class::TranslationTable,
        ipa: third + 8 * 3,
    });
    assert!(matches!(failed, Err(Denied::Fault(failed)) if failed.fault == fault));
}

/// Where a CD lies is asked of stage 2 each time until it is there: such a fault is no configuration.
#[test]
fn a_cd_that_stage_2_does_not_map_is_looked_for_again() {
    let stages = Stages::new();
    let page = SECOND + 0x2000 + 8 * (CDS >> 12);
    stages.memory.set(page, 0);
    let fault = Fault::Translation(Place::Stage2 {
        class: Class::Cd,
        ipa: CDS + 64,
    });
    let mut port = stages.core.port(StreamId(ONE.0)).expect("a guard");
    let mut ask = || {
        let access = Access {
            address: VA,
            operation: Operation::Read,
            privileged: true,
        };
        let guard = port.translate(ONE.1.map(SubstreamId), access, 1, |_| ());
        guard.map(|guard| guard.output().address)
    };
    for _ in 0..2 {
        assert!(matches!(ask(), Err(Denied::Fault(failed)) if failed.fault == fault));
    }
    stages.memory.set(page, CDS | RIGHTS);
    assert_eq!(ask(), Ok(1 << 32 | PAGE));
}
