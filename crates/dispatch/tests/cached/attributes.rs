//! By hand: memory attributes of an access, cached or not, on every route.

use crate::stages::{
    ALONE, BLOCK, DW2, FIRST_ONLY, ONE, PAGE, SECOND, Stages, TABLES, VA, VA_PIECES, VMID, Who,
};
use dispatch::Backend;
use dispatch::backend::Traffic;
use dispatch::backend::software::Port;
use smmu_core::access::{Access, Operation};
use smmu_core::attributes::{MemoryAttributes, MemoryType, Shareability};
use smmu_core::spec::register::Gbpa;
use smmu_core::{StreamId, SubstreamId};

const UNCACHED: u8 = 0x44;
const WRITE_BACK: u8 = 0xff;
const DEVICE: u8 = 0x04;

/// The byte of MAIR and the shareability that an access reaches memory with.
fn reaches(port: &mut Port, who: Who, address: u64) -> (u8, Shareability) {
    let access = Access {
        address,
        operation: Operation::Read,
        privileged: true,
    };
    let guard = port.translate(who.1.map(SubstreamId), access, 1, |_| ());
    let attributes = guard.expect("it is mapped").output().attributes();
    (attributes.mair(), attributes.shareability())
}

/// The same of the first access, which walks, and of the next ones, which do not.
fn found(stages: &Stages, who: Who, address: u64) -> (u8, Shareability) {
    let mut port = stages.core.port(StreamId(who.0)).expect("a guard");
    let first = reaches(&mut port, who, address);
    for _ in 0..3 {
        assert_eq!(reaches(&mut port, who, address), first, "cached");
    }
    first
}

fn with_overrides() -> Stages {
    Stages::with(|caps| caps.idr1.set_attr_types_ovr(true))
}

/// MTCFG with a MemAttr, incoming shareability.
fn overridden(mem_attr: u64) -> u64 {
    mem_attr << 32 | 1 << 36 | 1 << 44
}

#[test]
fn a_combined_entry_keeps_what_both_stages_say() {
    let stages = Stages::new();
    assert_eq!(
        found(&stages, FIRST_ONLY, VA),
        (UNCACHED, Shareability::Outer)
    );
    assert_eq!(found(&stages, ONE, VA), (UNCACHED, Shareability::Outer));
    // AttrIndx=1 is write-back; stage 2 has a say in it.
    let leaf = TABLES + 0x2000 + 8 * (VA >> 12 & 0x1ff);
    stages
        .memory
        .set(leaf, stages.memory.get(leaf).expect("in memory") | 1 << 2);
    let page = SECOND + 0x2000 + 8 * (PAGE >> 12);
    let descriptor = stages.memory.get(page).expect("in memory");
    for (mem_attr, expected) in [
        (0b1111, (WRITE_BACK, Shareability::Inner)),
        (0b1010, (0xbb, Shareability::Inner)),
        (0b0001, (DEVICE, Shareability::Outer)),
    ] {
        stages
            .memory
            .set(page, descriptor & !(0xf << 2) | mem_attr << 2);
        stages.execute(&[[0x30, 0]]);
        assert_eq!(found(&stages, ONE, VA), expected, "{mem_attr:04b}");
        assert_eq!(
            found(&stages, FIRST_ONLY, VA),
            (WRITE_BACK, Shareability::Inner)
        );
    }
}

/// Stage 1 has a block of which stage 2 has pages: each page has attributes of its own.
#[test]
fn pieces_of_a_block_have_attributes_of_their_own() {
    let stages = Stages::new();
    let at = TABLES + 0x1010;
    let block = stages.memory.get(at).expect("in memory");
    stages.memory.set(at, block | 1 << 2);
    let second = SECOND + 0x3000 + 8;
    let descriptor = stages.memory.get(second).expect("in memory");
    stages
        .memory
        .set(second, descriptor & !(0xf << 2) | 0b0010 << 2);
    assert_eq!(
        found(&stages, ONE, VA_PIECES),
        (WRITE_BACK, Shareability::Inner)
    );
    assert_eq!(
        found(&stages, ONE, VA_PIECES + 0x1000),
        (0x08, Shareability::Outer)
    );
    assert_eq!(
        found(&stages, ONE, VA_PIECES + 0x2000),
        (WRITE_BACK, Shareability::Inner)
    );
}

/// An entry of stage 2 is every stream's of the VMID; what each comes with is its own.
#[test]
fn an_entry_of_stage_2_serves_devices_with_different_attributes() {
    let stages = with_overrides();
    let other: Who = (5, None);
    let first = 1 | 6 << 1;
    for (stream, overrides) in [(1, 1 << 44), (5, overridden(0b0001))] {
        let ste = [first, overrides, VMID | DW2, SECOND];
        stages.memory.set_all(64 * stream, &ste);
    }
    let cached = (WRITE_BACK, Shareability::Inner);
    assert_eq!(found(&stages, ALONE, BLOCK), cached);
    assert_eq!(found(&stages, other, BLOCK), (DEVICE, Shareability::Outer));
    assert_eq!(found(&stages, ALONE, BLOCK), cached);
}

#[test]
fn a_device_says_what_its_accesses_come_with() {
    let stages = Stages::new();
    let mut port = stages.core.port(StreamId(ALONE.0)).expect("a guard");
    assert_eq!(reaches(&mut port, ALONE, BLOCK).0, WRITE_BACK);
    let uncached = MemoryAttributes::new(MemoryType::from_mair(UNCACHED), Shareability::Inner);
    port.set_incoming(uncached);
    assert_eq!(
        reaches(&mut port, ALONE, BLOCK),
        (UNCACHED, Shareability::Outer)
    );
    assert_eq!(
        reaches(&mut port, ALONE, BLOCK),
        (UNCACHED, Shareability::Outer),
        "cached"
    );
    // Another device of the stream's is not concerned.
    assert_eq!(found(&stages, ALONE, BLOCK).0, WRITE_BACK);
}

#[test]
fn bypass_and_a_disabled_smmu_have_overrides_of_their_own() {
    let stages = with_overrides();
    let first = 1 | 4 << 1;
    stages
        .memory
        .set_all(64, &[first, overridden(0b0001), 0, 0]);
    stages.execute(&[[0x03 | 1 << 32, 1]]);
    assert_eq!(found(&stages, ALONE, BLOCK), (DEVICE, Shareability::Outer));
    stages.memory.set_all(64, &[first, 1 << 44, 0, 0]);
    stages.execute(&[[0x03 | 1 << 32, 1]]);
    assert_eq!(
        found(&stages, ALONE, BLOCK),
        (WRITE_BACK, Shareability::Inner)
    );
    let gbpa = Gbpa::new()
        .with_mtcfg(true)
        .with_mem_attr(0b0101)
        .with_shcfg(1);
    stages
        .core
        .traffic_changed(&Traffic::Disabled(gbpa, stages.caps));
    assert_eq!(
        found(&stages, ALONE, BLOCK),
        (UNCACHED, Shareability::Outer)
    );
    stages
        .core
        .traffic_changed(&Traffic::Disabled(Gbpa::RESET, stages.caps));
    assert_eq!(
        found(&stages, ALONE, BLOCK),
        (WRITE_BACK, Shareability::Inner)
    );
}
