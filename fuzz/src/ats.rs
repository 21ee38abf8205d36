//! Any ATS Translation Request of any stream, and any transaction that says to have been translated:
//! what the device is answered, and what of memory it gets at.
//!
//! Input: the shape of both stages as for [`descriptors`](crate::descriptors), a byte for EATS, ATSCHK,
//! NW and Execute Requested, a byte for S1DSS and S1CDMax, two transactions, and the memory in which all
//! tables lie.

use crate::descriptors::{Shape, shapes};
use crate::input::Input;
use crate::machine::{MOST_ASKED, MOST_WALKS, Machine, write_request};
use crate::memory::Log;
use crate::naive::asked::transaction;
use crate::naive::ats::{Naive, Passed, Reply};
use crate::naive::model::Request;
use crate::reached::Reached;
use smmu_core::ats::{Admitted, AtsRefusal, AtsRequest};
use smmu_core::{StreamId, SubstreamId};

const CHECKS: u8 = 1 << 2;
const NO_WRITE: u8 = 1 << 3;
const EXECUTE: u8 = 1 << 4;

/// Runs the target.
pub fn run(input: &[u8]) -> Reached {
    let mut input = Input::new(input);
    let mut shape = Shape::read(&mut input);
    let (flags, contexts) = (input.u8(), input.u8());
    // EATS, S1DSS; a table with more than one CD in a few.
    shape.ste[1] |= u64::from(flags & 3) << 28 | u64::from(contexts & 3);
    shape.ste[0] |= u64::from(contexts >> 6) << 59;
    let asked = shape.request(&mut input);
    let passed = shape.request(&mut input);
    let mut machine = shape.machine(input.rest());
    // SSIDSIZE.
    machine.registers.idr1 |= 20 << 6;
    let mut reached = answered(&machine, &asked, flags);
    reached |= admitted(&machine, &passed, flags & CHECKS != 0);
    reached
}

/// Both SMMUs are asked.
fn answered(machine: &Machine, request: &Request, flags: u8) -> Reached {
    let has = |flag: u8| flags & flag != 0;
    let ram = &machine.ram;
    let naive = Naive {
        ram,
        regs: &machine.registers,
        checks: has(CHECKS),
    };
    let (expected, logs) = naive.reply(request, !has(NO_WRITE), has(EXECUTE));
    let ambiguous = logs.iter().any(Log::meets_itself);
    let naive = logs.into_iter().fold(Log::default(), Log::and);
    ram.undo(&naive);
    ram.take_log();
    let found = reply(machine, request, flags);
    let own = ram.take_log();
    ram.undo(&own);
    let mut most = 2 * MOST_ASKED;
    if ambiguous {
        most *= MOST_WALKS * MOST_WALKS;
    } else {
        assert_eq!(found, expected, "{request:x?} {flags:#x}");
        assert!(own.writes().eq(naive.writes()), "{own:x?} {naive:x?}");
    }
    assert!(
        own.asked() <= most,
        "memory was asked {} times",
        own.asked()
    );
    match expected {
        Reply::Unsupported(_) => Reached::REFUSED,
        Reply::Abort(event) => Reached::event(event),
        Reply::Nothing => Reached::NOTHING,
        Reply::Granted { .. } => Reached::PAGE,
    }
}

/// The crate's answer in the model's words.
fn reply(machine: &Machine, request: &Request, flags: u8) -> Reply {
    let has = |flag: u8| flags & flag != 0;
    let asked = AtsRequest {
        stream: StreamId(request.stream),
        substream: request.substream.map(SubstreamId),
        address: request.address,
        no_write: has(NO_WRITE),
        execute: has(EXECUTE),
        privileged: request.privileged,
    };
    match machine
        .setup()
        .answer_ats(&machine.ram, &asked, has(CHECKS))
    {
        Err(AtsRefusal::Unsupported(event)) => Reply::Unsupported(event.is_some()),
        Err(AtsRefusal::Abort(fault)) => Reply::Abort(fault.event() as u8),
        Ok(found) => {
            assert!(found.shift >= 12, "{found:x?}");
            assert!(found.from <= request.address && request.address <= found.last());
            let pasid = request.substream.is_some();
            assert_eq!(found.privileged, pasid && request.privileged);
            if !(found.read || found.write || found.execute) && found.to == 0 {
                return Reply::Nothing;
            }
            Reply::Granted {
                from: found.from,
                to: found.to,
                bytes: 1 << found.shift,
                rights: [found.read, found.write, found.execute],
                global: found.global,
            }
        }
    }
}

/// Both SMMUs let a translated transaction pass, or do not.
fn admitted(machine: &Machine, request: &Request, checks: bool) -> Reached {
    let ram = &machine.ram;
    let naive = Naive {
        ram,
        regs: &machine.registers,
        checks,
    };
    ram.take_log();
    let expected = naive.pass(request);
    let naive = ram.take_log();
    ram.undo(&naive);
    let found = machine
        .setup()
        .admit_translated(ram, &transaction(request), checks);
    let own = ram.take_log();
    ram.undo(&own);
    if naive.meets_itself() {
        return Reached::NOTHING;
    }
    let found = match found {
        Ok(Admitted::AsIs) => Passed::To(request.address),
        Ok(Admitted::Stage2(_, leaf)) => Passed::To(leaf.output(request.address)),
        Err(None) => Passed::Aborted(None),
        Err(Some(failed)) => Passed::Aborted(Some(failed.fault.event() as u8)),
    };
    assert_eq!(found, expected, "{request:x?}");
    assert!(own.writes().eq(naive.writes()), "{own:x?} {naive:x?}");
    match expected {
        Passed::To(_) => Reached::BYPASS,
        Passed::Aborted(None) => Reached::ABORT,
        Passed::Aborted(Some(event)) => Reached::event(event),
    }
}

/// Every EATS for the shapes of [`descriptors`](crate::descriptors), with checks and without.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let all = (0u8..).zip(shapes()).flat_map(|(nth, (to, words))| {
        [1, 2 | CHECKS, nth & 3 | nth >> 2 & 1 << 2].map(|flags| {
            let to = to.clone().u8(flags | nth << 3 & (NO_WRITE | EXECUTE)).u8(0);
            let to = write_request(to, 8, 0, 0x1234_5678_9000);
            write_request(to, 0, 0, 0x1_2345_6789).words(&words).done()
        })
    });
    all.collect()
}
