//! Which interrupts leave the frame, and how.

mod dma_world;
mod registers_world;

use registers_world::driver::{Driver, EVENT_WORD, EVENTQEN, GERROR_WORD};
use registers_world::{Machine, Vmm};
use smmu_core::command::{Command, Signal};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::offset;
use smmu_core::{Capabilities, Gpa};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use vcmdq::registers::RegisterFrame;
use vcmdq::seams::NoTarget;
use vcmdq::testing::commands::sync;
use vcmdq::{Engine, FrameSettings, Interrupts, Line, Seams, Settings};

const GERROR_IRQEN: u32 = 1;
const EVENTQ_IRQEN: u32 = 1 << 2;
const MSI_EVENTQ_ABT: u32 = 1 << 5;
const MSI_GERROR_ABT: u32 = 1 << 7;
/// Where there is no RAM.
const DOORBELL: u64 = 0xFE00_0040;

fn booted_with(vmm: Vmm) -> Machine {
    let engine = Engine::without_workers(Settings::default()).unwrap();
    let machine = Machine::with(engine, Capabilities::default(), Some(Mutex::default()), vmm);
    Driver::new(&machine).boot().unwrap();
    machine
}

fn booted() -> Machine {
    booted_with(Vmm::default())
}

/// Puts the messages of both sources at an address, zero for wires, and enables as told.
fn route(machine: &Machine, address: u64, enabled: u32) {
    machine.w32(offset::IRQ_CTRL, 0);
    for register in [offset::GERROR_IRQ_CFG0, offset::EVENTQ_IRQ_CFG0] {
        machine.w64(register, address);
        machine.w32(register + 8, register as u32);
    }
    machine.w32(offset::IRQ_CTRL, enabled);
    assert_eq!(machine.r32(offset::IRQ_CTRLACK), enabled);
}

/// Makes the event queue non-empty, after the guest has emptied it.
fn event(machine: &Machine) {
    machine.w32(offset::EVENTQ_CONS, machine.r32(offset::EVENTQ_PROD));
    assert!(machine.device(9).read(0, &mut [0; 4]).is_err());
}

/// Stops the command queue at an illegal command, after it was acknowledged.
fn error(machine: &Machine) {
    machine.w32(offset::GERRORN, machine.r32(offset::GERROR));
    let mut driver = Driver::new(machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    if machine.r32(offset::CMDQ_CONS) & 0xFF_FFFF == driver.prod {
        driver.put(RawCommand { dw0: 0xFF, dw1: 0 });
        machine.w32(offset::CMDQ_PROD, driver.prod);
    }
    machine.pump();
    assert_eq!(machine.r32(offset::CMDQ_CONS) >> 24, 1);
}

fn active(machine: &Machine) -> u32 {
    machine.r32(offset::GERROR) ^ machine.r32(offset::GERRORN)
}

#[test]
fn irq_ctrl_gates_wires() {
    let machine = booted();
    for (enabled, expected) in [
        (0, vec![]),
        (GERROR_IRQEN, vec![Line::Gerror]),
        (EVENTQ_IRQEN, vec![Line::EventQueue]),
        (
            GERROR_IRQEN | EVENTQ_IRQEN,
            vec![Line::EventQueue, Line::Gerror],
        ),
    ] {
        route(&machine, 0, enabled);
        machine.vmm.take_pulses();
        event(&machine);
        error(&machine);
        assert_eq!(machine.vmm.take_pulses(), expected);
    }
    assert!(machine.vmm.messages.lock().unwrap().is_empty());
}

#[test]
fn irq_ctrl_does_not_gate_the_wire_of_a_sync() {
    let machine = booted();
    route(&machine, 0, 0);
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    driver.put(encode(&Command::Sync(Signal::Irq { msi: None })));
    machine.w32(offset::CMDQ_PROD, driver.prod);
    machine.pump();
    assert_eq!(machine.vmm.take_pulses(), [Line::CommandSync]);
}

#[test]
fn messages_into_ram_are_stored_behind_what_they_are_about() {
    let machine = booted();
    let word = EVENT_WORD & !7;
    event(&machine);
    assert_eq!(machine.guest.get(word), EVENT_WORD << 32, "event");
    error(&machine);
    assert_eq!(
        machine.guest.get(word),
        EVENT_WORD << 32 | GERROR_WORD,
        "both"
    );
    assert!(machine.vmm.take_pulses().is_empty());
    let dirty = machine.guest.memory.take_dirty();
    assert!(dirty.contains(&Gpa(word & !0xFFF)), "the dirty log knows");
}

#[test]
fn messages_beyond_ram_are_the_vmms() {
    let machine = booted();
    route(&machine, DOORBELL, GERROR_IRQEN | EVENTQ_IRQEN);
    event(&machine);
    error(&machine);
    let sent = machine.vmm.messages.lock().unwrap().clone();
    let sent: Vec<_> = sent.iter().map(|msi| (msi.addr.0, msi.data)).collect();
    let of = |register: u64| (DOORBELL, register as u32);
    assert_eq!(
        sent,
        [of(offset::EVENTQ_IRQ_CFG0), of(offset::GERROR_IRQ_CFG0)]
    );
    assert_eq!(active(&machine), 1, "the bad command alone");
}

#[test]
fn a_message_that_nobody_takes_is_an_error_of_its_own() {
    let deaf = Vmm {
        deaf: true,
        ..Vmm::default()
    };
    let machine = booted_with(deaf);
    route(&machine, DOORBELL, EVENTQ_IRQEN);
    event(&machine);
    assert_eq!(active(&machine), MSI_EVENTQ_ABT);
    event(&machine);
    assert_eq!(active(&machine), MSI_EVENTQ_ABT, "it is active already");
    machine.w32(offset::GERRORN, machine.r32(offset::GERROR));
    assert_eq!(active(&machine), 0);
    event(&machine);
    assert_eq!(active(&machine), MSI_EVENTQ_ABT, "and again");
    assert_eq!(machine.r32(offset::GERROR), 0, "by toggling");
    // The error's own message is lost, too: that is told by GERROR alone.
    machine.w32(offset::GERRORN, machine.r32(offset::GERROR));
    route(&machine, DOORBELL, GERROR_IRQEN | EVENTQ_IRQEN);
    machine.vmm.messages.lock().unwrap().clear();
    event(&machine);
    assert_eq!(active(&machine), MSI_EVENTQ_ABT | MSI_GERROR_ABT);
    assert_eq!(machine.vmm.messages.lock().unwrap().len(), 2);
    assert!(machine.vmm.take_pulses().is_empty());
}

#[test]
fn a_lost_message_of_the_event_queue_is_reported_by_wire() {
    let deaf = Vmm {
        deaf: true,
        ..Vmm::default()
    };
    let machine = booted_with(deaf);
    route(&machine, DOORBELL, EVENTQ_IRQEN);
    machine.w64(offset::GERROR_IRQ_CFG0, 0);
    machine.w32(offset::IRQ_CTRL, EVENTQ_IRQEN | GERROR_IRQEN);
    event(&machine);
    assert_eq!(machine.vmm.take_pulses(), [Line::Gerror]);
}

#[test]
fn a_sync_whose_message_is_lost_completes_and_says_so() {
    let deaf = Vmm {
        deaf: true,
        ..Vmm::default()
    };
    let machine = booted_with(deaf);
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    let mut lost = sync();
    lost.dw0 |= 1 << 12 | 7 << 32;
    lost.dw1 = DOORBELL;
    driver.put(lost);
    machine.w32(offset::CMDQ_PROD, driver.prod);
    machine.pump();
    assert_eq!(machine.r32(offset::CMDQ_CONS), driver.prod);
    assert_eq!(active(&machine), 1 << 4);
}

/// An interrupt controller that takes its time.
struct Slow {
    entered: Mutex<Sender<()>>,
    leave: Mutex<Receiver<()>>,
}

impl Interrupts for Slow {
    fn pulse(&self, _line: Line) {
        self.entered.lock().unwrap().send(()).unwrap();
        self.leave.lock().unwrap().recv().unwrap();
    }

    fn message(&self, _: u32, _: smmu_core::command::Msi) -> Result<(), NoTarget> {
        Err(NoTarget)
    }
}

#[test]
fn irq_ctrlack_follows_when_the_interrupt_under_way_has_left() {
    let ((entered, has_entered), (leave, may_leave)) = (channel(), channel());
    let slow = Arc::new(Slow {
        entered: Mutex::new(entered),
        leave: Mutex::new(may_leave),
    });
    let machine = Machine::stepped(Capabilities::default());
    let engine = &machine.engine;
    let seams = Seams {
        interrupts: slow,
        ..Seams::new(machine.guest.memory.clone())
    };
    let frame = Arc::new(engine.add_frame(FrameSettings::default(), seams));
    let registers = RegisterFrame::new(frame.clone()).unwrap();
    let write = |at: u64, value: u64| registers.write(at, 4, value);
    write(offset::EVENTQ_BASE, 0x1_8006);
    write(offset::CR0, u64::from(EVENTQEN));
    write(offset::IRQ_CTRL, EVENTQ_IRQEN.into());
    let record = smmu_core::spec::event::EventRecord([4, 0, 0, 0]);
    std::thread::scope(|scope| {
        scope.spawn(|| frame.events().record(&record).unwrap());
        has_entered.recv().unwrap();
        write(offset::IRQ_CTRL, 0);
        let ack = || registers.read(offset::IRQ_CTRLACK, 4) as u32;
        assert_eq!(ack(), EVENTQ_IRQEN);
        write(offset::EVENTQ_IRQ_CFG1, 9);
        assert_eq!(
            registers.read(offset::EVENTQ_IRQ_CFG1, 4),
            0,
            "still guarded"
        );
        leave.send(()).unwrap();
        while ack() != 0 {
            std::thread::yield_now();
        }
    });
    write(offset::EVENTQ_IRQ_CFG1, 9);
    assert_eq!(registers.read(offset::EVENTQ_IRQ_CFG1, 4), 9);
}
