//! What each register keeps, guards and acknowledges.

mod dma_world;
mod registers_world;

use dispatch::backend::Software;
use dma_world::{PAGE, cfgi_ste, small};
use registers_world::Machine;
use registers_world::driver::{CMDQEN, Driver, EVENTQEN, SMMUEN};
use smmu_core::Capabilities;
use smmu_core::StreamId;
use smmu_core::access::Operation;
use smmu_core::spec::register::offset;
use std::sync::Arc;
use vcmdq::dma::{Device, DeviceSeams};
use vcmdq::registers::{RegisterFrame, RegisterFrameError};
use vcmdq::{Binding, Placement};

const ALL: u32 = CMDQEN | EVENTQEN | SMMUEN;

fn fresh() -> Machine {
    Machine::stepped(Capabilities::default())
}

fn booted() -> Machine {
    let machine = fresh();
    Driver::new(&machine).boot().unwrap();
    machine
}

#[test]
fn identification_says_what_the_capabilities_say_and_cannot_be_written() {
    let machine = fresh();
    let caps = Capabilities::default();
    let expected = [
        (offset::IDR0, caps.idr0.into_bits()),
        (offset::IDR1, caps.idr1.into_bits()),
        (offset::IDR2, 0),
        (offset::IDR3, caps.idr3.into_bits()),
        (offset::IDR4, 0),
        (offset::IDR5, caps.idr5.into_bits()),
        (offset::IIDR, 0),
        (offset::AIDR, 2),
        (offset::STATUSR, 0),
        (offset::ID_REGS + 0x20, 0x0D),
        (offset::ID_REGS + 0x2C, 0xB1),
    ];
    for (at, value) in expected {
        machine.w32(at, !value);
        assert_eq!(machine.r32(at), value, "{at:#x}");
    }
    assert_eq!(machine.registers.metrics().nowhere, expected.len() as u64);
}

/// All registers of both pages that can be written, out of reset.
const WRITABLE: [u64; 33] = [
    0x20, 0x28, 0x2C, 0x44, 0x50, 0x64, 0x68, 0x6C, 0x70, 0x74, 0x80, 0x84, 0x88, 0x90, 0x94, 0x98,
    0x9C, 0xA0, 0xA4, 0xB0, 0xB4, 0xB8, 0xBC, 0xC0, 0xC4, 0xD0, 0xD4, 0xD8, 0xDC, 0x1_00A8,
    0x1_00AC, 0x1_00C8, 0x1_00CC,
];

#[test]
fn everything_else_reads_zero_and_ignores_writes() {
    let caps = Capabilities::builder().ats(true).pri(Some(8));
    let machine = Machine::stepped(caps.build().unwrap());
    for at in (0..RegisterFrame::BYTES).step_by(4) {
        let constant = at <= offset::AIDR || (offset::ID_REGS..0x1000).contains(&at);
        if WRITABLE.contains(&at) || constant {
            continue;
        }
        machine.w32(at, 0xFFFF_FFFF);
        machine.pump();
        assert_eq!(machine.r32(at), 0, "{at:#x}");
    }
    assert_eq!(machine.registers.metrics().guarded, 0);
}

#[test]
fn reserved_bits_are_not_kept() {
    let caps = Capabilities::builder().ats(true).pri(Some(8));
    let machine = Machine::stepped(caps.build().unwrap());
    for (at, kept) in [
        (offset::CR1, 0xFFF),
        (offset::CR2, 0x6),
        (offset::IRQ_CTRL, 0),
        (offset::GERROR_IRQ_CFG1, 0xFFFF_FFFF),
        (offset::GERROR_IRQ_CFG2, 0x3F),
        (offset::EVENTQ_IRQ_CFG2, 0x3F),
        (offset::PRIQ_IRQ_CFG2, 0x8000_003F),
        (offset::STRTAB_BASE_CFG, 0x3_07FF),
        (offset::CMDQ_PROD, 0xF_FFFF),
        // Of a queue with one entry, as BASE has it out of reset.
        (offset::PRIQ_PROD, 0x8000_0001),
        (offset::PRIQ_CONS, 0x800F_FFFF),
        (offset::EVENTQ_CONS, 0x800F_FFFF),
        (offset::GERRORN, 0),
    ] {
        machine.w32(
            at,
            if at == offset::IRQ_CTRL {
                0xFFFF_FFF8
            } else {
                !0
            },
        );
        assert_eq!(machine.r32(at), kept, "{at:#x}");
    }
    for (at, kept) in [
        (offset::GERROR_IRQ_CFG0, 0x00FF_FFFF_FFFF_FFFC),
        (offset::EVENTQ_IRQ_CFG0, 0x00FF_FFFF_FFFF_FFFC),
        (offset::STRTAB_BASE, 0x40FF_FFFF_FFFF_FFC0),
        (offset::CMDQ_BASE, 0x40FF_FFFF_FFFF_FFFF),
        (offset::EVENTQ_BASE, 0x40FF_FFFF_FFFF_FFFF),
        (offset::PRIQ_BASE, 0x40FF_FFFF_FFFF_FFFF),
    ] {
        machine.w64(at, !0);
        assert_eq!(machine.r64(at), kept, "{at:#x}");
        machine.w64(at, 0);
        machine.w32(at + 4, !0);
        machine.w32(at, !0);
        assert_eq!(machine.r64(at), kept, "{at:#x} in halves");
        assert_eq!(
            u64::from(machine.r32(at + 4)),
            kept >> 32,
            "{at:#x}, upper half"
        );
    }
}

#[test]
fn accesses_of_other_shapes_are_zero_ignored_and_counted() {
    let machine = fresh();
    for (at, width) in [
        (0x20, 1),
        (0x20, 2),
        (0x20, 8),
        (0x22, 4),
        (0x84, 8),
        (0x2_0000, 4),
    ] {
        machine.registers.write(at, width, !0);
        assert_eq!(machine.registers.read(at, width), 0);
    }
    assert_eq!(machine.registers.metrics().misshapen, 12);
    assert_eq!(machine.r32(offset::CR0), 0);
}

#[test]
fn guarded_registers_keep_their_values_while_enabled() {
    let machine = booted();
    let guarded = [
        offset::CR1,
        offset::CR2,
        offset::GERROR_IRQ_CFG0,
        offset::GERROR_IRQ_CFG1,
        offset::GERROR_IRQ_CFG2,
        offset::EVENTQ_IRQ_CFG0,
        offset::EVENTQ_IRQ_CFG1,
        offset::EVENTQ_IRQ_CFG2,
        offset::STRTAB_BASE,
        offset::STRTAB_BASE_CFG,
        offset::CMDQ_BASE,
        offset::CMDQ_CONS,
        offset::EVENTQ_BASE,
        offset::EVENTQ_PROD,
    ];
    for (count, at) in (1..).zip(guarded) {
        let before = machine.r32(at);
        machine.w32(at, !before);
        assert_eq!(machine.r32(at), before, "{at:#x}");
        assert_eq!(machine.registers.metrics().guarded, count, "{at:#x}");
    }
}

#[test]
fn cr1_has_two_guards() {
    let machine = fresh();
    let driver = Driver::new(&machine);
    driver.cr0(SMMUEN).unwrap();
    machine.w32(offset::CR1, 0xFFF);
    assert_eq!(machine.r32(offset::CR1), 0x3F, "queues");
    driver.cr0(0).unwrap();
    driver.cr0(EVENTQEN).unwrap();
    machine.w32(offset::CR1, 0xFC0);
    assert_eq!(machine.r32(offset::CR1), 0xFFF, "tables");
}

#[test]
fn without_messages_there_is_nowhere_to_send_them() {
    let caps = Capabilities::builder().messages(false).build().unwrap();
    let machine = Machine::stepped(caps);
    machine.w64(offset::EVENTQ_IRQ_CFG0, 0x1000);
    machine.w32(offset::EVENTQ_IRQ_CFG1, 1);
    machine.w32(offset::EVENTQ_IRQ_CFG2, 0xF);
    let cfg0 = machine.r64(offset::EVENTQ_IRQ_CFG0);
    assert_eq!((cfg0, machine.r32(offset::EVENTQ_IRQ_CFG1)), (0, 0));
    assert_eq!(machine.r32(offset::EVENTQ_IRQ_CFG2), 0);
}

#[test]
fn capabilities_that_no_smmu_has_make_no_frame() {
    let mut caps = Capabilities::default();
    caps.idr0.set_btm(true);
    let machine = fresh();
    let settings = vcmdq::FrameSettings {
        caps,
        ..Default::default()
    };
    let seams = vcmdq::Seams::new(machine.guest.memory.clone());
    let frame = Arc::new(machine.engine.add_frame(settings, seams));
    let refused = RegisterFrame::new(frame).unwrap_err();
    assert!(matches!(refused, RegisterFrameError::Capabilities(_)));
}

/// Where a bypassed access of the tests goes.
const AT: u64 = 0x20_0000;

#[test]
fn law3_smmuen_is_acknowledged_when_no_access_goes_by_what_was_before() {
    let machine = booted();
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    machine.guest.bypass(1);
    driver.send(&[cfgi_ste(1)]).unwrap();
    let mut device = machine.device(1);
    let held = device.hold(Operation::Read, AT, 4).unwrap().unwrap();
    machine.w32(offset::CR0, CMDQEN | EVENTQEN);
    machine.pump();
    assert_eq!(machine.r32(offset::CR0ACK), ALL, "a guard is open");
    assert!(!machine.registers.is_settled());
    // What is guarded by SMMUEN is so by its acknowledgement, too.
    machine.w32(offset::STRTAB_BASE_CFG, 3);
    assert_eq!(machine.r32(offset::STRTAB_BASE_CFG), 4);
    let other = device.hold(Operation::Read, AT, 4).unwrap().unwrap();
    drop(held);
    assert_eq!(machine.r32(offset::CR0ACK), CMDQEN | EVENTQEN);
    drop(other);
    assert!(machine.registers.is_settled());
}

#[test]
fn law3_steady_traffic_does_not_put_an_acknowledgement_off() {
    let machine = booted();
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    let space = machine.guest.space(1);
    machine.guest.map(&space, 0x1000, AT, PAGE);
    machine.guest.attach(1, &space);
    driver.send(&[cfgi_ste(1)]).unwrap();
    let mut device = machine.device(1);
    let held = device.hold(Operation::Read, 0x1000, 4).unwrap().unwrap();
    machine.w32(offset::CR0, CMDQEN | EVENTQEN);
    let mut next = device.hold(Operation::Read, AT, 4).unwrap();
    drop(held);
    // There is always some open guard, and a ring that marks it.
    for _ in 0..3 {
        driver.put(cfgi_ste(1));
        machine.w32(offset::CMDQ_PROD, driver.prod);
        machine.pump();
        let last = next.take();
        next = device.hold(Operation::Read, AT, 4).unwrap();
        drop(last);
    }
    assert_eq!(machine.r32(offset::CR0ACK), CMDQEN | EVENTQEN);
}

#[test]
fn a_disabled_smmu_passes_or_aborts_as_gbpa_says_without_an_event() {
    let machine = booted();
    let driver = Driver::new(&machine);
    machine.guest.set(AT, 5);
    let mut device = machine.device(1);
    let mut bytes = [0; 1];
    assert!(device.read(AT, &mut bytes).is_err(), "its STE is not valid");
    let events = machine.r32(offset::EVENTQ_PROD);
    assert_eq!(events, 1);
    driver.cr0(CMDQEN | EVENTQEN).unwrap();
    device.read(AT, &mut bytes).unwrap();
    assert_eq!(bytes, [5]);
    assert!(device.read(1 << 48, &mut bytes).is_err(), "wider than OAS");
    driver.gbpa(1 << 20).unwrap();
    assert!(device.read(AT, &mut bytes).is_err());
    assert_eq!(machine.r32(offset::EVENTQ_PROD), events);
}

/// The VMM is told about each stream, which is more than a slice where there are many.
#[test]
fn law8_law3_a_thousand_streams_are_told_in_portions_before_the_acknowledgement() {
    let machine = booted();
    for stream in 0x1000..0x1400 {
        machine.bind(stream);
    }
    machine.pump();
    machine.vmm.take_traffic();
    machine.w32(offset::CR0, CMDQEN | EVENTQEN);
    let mut told = Vec::new();
    let mut slices = 0;
    while machine.r32(offset::CR0ACK) != CMDQEN | EVENTQEN {
        assert!(machine.serve_once(), "somebody has to go on");
        let now = machine.vmm.take_traffic();
        assert!(now.len() < 10, "{} in a slice", now.len());
        told.extend(now);
        slices += 1;
    }
    assert!(slices > 100);
    let many = told.iter().filter(|(stream, _)| stream.0 >= 0x1000);
    assert_eq!(many.count(), 0x400);
    assert!(told.is_sorted_by_key(|(stream, _)| *stream), "each once");
}

#[test]
fn gbpa_changes_nothing_while_the_smmu_is_enabled() {
    let machine = booted();
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    machine.guest.bypass(1);
    driver.send(&[cfgi_ste(1)]).unwrap();
    machine.vmm.take_traffic();
    driver.gbpa(1 << 20).unwrap();
    let mut device = machine.device(1);
    device.read(AT, &mut [0; 1]).unwrap();
    assert_eq!(machine.vmm.take_traffic(), []);
    driver.cr0(CMDQEN).unwrap();
    assert!(device.read(AT, &mut [0; 1]).is_err(), "now it counts");
}

#[test]
fn a_new_instance_goes_by_what_the_registers_say() {
    let machine = fresh();
    Driver::new(&machine).gbpa(1 << 20).unwrap();
    let core = Arc::new(Software::with_settings(small()));
    let placement = Placement::default();
    let instance = machine.frame.add_instance(core.clone(), placement);
    let stream = StreamId(99);
    let binding = Binding {
        instance,
        placement,
    };
    machine.frame.bind(stream, binding).unwrap();
    let sink = vcmdq::events::EventSink::new(
        &Capabilities::default(),
        machine.guest.memory.clone(),
        machine.vmm.clone(),
    );
    let who = dma_world::requester(99);
    let mut device = Device::new(&core, who, DeviceSeams::new(Arc::new(sink))).unwrap();
    assert!(device.read(AT, &mut [0; 1]).is_err(), "GBPA.ABORT");
    Driver::new(&machine).gbpa(0).unwrap();
    device.read(AT, &mut [0; 1]).unwrap();
}

#[test]
fn the_stream_table_is_where_strtab_base_says() {
    let machine = fresh();
    machine.w64(offset::STRTAB_BASE, 0x10_0000);
    machine.w32(offset::STRTAB_BASE_CFG, 4);
    machine.guest.set(0x10_0000 + 64 * 3, 0x9);
    let traffic = || machine.frame.traffic().expect("there are registers");
    assert!(!traffic().is_enabled());
    Driver::new(&machine).cr0(SMMUEN).unwrap();
    let dispatch::Traffic::Enabled(setup) = traffic() else {
        panic!("SMMUEN is 1");
    };
    assert_eq!(setup.streams.base.0, 0x10_0000);
    machine.device(3).read(AT, &mut [0; 1]).unwrap();
    assert!(machine.device(2).read(AT, &mut [0; 1]).is_err());
}
