//! Page requests of devices (IHI 0070, chapter 8): the PRI queue, its overflow, what the SMMU answers by
//! itself, and what the guest answers.

mod dma_world;
mod registers_world;

use registers_world::Machine;
use registers_world::driver::{Driver, GERROR_WORD};
use smmu_core::caps::Stages;
use smmu_core::command::{Command, PriResponse};
use smmu_core::encode::encode;
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::offset;
use smmu_core::{Capabilities, StreamId, SubstreamId};
use std::sync::{Arc, Mutex};
use vcmdq::events::pages::{PageOutcome, PageRequest, PageResponder, PageResponse, PageResult};
use vcmdq::{Line, gerror_bits};

const SMMUEN: u32 = 1;
const PRIQEN: u32 = 1 << 1;
const REST: u32 = 0xC;
const ATSCHK: u32 = 1 << 4;
const FLAG: u32 = 1 << 31;
const PRIQ: u64 = 0x1_D000;
/// Four requests.
const LOG2: u64 = 2;
const PPAR: u64 = 1 << 18;

fn caps(pps: bool) -> Capabilities {
    let caps = Capabilities::builder()
        .stages(Stages::One)
        .ats(true)
        .pri(Some(8));
    let mut caps = caps.build().unwrap();
    caps.idr3.set_pps(pps);
    caps
}

fn booted_with(caps: Capabilities) -> Machine {
    let machine = Machine::stepped(caps);
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    machine.w64(offset::PRIQ_BASE, 1 << 62 | PRIQ | LOG2);
    machine.w32(offset::PRIQ_PROD, 0);
    machine.w32(offset::PRIQ_CONS, 0);
    driver.cr0(REST | SMMUEN | PRIQEN).unwrap();
    machine.w32(offset::IRQ_CTRL, 7);
    machine.pump();
    machine.vmm.take_pulses();
    machine
}

fn booted() -> Machine {
    booted_with(caps(false))
}

fn request(group: u16, last: bool) -> PageRequest {
    PageRequest {
        stream: StreamId(1),
        substream: None,
        address: 0x1234_5678,
        group,
        read: true,
        write: false,
        execute: false,
        privileged: false,
        last,
    }
}

fn ask(machine: &Machine, request: PageRequest) -> PageOutcome {
    machine.frame.request_page(&request).unwrap()
}

fn responded(substream: Option<u32>, group: u16, result: PageResult) -> PageOutcome {
    PageOutcome::Responded(PageResponse {
        substream: substream.map(SubstreamId),
        group,
        result,
    })
}

fn entry(machine: &Machine, index: u64) -> [u64; 2] {
    [0, 8].map(|word| machine.guest.get(PRIQ + 16 * index + word))
}

#[test]
fn a_request_lies_in_the_queue_as_the_architecture_has_it() {
    let machine = booted();
    assert_eq!(ask(&machine, request(0x1A5, true)), PageOutcome::Queued);
    assert_eq!(machine.r32(offset::PRIQ_PROD), 1);
    // R and Last, no PASID; group and page.
    assert_eq!(
        entry(&machine, 0),
        [1 << 60 | 1 << 62 | 1, 0x1234_5000 | 0x1A5]
    );
    let with_pasid = PageRequest {
        substream: Some(SubstreamId(0x5_4321)),
        write: true,
        execute: true,
        privileged: true,
        ..request(2, false)
    };
    assert_eq!(ask(&machine, with_pasid), PageOutcome::Queued);
    let word = 1 | 0x5_4321 << 32 | 0xF << 58 | 1 << 63;
    assert_eq!(entry(&machine, 1), [word, 0x1234_5002]);
    let without = PageRequest {
        execute: true,
        privileged: true,
        ..request(3, false)
    };
    assert_eq!(ask(&machine, without), PageOutcome::Queued);
    assert_eq!(
        entry(&machine, 2)[0],
        1 << 60 | 1,
        "X and Priv need a PASID"
    );
    let pulses = machine.vmm.take_pulses();
    assert_eq!(pulses, [Line::PriQueue], "when it was empty");
    assert_eq!(machine.frame.pages().unwrap().metrics().written, 3);
}

#[test]
fn an_overflow_stops_the_queue_until_it_is_acknowledged() {
    let machine = booted();
    for group in 0..4 {
        assert_eq!(ask(&machine, request(group, true)), PageOutcome::Queued);
    }
    let full = responded(None, 9, PageResult::Success);
    assert_eq!(ask(&machine, request(9, true)), full);
    assert_eq!(machine.r32(offset::PRIQ_PROD), FLAG | 4);
    assert_eq!(ask(&machine, request(9, false)), PageOutcome::Dropped);
    let marker = PageRequest {
        substream: Some(SubstreamId(1)),
        read: false,
        ..request(9, true)
    };
    assert!(marker.is_stop_marker());
    assert_eq!(ask(&machine, marker), PageOutcome::Dropped);
    // There is room, but the guest has not said that it knows.
    machine.w32(offset::PRIQ_CONS, 4);
    assert_eq!(ask(&machine, request(9, true)), full);
    machine.w32(offset::PRIQ_CONS, FLAG | 4);
    assert_eq!(ask(&machine, request(10, true)), PageOutcome::Queued);
    assert_eq!(machine.r32(offset::PRIQ_PROD), FLAG | 5);
    let metrics = machine.frame.pages().unwrap().metrics();
    assert_eq!(
        (metrics.written, metrics.overflowed),
        (5, 4),
        "nothing is lost silently"
    );
    assert_eq!(machine.r32(offset::GERROR), 0);
}

fn fill(machine: &Machine) {
    while ask(machine, request(0, false)) == PageOutcome::Queued {}
}

#[test]
fn an_own_success_carries_the_pasid_as_the_ste_says() {
    let machine = booted();
    let space = machine.guest.space(1);
    fill(&machine);
    let of = |stream, group| PageRequest {
        stream: StreamId(stream),
        substream: Some(SubstreamId(7)),
        ..request(group, true)
    };
    for (stream, ppar) in [(1, PPAR), (2, 0)] {
        let cd = machine.guest.attach(stream, &space);
        machine.guest.ste(stream, [0xB | cd, ppar]);
    }
    let success = |pasid| responded(pasid, 3, PageResult::Success);
    assert_eq!(ask(&machine, of(1, 3)), success(Some(7)));
    assert_eq!(ask(&machine, of(2, 3)), success(None));
    let failure = responded(None, 3, PageResult::Failure);
    assert_eq!(ask(&machine, of(5, 3)), failure, "an STE that is not valid");
    assert_eq!(ask(&machine, of(0x40, 3)), failure, "no STE");
    let machine = booted_with(caps(true));
    fill(&machine);
    assert_eq!(
        ask(&machine, of(5, 3)),
        success(Some(7)),
        "IDR3.PPS asks nobody"
    );
}

#[test]
fn a_queue_that_does_not_work_answers_failure() {
    let machine = booted();
    let failure = responded(None, 6, PageResult::Failure);
    let works = |cr0, is: bool| {
        Driver::new(&machine).cr0(cr0).unwrap();
        let outcome = ask(&machine, request(6, true));
        assert_eq!(
            outcome,
            if is { PageOutcome::Queued } else { failure },
            "{cr0:#x}"
        );
        assert_eq!(
            ask(&machine, request(6, false)) == PageOutcome::Dropped,
            !is
        );
    };
    works(REST | SMMUEN, false);
    works(REST | SMMUEN | PRIQEN, true);
    works(REST | PRIQEN, false);
    works(REST, false);
    assert_eq!(machine.frame.pages().unwrap().metrics().disabled, 6);
}

#[test]
fn the_registers_are_guarded_by_priqen_whether_the_queue_works_or_not() {
    let machine = booted();
    for cr0 in [REST | SMMUEN | PRIQEN, REST | PRIQEN] {
        Driver::new(&machine).cr0(cr0).unwrap();
        machine.w64(offset::PRIQ_BASE, 0);
        machine.w32(offset::PRIQ_PROD, 3);
        assert_eq!(machine.r64(offset::PRIQ_BASE), 1 << 62 | PRIQ | LOG2);
        assert_eq!(machine.r32(offset::PRIQ_PROD), 0);
    }
    Driver::new(&machine).cr0(REST).unwrap();
    machine.w32(offset::PRIQ_PROD, 3);
    assert_eq!(machine.r32(offset::PRIQ_PROD), 3);
}

#[test]
fn a_queue_where_there_is_no_memory_is_an_error_until_it_is_acknowledged() {
    let machine = booted();
    let driver = Driver::new(&machine);
    driver.cr0(REST).unwrap();
    machine.w64(offset::PRIQ_BASE, dma_world::RAM | LOG2);
    driver.cr0(REST | SMMUEN | PRIQEN).unwrap();
    let failure = responded(None, 1, PageResult::Failure);
    assert_eq!(ask(&machine, request(1, true)), failure);
    assert_eq!(machine.r32(offset::GERROR), gerror_bits::PRIQ_ABT_ERR);
    let message = machine.guest.get(GERROR_WORD) as u32;
    assert_eq!(message, GERROR_WORD as u32, "the guest is told");
    driver.cr0(REST | SMMUEN).unwrap();
    machine.w64(offset::PRIQ_BASE, PRIQ | LOG2);
    driver.cr0(REST | SMMUEN | PRIQEN).unwrap();
    assert_eq!(ask(&machine, request(1, true)), failure, "still active");
    machine.w32(offset::GERRORN, gerror_bits::PRIQ_ABT_ERR);
    assert_eq!(ask(&machine, request(1, true)), PageOutcome::Queued);
}

#[test]
fn with_lo_the_last_request_of_a_group_interrupts_even_if_it_is_dropped() {
    let machine = booted();
    machine.w32(offset::IRQ_CTRL, 0);
    machine.w32(offset::PRIQ_IRQ_CFG2, 1 << 31);
    machine.w32(offset::IRQ_CTRL, 7);
    for group in 0..4 {
        ask(&machine, request(group, true));
    }
    assert_eq!(machine.vmm.take_pulses(), [Line::PriQueue; 4]);
    ask(&machine, request(4, false));
    assert_eq!(machine.vmm.take_pulses(), []);
    ask(&machine, request(4, true));
    assert_eq!(machine.vmm.take_pulses(), [Line::PriQueue]);
}

#[derive(Default)]
struct Asker(Mutex<Vec<PageResponse>>);

impl PageResponder for Asker {
    fn respond(&self, response: &PageResponse) {
        self.0.lock().unwrap().push(*response);
    }
}

fn answer(stream: u32, substream: Option<u32>, group: u16, response: PriResponse) -> RawCommand {
    encode(&Command::PriResp {
        stream: StreamId(stream),
        substream: substream.map(SubstreamId),
        group,
        response,
    })
}

#[test]
fn the_guests_answers_reach_the_device_in_order() {
    let machine = booted();
    let asker = Arc::new(Asker::default());
    let pages = machine.frame.pages().unwrap();
    pages.attach(StreamId(1), asker.clone());
    let mut driver = Driver::new(&machine);
    driver.prod = machine.r32(offset::CMDQ_PROD);
    let commands = [
        answer(1, None, 3, PriResponse::Success),
        answer(2, None, 4, PriResponse::Success),
        answer(1, Some(9), 0x1FF, PriResponse::Invalid),
        answer(1, None, 5, PriResponse::Failure),
    ];
    driver.send(&commands).unwrap();
    let response = |substream: Option<u32>, group, result| PageResponse {
        substream: substream.map(SubstreamId),
        group,
        result,
    };
    let all = [
        response(None, 3, PageResult::Success),
        response(Some(9), 0x1FF, PageResult::Invalid),
        response(None, 5, PageResult::Failure),
    ];
    assert_eq!(std::mem::take(&mut *asker.0.lock().unwrap()), all);
    let unbound = answer(0x40, None, 3, PriResponse::Success);
    driver.send(&[unbound]).unwrap();
    assert_eq!(machine.registers.ring().metrics().unbound, 1);
    driver.cr0(REST).unwrap();
    driver.send(&commands).unwrap();
    assert!(asker.0.lock().unwrap().is_empty(), "SMMUEN=0");
    let metrics = machine.registers.ring().metrics();
    // Stream 2's as well: it is bound. What was answered before does not count.
    assert_eq!((metrics.ignored_responses, metrics.unbound), (4, 1));
    driver.cr0(REST | SMMUEN).unwrap();
    pages.detach(StreamId(1));
    driver.send(&commands).unwrap();
    assert!(asker.0.lock().unwrap().is_empty());
}

#[test]
fn without_pri_there_is_no_queue_and_its_command_is_illegal() {
    let machine = Machine::stepped(Capabilities::default());
    let mut driver = Driver::new(&machine);
    driver.boot().unwrap();
    assert_eq!(machine.frame.request_page(&request(1, true)), None);
    machine.w64(offset::PRIQ_BASE, PRIQ);
    machine.w32(offset::PRIQ_CONS, 1);
    assert_eq!(
        (
            machine.r64(offset::PRIQ_BASE),
            machine.r32(offset::PRIQ_CONS)
        ),
        (0, 0)
    );
    driver.publish(&[answer(1, None, 1, PriResponse::Success)]);
    machine.pump();
    assert_eq!(machine.r32(offset::CMDQ_CONS) >> 24, 1, "CERROR_ILL");
}

#[test]
fn law10_page_requests_are_part_of_the_state() {
    let machine = booted();
    for group in 0..5 {
        ask(&machine, request(group, true));
    }
    machine.w32(offset::PRIQ_CONS, 2);
    machine.frame.pause();
    let (frame, registers) = (machine.frame.save(), machine.registers.save());
    let other = Machine::stepped(caps(false));
    other.frame.pause();
    other.frame.restore(&frame).unwrap();
    other.registers.restore(&registers).unwrap();
    other.frame.resume();
    for register in [offset::PRIQ_PROD, offset::PRIQ_CONS, offset::CR0] {
        assert_eq!(other.r32(register), machine.r32(register), "{register:#x}");
    }
    assert_eq!(other.r64(offset::PRIQ_BASE), 1 << 62 | PRIQ | LOG2);
    assert_eq!(other.r32(offset::PRIQ_PROD), FLAG | 4);
    other.w32(offset::PRIQ_CONS, FLAG | 2);
    assert_eq!(ask(&other, request(7, true)), PageOutcome::Queued);
    assert_eq!(entry(&other, 0)[1] & 0x1FF, 7);
    let mut wrong = frame.clone();
    wrong.pages = None;
    other.frame.pause();
    assert!(other.frame.restore(&wrong).is_err());
}

#[test]
fn a_reset_empties_the_queue() {
    let machine = booted();
    fill(&machine);
    machine.registers.reset();
    machine.pump();
    assert!(machine.registers.is_settled());
    let pointers = [offset::PRIQ_PROD, offset::PRIQ_CONS].map(|at| machine.r32(at));
    assert_eq!((pointers, machine.r64(offset::PRIQ_BASE)), ([0, 0], 0));
    assert_eq!(
        ask(&machine, request(1, true)),
        responded(None, 1, PageResult::Failure)
    );
}

/// What several threads ask for at the same time is there whole and once, or answered.
#[test]
fn requests_of_many_threads_are_recorded_or_answered() {
    const EACH: u16 = 64;
    let machine = Arc::new(booted());
    let taken: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let machine = &machine;
                scope.spawn(move || {
                    let asked = (0..EACH).map(|n| thread * EACH + n);
                    asked
                        .filter(|group| ask(machine, request(*group, true)) == PageOutcome::Queued)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(taken.len(), 4);
    let mut taken: Vec<u64> = taken.into_iter().map(u64::from).collect();
    let mut there: Vec<u64> = (0..4).map(|n| entry(&machine, n)[1] & 0x1FF).collect();
    taken.sort_unstable();
    there.sort_unstable();
    assert_eq!(taken, there);
    let metrics = machine.frame.pages().unwrap().metrics();
    assert_eq!(metrics.written + metrics.overflowed, 4 * u64::from(EACH));
}

#[test]
fn atschk_takes_effect_when_it_is_acknowledged() {
    use smmu_core::access::{Access, Operation};
    let machine = booted();
    let space = machine.guest.space(1);
    machine.guest.attach(1, &space);
    let mut port = machine.core.port(StreamId(1)).unwrap();
    let access = Access {
        address: 0x5000,
        operation: Operation::Read,
        privileged: false,
    };
    let mut translated = || port.translated(0, access, 4, || true, |_| ()).is_ok();
    assert!(translated(), "EATS=0 is not looked at");
    let driver = Driver::new(&machine);
    driver.cr0(REST | SMMUEN | ATSCHK).unwrap();
    assert!(!translated());
    driver.cr0(REST | SMMUEN).unwrap();
    assert!(translated());
}
