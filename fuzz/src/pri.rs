//! Any page requests of devices, while the guest does what it likes with its PRI queue.
//!
//! Input: a byte of features, then steps: a request, a register of the queue or CR0 written, a PRI_RESP
//! sent, words scribbled into memory, a turn of the engine.

use crate::input::{Input, Output};
use crate::reached::Reached;
use crate::registers::{RAM, World, capabilities};
use smmu_core::command::{Command, PriResponse};
use smmu_core::encode::encode;
use smmu_core::guest_memory::{load_u64, store_u64};
use smmu_core::spec::register::offset;
use smmu_core::{Gpa, StreamId, SubstreamId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vcmdq::events::pages::{PageOutcome, PageRequest, PageResponder, PageResponse, PageResult};
use vcmdq::gerror_bits;

const MOST_STEPS: usize = 128;
/// The SMMU's own command queue: 16 entries.
const COMMANDS: u64 = 0x4000;
const LOG2_COMMANDS: u64 = 4;
/// Where the PRI queue is at first: four entries.
const PAGES: u64 = 0x5000;
const LOG2_PAGES: u64 = 2;
/// CR0: SMMUEN, PRIQEN, EVENTQEN, CMDQEN.
const ON: u64 = 0xF;
const STREAM: StreamId = StreamId(1);

/// A device that keeps the last answer.
#[derive(Debug, Default)]
struct Device(Mutex<Option<PageResponse>>);

impl Device {
    fn take(&self) -> Option<PageResponse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PageResponder for Device {
    fn respond(&self, response: &PageResponse) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(*response);
    }
}

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    // With ATS and PRI.
    let world = World::new(capabilities(input.u8() | 1 | 1 << 4));
    let device = Arc::new(Device::default());
    let pages = world.frame.pages().expect("it is advertised");
    pages.attach(STREAM, device.clone());
    let mut guest = Guest {
        world,
        device,
        sent: 0,
        reached: Reached::NOTHING,
    };
    guest.boot();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        guest.step(&mut input);
    }
    guest.world.reset();
    guest.reached
}

struct Guest {
    world: World,
    device: Arc<Device>,
    /// PROD of the command queue.
    sent: u64,
    reached: Reached,
}

/// What the registers say of the queue.
#[derive(Clone, Copy, Debug)]
struct Queue {
    prod: u64,
    entries: u64,
    /// Address of the next record.
    next: u64,
    /// PRIQEN and SMMUEN have taken effect, and there is no PRIQ_ABT_ERR.
    works: bool,
    /// OVFLG is not acknowledged.
    overflowed: bool,
    /// Records that the guest has not taken; more than there are entries if CONS is nonsense.
    count: u64,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.works && !self.overflowed && self.count < self.entries
    }

    fn is_full(&self) -> bool {
        self.works && (self.overflowed || self.count >= self.entries)
    }
}

impl Guest {
    fn read(&self, at: u64) -> u64 {
        self.world.registers.read(at, 4)
    }

    fn write(&self, at: u64, width: u8, value: u64) {
        self.world.registers.write(at, width, value);
    }

    /// What a driver does to have both queues.
    fn boot(&mut self) {
        self.write(offset::CMDQ_BASE, 8, COMMANDS | LOG2_COMMANDS);
        self.write(offset::PRIQ_BASE, 8, PAGES | LOG2_PAGES);
        self.write(offset::CR0, 4, ON);
        self.world.pump();
    }

    fn queue(&self) -> Queue {
        let base = self.world.registers.read(offset::PRIQ_BASE, 8);
        let log2size = (base & 0x1f).min(self.read(offset::IDR1) >> 16 & 0x1f);
        let (prod, cons) = (self.read(offset::PRIQ_PROD), self.read(offset::PRIQ_CONS));
        let entries = 1 << log2size;
        let bytes = (16 * entries).max(32);
        let errors = self.read(offset::GERROR) ^ self.read(offset::GERRORN);
        let aborted = errors & u64::from(gerror_bits::PRIQ_ABT_ERR) != 0;
        let base = base & 0x00ff_ffff_ffff_ffe0;
        Queue {
            prod,
            entries,
            next: base / bytes * bytes + 16 * (prod % entries),
            works: self.read(offset::CR0ACK) & 3 == 3 && !aborted,
            overflowed: (prod ^ cons) >> 31 & 1 != 0,
            count: prod.wrapping_sub(cons) % (2 * entries),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        match what & 7 {
            0..=2 => self.request(input),
            3 if what >> 3 == 0 => {
                // Takes everything.
                let prod = self.read(offset::PRIQ_PROD);
                self.write(offset::PRIQ_CONS, 4, prod);
            }
            3 => self.write(offset::PRIQ_CONS, 4, input.u32().into()),
            4 => {
                let registers = [offset::PRIQ_BASE, offset::PRIQ_PROD, offset::PRIQ_IRQ_CFG2];
                let at = registers[usize::from(what >> 3) % registers.len()];
                let value = input.u64();
                self.write(at, if at == offset::PRIQ_BASE { 8 } else { 4 }, value);
            }
            5 => {
                self.write(offset::CR0, 4, u64::from(what >> 3) ^ ON);
                self.world.pump();
            }
            6 => self.respond(input),
            _ => {
                let (at, word) = (u64::from(input.u16()) & !7, input.u64());
                // All of it is memory.
                let _stored = store_u64(&*self.world.memory, Gpa(at), word, Ordering::Relaxed);
                let gerror = self.read(offset::GERROR);
                self.write(offset::GERRORN, 4, gerror);
                self.world.pump();
            }
        }
    }

    fn request(&mut self, input: &mut Input<'_>) {
        let (flags, group, address) = (input.u8(), input.u16(), input.u64());
        let has = |bit: u8| flags >> bit & 1 != 0;
        let substream = has(0).then(|| SubstreamId(input.u32() & 0xF_FFFF));
        let request = PageRequest {
            stream: StreamId(u32::from(flags >> 6)),
            substream,
            address,
            group,
            read: has(1),
            write: has(2),
            execute: has(3),
            privileged: has(4),
            last: has(5),
        };
        let before = self.queue();
        let outcome = self.world.frame.request_page(&request);
        let outcome = outcome.expect("PRI is advertised");
        let after = self.queue();
        let what = format_args!("{outcome:?} {before:x?} {after:x?}").to_string();
        match outcome {
            PageOutcome::Queued => self.check_record(&request, &before, &after),
            PageOutcome::Dropped => {
                assert!(!request.last || request.is_stop_marker(), "{what}");
                assert_eq!(after.prod << 33, before.prod << 33, "but for OVFLG: {what}");
            }
            PageOutcome::Responded(response) => {
                assert!(request.last && !request.is_stop_marker(), "{what}");
                assert_eq!(response.group, group & 0x1ff);
                assert!(response.substream.is_none_or(|own| Some(own) == substream));
                let failed = response.result == PageResult::Failure;
                assert!(failed || before.is_full(), "{what}");
                assert_eq!(after.prod << 33, before.prod << 33, "but for OVFLG: {what}");
            }
        }
        let backed = before.next + 16 <= RAM;
        if before.has_room() && backed {
            assert_eq!(outcome, PageOutcome::Queued, "{what}");
            self.reached |= Reached::PAGE;
        } else if before.is_full() {
            assert!(outcome != PageOutcome::Queued, "{what}");
            assert!(after.overflowed, "law 8, nothing is lost silently: {what}");
            self.reached |= Reached::OVERFLOW;
        }
    }

    /// The record as 8.2 has it, and PROD one further.
    fn check_record(&self, request: &PageRequest, before: &Queue, after: &Queue) {
        let bit = |on: bool, at: u32| u64::from(on) << at;
        let pasid = request.substream.is_some();
        let first = u64::from(request.stream.0)
            | request.substream.map_or(0, |own| u64::from(own.0) << 32)
            | bit(pasid && request.privileged, 58)
            | bit(pasid && request.execute, 59)
            | bit(request.write, 60 + 1)
            | bit(request.read, 60)
            | bit(request.last, 62)
            | bit(pasid, 63);
        let second = u64::from(request.group & 0x1ff) | request.address >> 12 << 12;
        let load = |at| load_u64(&*self.world.memory, Gpa(at), Ordering::Relaxed);
        let found = [load(before.next), load(before.next + 8)];
        assert_eq!(found, [Ok(first), Ok(second)], "{request:x?}");
        let mask = 2 * before.entries - 1;
        assert_eq!(after.prod & mask, (before.prod + 1) & mask);
    }

    /// Sends a PRI_RESP through the command queue, if that works.
    fn respond(&mut self, input: &mut Input<'_>) {
        let (kind, group) = (input.u8(), input.u16() & 0x1ff);
        let response = [
            (PriResponse::Success, PageResult::Success),
            (PriResponse::Invalid, PageResult::Invalid),
            (PriResponse::Failure, PageResult::Failure),
        ][usize::from(kind >> 1) % 3];
        let substream = (kind & 1 != 0).then_some(SubstreamId(u32::from(kind)));
        let command = encode(&Command::PriResp {
            stream: STREAM,
            substream,
            group,
            response: response.0,
        });
        self.world.pump();
        let errors = self.read(offset::GERROR) ^ self.read(offset::GERRORN);
        let on = self.read(offset::CR0ACK) & 8 != 0;
        let prod = self.read(offset::CMDQ_PROD);
        if errors & 1 != 0 || !on || prod != self.sent % 32 {
            return;
        }
        let at = COMMANDS + 16 * (self.sent % 16);
        for (word, at) in [(command.dw0, at), (command.dw1, at + 8)] {
            store_u64(&*self.world.memory, Gpa(at), word, Ordering::Relaxed).expect("memory");
        }
        self.device.take();
        self.sent += 1;
        self.write(offset::CMDQ_PROD, 4, self.sent % 32);
        self.world.pump();
        let expected = PageResponse {
            substream,
            group,
            result: response.1,
        };
        // With SMMUEN=0 the command is ignored (4.5.2).
        let enabled = self.read(offset::CR0ACK) & 1 != 0;
        assert_eq!(self.device.take(), enabled.then_some(expected));
        self.reached |= Reached::CONSUMED;
    }
}

/// Requests until there is no room, an answer, and the same again.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let request = |to: Output, flags: u8| {
        let to = to.u8(0).u8(1 << 6 | flags).u16(0x155).u64(0x1234_5678);
        if flags & 1 != 0 { to.u32(5) } else { to }
    };
    let respond = |to: Output| to.u8(6).u8(1).u16(0x155);
    let full = |to: Output| (0..6).fold(to, |to, nth| request(to, 0x22 | nth));
    let begun = full(Output::default().u8(0));
    let again = full(respond(begun.clone()).u8(3));
    let moved = again.clone().u8(5 | 2 << 3).u8(4).u64(0xFFE3).u8(5);
    vec![begun.done(), again.done(), full(moved).done()]
}
