//! A driver boots on the register frame, uses it, and boots again.

mod dma_world;
mod registers_world;

use dma_world::{PAGE, cfgi_ste, tlbi};
use registers_world::Machine;
use registers_world::driver::{CMDQEN, Driver, EVENT_WORD, EVENTQEN, SMMUEN};
use smmu_core::Capabilities;
use smmu_core::spec::register::offset;

const VA: u64 = 0x4000_0000;
const PA: u64 = 0x40_0000;

/// Attaches a stream, does DMA, unmaps, faults, takes the event.
fn use_it(driver: &mut Driver<'_>) {
    let machine = driver.machine;
    let guest = &machine.guest;
    let space = guest.space(1);
    guest.map(&space, VA, PA, PAGE);
    guest.attach(1, &space);
    driver.send(&[cfgi_ste(1)]).unwrap();
    guest.set(PA, 0x1234_5678);
    let mut device = machine.device(1);
    let mut bytes = [0; 4];
    device.read(VA, &mut bytes).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0x1234_5678);
    guest.unmap(&space, VA, 3);
    driver.send(&[tlbi(1, VA)]).unwrap();
    guest.set(EVENT_WORD & !7, 0);
    assert!(device.read(VA, &mut bytes).is_err());
    let event = driver.take_event().expect("F_TRANSLATION");
    assert_eq!(
        (event.0[0] & 0xFF, event.0[0] >> 32, event.0[2]),
        (0x10, 1, VA)
    );
    assert_eq!(
        guest.get(EVENT_WORD & !7) >> 32,
        EVENT_WORD,
        "its message is in RAM"
    );
    assert!(driver.take_event().is_none());
}

#[test]
fn a_driver_boots_as_linux_does() {
    for machine in [
        Machine::stepped(Capabilities::default()),
        Machine::running(Capabilities::default()),
    ] {
        let mut driver = Driver::new(&machine);
        driver.boot().unwrap();
        assert_eq!(machine.r32(offset::CR0ACK), CMDQEN | EVENTQEN | SMMUEN);
        use_it(&mut driver);
        assert_eq!(machine.r32(offset::GERROR), machine.r32(offset::GERRORN));
        let metrics = machine.registers.metrics();
        assert_eq!(
            (metrics.misshapen, metrics.nowhere, metrics.guarded),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_driver_boots_again_without_a_reset_and_with_one() {
    let machine = Machine::running(Capabilities::default());
    for reset in [false, true, false] {
        if reset {
            machine.registers.reset();
        }
        let mut driver = Driver::new(&machine);
        driver.boot().unwrap();
        use_it(&mut driver);
    }
}
