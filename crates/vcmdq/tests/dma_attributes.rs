//! What a device model is told of the memory behind an address.

mod dma_world;

use dma_world::*;
use smmu_core::access::Operation;
use smmu_core::attributes::{MemoryAttributes, MemoryType, Shareability};
use vcmdq::dma::DmaError;

const VA: u64 = 0x40_0000;
const DATA: u64 = 0x40_0000;

#[test]
fn a_device_learns_what_its_page_is() {
    let world = World::new();
    let space = world.guest.space(1);
    // MAIR byte 1, inner shareable; byte 0.
    world.guest.map(&space, VA, DATA, PAGE);
    world
        .guest
        .map(&space, VA + 0x1000, DATA, PAGE & !(7 << 2) | READ_ONLY);
    let cd = world.guest.attach(1, &space);
    world.guest.set(cd + 24, 0xFF04);
    let mut device = world.device(1);
    let mut found = |at, operation| device.attributes(at, operation);
    let cached = MemoryAttributes::new(MemoryType::from_mair(0xFF), Shareability::Inner);
    let strict = MemoryAttributes::new(MemoryType::from_mair(0x04), Shareability::Outer);
    for _cold_and_warm in 0..2 {
        assert_eq!(found(VA, Operation::Write).unwrap(), Some(cached));
        assert_eq!(found(VA + 0x1000, Operation::Read).unwrap(), Some(strict));
    }
    assert_eq!(world.faults.take(), []);
    assert!(matches!(
        found(VA + 0x1000, Operation::Write),
        Err(DmaError::Fault(_))
    ));
    assert_eq!(world.faults.take().len(), 1, "an access would have faulted");
    // Of what comes in, stage 1 takes the hints.
    let transient = MemoryAttributes::new(MemoryType::from_mair(0x77), Shareability::Non);
    device.set_incoming(transient);
    let hinted = MemoryAttributes::new(MemoryType::from_mair(0x77), Shareability::Inner);
    let now = device.attributes(VA, Operation::Read).unwrap();
    assert_eq!(now, Some(hinted));
}
