//! Bugs that other SMMUs had in their registers, each a test. The number is the row's in the list
//! that the project keeps of them.

mod dma_world;
mod registers_world;

use dma_world::cfgi_ste;
use registers_world::driver::{CMDQEN, Driver, EVENTQ_LOG2, EVENTQEN, RING, SMMUEN};
use registers_world::{Machine, STREAMS};
use smmu_core::command::{Cfgi, Command};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::offset;
use smmu_core::{Capabilities, StreamId};
use vcmdq::testing::commands::sync;

const ALL: u32 = CMDQEN | EVENTQEN | SMMUEN;
const OVFLG: u32 = 1 << 31;
const CMDQ_ERR: u32 = 1;

fn booted() -> Machine {
    let machine = Machine::stepped(Capabilities::default());
    Driver::new(&machine).boot().unwrap();
    machine
}

/// A driver that goes on where `booted` has left off: two commands, each with its SYNC.
fn driver(machine: &Machine) -> Driver<'_> {
    let mut driver = Driver::new(machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    driver
}

fn active(machine: &Machine) -> u32 {
    machine.r32(offset::GERROR) ^ machine.r32(offset::GERRORN)
}

#[test]
fn row3_cons_is_writable_only_while_disabled() {
    let machine = booted();
    let cons = machine.r32(offset::CMDQ_CONS);
    machine.w32(offset::CMDQ_CONS, cons + 1);
    assert_eq!(machine.r32(offset::CMDQ_CONS), cons);
    assert_eq!(machine.registers.metrics().guarded, 1);
    driver(&machine).cr0(0).unwrap();
    machine.w32(offset::CMDQ_CONS, 9);
    assert_eq!(machine.r32(offset::CMDQ_CONS), 9);
    machine.w32(offset::CMDQ_CONS, 0xFFFF_FFFF);
    let pointer = (2 << registers_world::driver::CMDQ_LOG2) - 1;
    assert_eq!(
        machine.r32(offset::CMDQ_CONS),
        pointer,
        "as wide as the queue"
    );
}

#[test]
fn row3_what_was_written_to_cons_is_where_consumption_begins() {
    let machine = booted();
    let mut driver = driver(&machine);
    driver.cr0(0).unwrap();
    let at = 5;
    for slot in 0..at {
        machine.guest.set(RING + slot * 16, 0xFF);
    }
    machine.w32(offset::CMDQ_PROD, at as u32);
    machine.w32(offset::CMDQ_CONS, at as u32);
    driver.prod = at as u32;
    driver.cr0(CMDQEN).unwrap();
    driver.send(&[cfgi_ste(1)]).unwrap();
    assert_eq!(active(&machine), 0, "the commands before CONS were read");
}

#[test]
fn row4_a_sync_with_cs_3_is_illegal() {
    let machine = booted();
    let mut driver = driver(&machine);
    let at = driver.prod;
    let mut reserved = sync();
    reserved.dw0 |= 3 << 12;
    driver.put(reserved);
    machine.w32(offset::CMDQ_PROD, driver.prod);
    machine.pump();
    assert_eq!(active(&machine), CMDQ_ERR);
    assert_eq!(
        machine.r32(offset::CMDQ_CONS),
        at | 1 << 24,
        "CERROR_ILL at the command"
    );
}

/// Faults once more than the event queue has room.
fn overflow(machine: &Machine) {
    let mut device = machine.device(15);
    for _ in 0..=1 << EVENTQ_LOG2 {
        assert!(device.read(0, &mut [0; 4]).is_err());
    }
}

#[test]
fn row5_a_full_event_queue_is_no_global_error() {
    let machine = booted();
    overflow(&machine);
    assert_ne!(machine.r32(offset::EVENTQ_PROD) & OVFLG, 0);
    assert_eq!(active(&machine), 0);
    assert_eq!(machine.r32(offset::GERROR), 0);
}

#[test]
fn row6_a_reserved_fmt_is_a_linear_stream_table() {
    for fmt in [2, 3] {
        let machine = Machine::stepped(Capabilities::default());
        let mut driver = Driver::new(&machine);
        driver.boot().unwrap();
        driver.cr0(CMDQEN | EVENTQEN).unwrap();
        let cfg = 4 | 8 << 6 | fmt << 16;
        machine.w32(offset::STRTAB_BASE_CFG, cfg);
        assert_eq!(
            machine.r32(offset::STRTAB_BASE_CFG),
            cfg,
            "reads back as written"
        );
        driver.cr0(ALL).unwrap();
        machine.guest.bypass(7);
        machine.guest.set(0x20_0000, 77);
        let mut bytes = [0; 1];
        machine.device(7).read(0x20_0000, &mut bytes).unwrap();
        assert_eq!(bytes, [77]);
    }
}

#[test]
fn row6_split_and_fmt_are_zero_without_two_level_tables() {
    let caps = Capabilities::builder().stream_id_bits(6).build().unwrap();
    let machine = Machine::stepped(caps);
    machine.w32(offset::STRTAB_BASE_CFG, 0xFFFF_FFFF);
    assert_eq!(machine.r32(offset::STRTAB_BASE_CFG), 0x3F);
}

#[test]
fn row12_ovflg_toggles() {
    let machine = booted();
    for expected in [OVFLG, 0, OVFLG] {
        overflow(&machine);
        let prod = machine.r32(offset::EVENTQ_PROD);
        assert_eq!(prod & OVFLG, expected);
        overflow(&machine);
        assert_eq!(
            machine.r32(offset::EVENTQ_PROD),
            prod,
            "once until it is acknowledged"
        );
        machine.w32(offset::EVENTQ_CONS, prod);
    }
}

#[test]
fn row14_a_log2size_above_the_advertised_one_is_capped() {
    let caps = Capabilities::builder()
        .command_queue_log2(7)
        .event_queue_log2(5);
    let machine = Machine::stepped(caps.build().unwrap());
    let mut driver = Driver::new(&machine);
    // 31 cannot be: the ring has 2^7 entries, and its base is aligned to those alone.
    let base = 1 << 62 | RING | 0x1F;
    machine.w64(offset::CMDQ_BASE, base);
    assert_eq!(
        machine.r64(offset::CMDQ_BASE),
        base,
        "reads back as written"
    );
    machine.w64(offset::EVENTQ_BASE, 0x1_8000 | 0x1F);
    assert_eq!(machine.r64(offset::EVENTQ_BASE), 0x1_801F);
    driver.cr0(CMDQEN | EVENTQEN).unwrap();
    // Twice round: slots and wrap bit are those of 2^7 entries.
    for _ in 0..2 << 7 {
        driver.send(&[]).unwrap();
    }
    machine.w32(offset::STRTAB_BASE_CFG, 4);
    driver.cr0(ALL).unwrap();
    let mut device = machine.device(15);
    for _ in 0..33 {
        assert!(device.read(0, &mut [0; 4]).is_err());
    }
    assert_eq!(machine.r32(offset::EVENTQ_PROD), 32 | OVFLG);
    assert_ne!(
        machine.guest.get(0x1_8000),
        0,
        "the first record lies at the base"
    );
}

#[test]
fn row17_a_change_of_smmuen_redrives_every_stream() {
    let machine = booted();
    let all = |enabled| -> Vec<_> { (0..STREAMS).map(|n| (StreamId(n), enabled)).collect() };
    machine.vmm.take_traffic();
    let driver = driver(&machine);
    driver.cr0(CMDQEN | EVENTQEN).unwrap();
    assert_eq!(machine.vmm.take_traffic(), all(false));
    driver.cr0(CMDQEN | EVENTQEN | SMMUEN).unwrap();
    assert_eq!(machine.vmm.take_traffic(), all(true));
    driver.cr0(EVENTQEN | SMMUEN).unwrap();
    assert_eq!(machine.vmm.take_traffic(), [], "SMMUEN has not changed");
}

#[test]
fn row17_smmuen_is_acknowledged_when_the_vmm_has_been_told() {
    let machine = booted();
    machine.w32(offset::CR0, CMDQEN);
    assert_eq!(machine.r32(offset::CR0ACK) & SMMUEN, SMMUEN);
    machine.pump();
    assert_eq!(machine.r32(offset::CR0ACK) & SMMUEN, 0);
}

#[test]
fn row18_cfgi_all_has_every_ste_read_again() {
    let machine = booted();
    let mut driver = driver(&machine);
    let mut devices: Vec<_> = (0..3).map(|stream| machine.device(stream)).collect();
    for stream in 0..3 {
        machine.guest.bypass(stream);
    }
    driver.send(&[encode(&Command::Cfgi(Cfgi::All))]).unwrap();
    for device in &mut devices {
        device.read(0x20_0000, &mut [0; 4]).unwrap();
    }
    for stream in 0..3 {
        machine.guest.ste(stream, [0x1, 0]);
    }
    machine.vmm.changes.lock().unwrap().clear();
    driver.send(&[encode(&Command::Cfgi(Cfgi::All))]).unwrap();
    for device in &mut devices {
        assert!(device.read(0x20_0000, &mut [0; 4]).is_err());
    }
    let told = std::mem::take(&mut *machine.vmm.changes.lock().unwrap());
    assert_eq!(told.len() as u32, STREAMS);
}

#[test]
fn row19_gbpa_without_update_is_ignored() {
    let machine = Machine::stepped(Capabilities::default());
    let reset = machine.r32(offset::GBPA);
    assert_eq!(reset, 0x1000, "incoming shareability, bypass");
    machine.w32(offset::GBPA, 1 << 20);
    assert_eq!(machine.r32(offset::GBPA), reset);
    machine.device(1).read(0x20_0000, &mut [0; 4]).unwrap();
    Driver::new(&machine).gbpa(1 << 20).unwrap();
    assert_eq!(machine.r32(offset::GBPA), 1 << 20);
    assert!(machine.device(1).read(0x20_0000, &mut [0; 4]).is_err());
}

#[test]
fn row19_an_update_under_way_is_not_overtaken() {
    let machine = Machine::stepped(Capabilities::default());
    machine.w32(offset::GBPA, 1 << 31 | 1 << 20);
    machine.w32(offset::GBPA, 1 << 31 | 0xF);
    assert_eq!(machine.r32(offset::GBPA), 1 << 31 | 1 << 20);
    machine.pump();
    assert_eq!(machine.r32(offset::GBPA), 1 << 20);
}

#[test]
fn row23_reserved_bits_of_cr0_are_neither_kept_nor_acknowledged() {
    let cases = [
        (Capabilities::builder(), ALL),
        (Capabilities::builder().ats(true), ALL | 1 << 4),
        (
            Capabilities::builder().ats(true).pri(Some(4)),
            ALL | 1 << 4 | 1 << 1,
        ),
    ];
    for (caps, bits) in cases {
        let machine = Machine::stepped(caps.build().unwrap());
        machine.w32(offset::CR0, 0xFFFF_FFFF);
        machine.pump();
        assert_eq!(machine.r32(offset::CR0), bits);
        assert_eq!(machine.r32(offset::CR0ACK), bits);
    }
}

#[test]
fn row23_every_bit_of_cr0_stands_for_itself() {
    let machine = Machine::stepped(Capabilities::default());
    let driver = Driver::new(&machine);
    for bits in [
        SMMUEN,
        CMDQEN,
        EVENTQEN,
        SMMUEN | EVENTQEN,
        0,
        ALL,
        CMDQEN,
        0,
    ] {
        driver.cr0(bits).unwrap();
        assert_eq!(machine.r32(offset::CR0), bits);
        let enabled = machine.frame.events().queue().is_enabled();
        assert_eq!(enabled, bits & EVENTQEN != 0);
        assert_eq!(machine.registers.ring().is_enabled(), bits & CMDQEN != 0);
    }
}

#[test]
fn row29_eventq_cons_is_writable_while_enabled() {
    let machine = booted();
    for cons in [3, 1 << 31 | 7, 0] {
        machine.w32(offset::EVENTQ_CONS, cons);
        assert_eq!(machine.r32(offset::EVENTQ_CONS), cons);
    }
    machine.w32(offset::EVENTQ_PROD, 5);
    assert_eq!(machine.r32(offset::EVENTQ_PROD), 0, "PROD is not");
}

#[test]
fn row29_an_unknown_command_is_an_error_and_acknowledging_it_goes_on() {
    let machine = booted();
    let mut driver = driver(&machine);
    let at = driver.prod;
    driver.put(RawCommand { dw0: 0xFF, dw1: 0 });
    let word = driver.publish(&[]);
    machine.pump();
    assert_eq!(active(&machine), CMDQ_ERR);
    // As Linux does: a SYNC into the slot, then the acknowledgement.
    machine.guest.set(RING + u64::from(at) * 16, sync().dw0);
    machine.guest.set(RING + u64::from(at) * 16 + 8, 0);
    machine.w32(offset::GERRORN, machine.r32(offset::GERROR));
    machine.pump();
    assert_eq!(active(&machine), 0);
    assert_eq!(
        machine.guest.get(word) as u32,
        0,
        "the SYNC behind it is done"
    );
}
