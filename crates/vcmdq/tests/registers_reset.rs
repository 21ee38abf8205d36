//! Reset in any state, and the registers as saved state.

mod dma_world;
mod registers_world;

use dma_world::{PAGE, cfgi_ste, tlbi};
use registers_world::driver::{CMDQEN, Driver, EVENTQEN, RING, SMMUEN};
use registers_world::{Machine, STREAMS};
use smmu_core::Capabilities;
use smmu_core::access::Operation;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::offset;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vcmdq::registers::{RegisterFrame, RegisterRestoreError};

const VA: u64 = 0x4000_0000;
const PA: u64 = 0x40_0000;

/// Attaches stream 1 to a space with one page.
fn attach(driver: &mut Driver<'_>) -> dma_world::Space {
    let guest = &driver.machine.guest;
    let space = guest.space(1);
    guest.map(&space, VA, PA, PAGE);
    guest.attach(1, &space);
    driver.send(&[cfgi_ste(1)]).unwrap();
    space
}

/// Every register of both pages, as it reads.
fn all(registers: &RegisterFrame) -> Vec<(u64, u64)> {
    (0..RegisterFrame::BYTES)
        .step_by(4)
        .map(|at| (at, registers.read(at, 4)))
        .collect()
}

#[test]
fn reset_makes_every_register_as_it_was() {
    let machine = Machine::stepped(Capabilities::builder().ats(true).build().unwrap());
    let out_of_reset = all(&machine.registers);
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    // An error of each kind, an overflow, pointers that are not zero.
    driver.put(RawCommand { dw0: 0xFF, dw1: 0 });
    machine.w32(offset::CMDQ_PROD, driver.prod);
    machine.pump();
    for _ in 0..100 {
        assert!(machine.device(9).read(0, &mut [0; 4]).is_err());
    }
    machine.registers.reset();
    machine.pump();
    assert!(machine.registers.is_settled());
    assert_eq!(all(&machine.registers), out_of_reset);
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    attach(&mut driver);
    machine.device(1).read(VA, &mut [0; 4]).unwrap();
}

#[test]
fn row24_reset_returns_while_dma_is_in_flight_and_a_sync_waits_for_it() {
    let machine = Machine::stepped(Capabilities::default());
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    attach(&mut driver);
    let mut device = machine.device(1);
    let held = device.hold(Operation::Write, VA, 8).unwrap().unwrap();
    // A SYNC that waits for the access, and commands that nobody has read.
    let word = driver.publish(&[tlbi(1, VA)]);
    machine.pump();
    assert!(machine.registers.ring().is_waiting());
    driver.publish(&[tlbi(1, VA)]);
    machine.registers.reset();
    machine.pump();
    assert!(!machine.registers.is_settled(), "the access goes on");
    assert_eq!(machine.r32(offset::CR0), 0);
    assert_eq!(machine.r32(offset::CR0ACK), SMMUEN, "as the driver sees");
    held.write(0, &[7; 8]).unwrap();
    drop(held);
    machine.pump();
    assert!(machine.registers.is_settled());
    assert_ne!(
        machine.guest.get(word) as u32,
        0,
        "the SYNC of before writes no word"
    );
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    attach(&mut driver);
    assert!(!machine.registers.ring().is_waiting());
    device.read(VA, &mut [0; 4]).unwrap();
}

#[test]
fn row24_reset_under_devices_rings_and_workers_is_followed_by_a_clean_boot() {
    let machine = Machine::running(Capabilities::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for stream in [1, 2] {
            let (machine, stop) = (&machine, &stop);
            scope.spawn(move || {
                let mut device = machine.device(stream);
                while !stop.load(Ordering::Relaxed) {
                    // Whether it may is the reset's matter.
                    let _answer = device.write(VA, &[3; 64]);
                }
            });
        }
        for round in 0..20 {
            let mut driver = Driver::new(&machine);
            driver.boot().unwrap();
            let space = attach(&mut driver);
            machine.device(1).read(VA, &mut [0; 4]).unwrap();
            // Leaves the ring busy; some rounds with an error in it.
            for slot in 0..100 {
                if round % 3 == 0 && slot == 50 {
                    driver.put(RawCommand { dw0: 0xFF, dw1: 0 });
                }
                driver.put(tlbi(1, VA + slot));
            }
            machine.guest.unmap(&space, VA, 3);
            machine.w32(offset::CMDQ_PROD, driver.prod);
            machine.registers.reset();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    assert_eq!(machine.r32(offset::GERROR), machine.r32(offset::GERRORN));
}

/// Moves the state of one machine into another, whose memory is a copy.
fn move_to(from: &Machine, to: &Machine) {
    from.frame.pause();
    let (frame, registers) = (from.frame.save(), from.registers.save());
    let text = serde_json::to_string(&(&frame, &registers)).unwrap();
    let (frame, registers): (_, vcmdq::registers::RegisterState) =
        serde_json::from_str(&text).unwrap();
    for at in (0..dma_world::RAM).step_by(8) {
        to.guest.set(at, from.guest.get(at));
    }
    to.frame.pause();
    to.frame.restore(&frame).unwrap();
    to.registers.restore(&registers).unwrap();
    to.frame.resume();
    to.pump();
}

#[test]
fn law10_registers_go_on_where_they_were_saved() {
    let from = Machine::stepped(Capabilities::default());
    let mut driver = Driver::new(&from);
    driver.boot().unwrap();
    attach(&mut driver);
    assert!(from.device(9).read(0, &mut [0; 4]).is_err());
    // A command that nobody has read.
    let word = driver.publish(&[tlbi(1, VA)]);
    let prod = driver.prod;
    let to = Machine::stepped(Capabilities::default());
    move_to(&from, &to);
    assert_eq!(to.guest.get(word) as u32, 0, "the SYNC completes there");
    let told = to.vmm.take_traffic();
    assert_eq!(told.len() as u32, STREAMS, "every stream is told");
    assert!(told.iter().all(|(_, enabled)| *enabled));
    assert_eq!(to.r32(offset::CR0ACK), CMDQEN | EVENTQEN | SMMUEN);
    from.frame.resume();
    from.pump();
    assert_eq!(all(&to.registers), all(&from.registers));
    to.device(1).read(VA, &mut [0; 4]).unwrap();
    let mut driver = Driver::new(&to);
    driver.prod = prod;
    driver.send(&[tlbi(1, VA)]).unwrap();
}

#[test]
fn law10_what_was_staged_for_a_disabled_queue_is_state() {
    let from = Machine::stepped(Capabilities::default());
    from.w64(offset::CMDQ_BASE, RING | 7);
    from.w32(offset::CMDQ_PROD, 5);
    from.w32(offset::CMDQ_CONS, 5);
    from.w64(offset::EVENTQ_BASE, 0x1_8006);
    from.w32(offset::EVENTQ_PROD, 3);
    from.w32(offset::EVENTQ_CONS, 3);
    let to = Machine::stepped(Capabilities::default());
    // Something of its own that must not survive.
    to.w64(offset::CMDQ_BASE, 0x2_0000 | 3);
    move_to(&from, &to);
    assert_eq!(all(&to.registers), all(&from.registers));
    let mut driver = Driver::new(&to);
    driver.prod = 5;
    driver.cr0(CMDQEN).unwrap();
    driver.send(&[tlbi(1, VA)]).unwrap();
    assert_eq!(to.r32(offset::GERROR), 0);
}

#[test]
fn law10_state_that_cannot_be_is_refused() {
    let machine = Machine::stepped(Capabilities::default());
    let registers: &Arc<RegisterFrame> = &machine.registers;
    let good = registers.save();
    assert_eq!(registers.restore(&good), Err(RegisterRestoreError::Running));
    machine.frame.pause();
    let malformed = |name| Err(RegisterRestoreError::Malformed(name));
    let with = |change: fn(&mut vcmdq::registers::RegisterState)| {
        let mut state = good;
        change(&mut state);
        registers.restore(&state)
    };
    assert_eq!(with(|s| s.cr0 = 1 << 4), malformed("CR0"));
    assert_eq!(with(|s| s.gbpa = 1 << 31), malformed("GBPA"));
    assert_eq!(with(|s| s.irq_ctrl = 2), malformed("IRQ_CTRL"));
    assert_eq!(with(|s| s.gerror = 1), malformed("GERROR"));
    // What no write of the guest leaves in a register: reserved bits, and what is not offered.
    assert_eq!(with(|s| s.cr1 = 1 << 12), malformed("CR1"));
    assert_eq!(with(|s| s.cr2 = 1), malformed("CR2"));
    assert_eq!(with(|s| s.gbpa = 1 << 5), malformed("GBPA"));
    assert_eq!(with(|s| s.irq_ctrl = 1 << 3), malformed("IRQ_CTRL"));
    assert_eq!(with(|s| s.irq_cfg[1].0 = 1), malformed("EVENTQ_IRQ_CFG"));
    assert_eq!(with(|s| s.irq_cfg[2].1 = 1), malformed("PRIQ_IRQ_CFG"));
    assert_eq!(with(|s| s.strtab_base = 1), malformed("STRTAB_BASE"));
    let cfg = with(|s| s.strtab_base_cfg = 1 << 20);
    assert_eq!(cfg, malformed("STRTAB_BASE_CFG"));
    assert_eq!(with(|s| s.cmdq_base = 1 << 63), malformed("CMDQ_BASE"));
    assert_eq!(with(|s| s.cmdq_cons = 1 << 24), malformed("CMDQ_CONS"));
    assert_eq!(with(|s| s.eventq_base = 1 << 56), malformed("EVENTQ_BASE"));
    assert_eq!(with(|s| s.priq_base = 1 << 5), malformed("PRIQ_BASE"));
    assert_eq!(
        with(|s| s.cr0 = CMDQEN),
        Err(RegisterRestoreError::Mismatch("CR0.CMDQEN"))
    );
    assert_eq!(
        with(|s| s.cr0 = EVENTQEN),
        Err(RegisterRestoreError::Mismatch("CR0.EVENTQEN"))
    );
    assert_eq!(registers.save(), good, "nothing was changed");
    assert_eq!(registers.restore(&good), Ok(()));
}
