//! Worlds after worlds, through both, compared.

use crate::known::{self, Difference, FIELDS};
use crate::layout::{PAGES, RAM, RAM_MIB, STREAMS, STREAMS_LOG2, STREAMS_SPLIT, is_ram};
use crate::machine::Machine;
use crate::ours::{self, Engine};
use crate::report::Report;
use crate::theirs::{self, Driver, Landed};
use crate::words::list;
use crate::world::{Dice, Request, World};
use anyhow::{Context, Result};
use smmu_core::config::StreamTable;
use smmu_core::fault::Fault;
use smmu_core::spec::register::{StrtabBase, StrtabBaseCfg};
use smmu_core::translate::Setup;
use smmu_core::{Gpa, GuestMemory};
use std::ops::Range;
use std::sync::Arc;
use vcmdq_e2e::parts::Qemu;
use vcmdq_e2e::vehicle::Ram;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Accesses.
    pub cases: u64,
    /// What chooses them.
    pub seed: u64,
    /// Only this world.
    pub only: Option<u64>,
    /// Stops when so many differences are not known.
    pub most: u64,
    /// The engine is told of a smaller OAS than QEMU has: differences must be found.
    pub misled: bool,
    /// One that is not told what has been changed: differences must be found.
    pub untold: Option<Side>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The engine.
    Engine,
    /// QEMU's SMMU.
    Qemu,
}

/// One world in so many has a stream table of two levels.
const TWO_LEVEL: u64 = 8;

/// 36 bits.
const MISLEADING_OAS: u8 = 1;

/// Runs a plan; the counts.
///
/// # Errors
///
/// QEMU does not start or ends, or the engine contradicts itself.
pub fn run(qemu: &Qemu, plan: &Plan, tell: &dyn Fn(u64)) -> Result<Report> {
    let mut report = Report::default();
    let (mut linear, mut two_level) = (None, None);
    for number in plan.only.map_or(0..u64::MAX, |only| only..only + 1) {
        if report.cases >= plan.cases || report.unknown >= plan.most {
            break;
        }
        let two = number % TWO_LEVEL == TWO_LEVEL - 1;
        let pair = if two { &mut two_level } else { &mut linear };
        let pair = match pair {
            Some(pair) => pair,
            none => none.insert(Pair::start(qemu, two, plan)?),
        };
        let world = World::random(&mut Dice::new(plan.seed, number), two);
        pair.compare(&world, number, &mut report)
            .with_context(|| format!("world {number} of seed {}", plan.seed))?;
        tell(report.cases);
    }
    Ok(report)
}

/// QEMU and the engine over the same memory.
struct Pair {
    driver: Driver,
    memory: Arc<dyn GuestMemory>,
    setup: Setup,
    untold: Option<Side>,
}

impl Pair {
    fn start(qemu: &Qemu, two_level: bool, plan: &Plan) -> Result<Self> {
        let streams = StrtabBaseCfg::new()
            .with_log2size(STREAMS_LOG2)
            .with_split(STREAMS_SPLIT)
            .with_fmt(two_level.into());
        let ram = Ram::new(RAM_MIB)?;
        let memory: Arc<dyn GuestMemory> = ram.memory().clone();
        let machine = Machine::start(qemu, &ram, streams)?;
        let driver = Driver::new(machine, ram)?;
        let mut caps = driver.machine().caps;
        if plan.misled {
            caps.idr5.set_oas(MISLEADING_OAS);
        }
        let base = StrtabBase::from_bits(STREAMS);
        let setup = Setup {
            streams: StreamTable::from_registers(base, streams, &caps),
            caps,
            e2h: false,
            record_bad_stream_id: true,
        };
        Ok(Self {
            memory,
            driver,
            setup,
            untold: plan.untold,
        })
    }

    /// A world, and the same behind its change.
    fn compare(&mut self, world: &World, number: u64, report: &mut Report) -> Result<()> {
        let mut engine = Engine::new(&self.setup, &self.memory)?;
        let same = self.round(&mut engine, world, number, report)?;
        let (Some(change), true) = (&world.change, same) else {
            return Ok(());
        };
        let world = world.after(change);
        if self.untold != Some(Side::Engine) {
            engine.execute(&change.commands)?;
        }
        if self.untold != Some(Side::Qemu) {
            self.driver.execute(&change.commands)?;
        }
        let before = report.cases;
        let told = format!("behind {}", list(&change.commands));
        let round = self.round(&mut engine, &world, number, report);
        report.behind_changes += report.cases - before;
        round.context(told).map(|_| ())
    }

    /// Every access of a world. Whether memory and caches of both are the same afterwards, as far as one
    /// can tell.
    fn round(
        &mut self,
        engine: &mut Engine,
        world: &World,
        number: u64,
        report: &mut Report,
    ) -> Result<bool> {
        self.driver.slate().enter(world)?;
        let ours = engine.outcomes(world)?;
        let all = world.requests.iter().copied().zip(ours);
        let chosen: Vec<(Request, ours::Outcome)> =
            all.filter(|(_, ours)| harmless(ours)).collect();
        report.left_out += (world.requests.len() - chosen.len()) as u64;
        let theirs = self.driver.perform(&chosen, |nth| world.forgets(nth))?;
        let unspoilt = self.driver.slate().is_unspoilt()?;
        for ((request, ours), theirs) in chosen.iter().zip(&theirs) {
            report.count(world, ours);
            if agree(ours, theirs) || agree_but_for_fields(ours, theirs, report) {
                continue;
            }
            let reads = ours::reads(&self.setup, &*self.memory, request);
            let difference = Difference {
                world,
                request,
                ours,
                theirs,
                setup: &self.setup,
                memory: &*self.memory,
                reads: &reads,
            };
            match known::all().find(|known| (known.explains)(&difference)) {
                Some(known) => report.known(known.name),
                None => report.unknown(number, &difference),
            }
            if !unspoilt {
                // What QEMU wrote where we would not changes what comes next.
                break;
            }
        }
        Ok(unspoilt)
    }
}

/// Above RAM: interrupt controller and configuration space, and PCI's memory, which reads as ones where
/// there is no device.
const WINDOWS: [Range<u64>; 2] = [
    0x40_0000_0000..0x41_0000_0000,
    0x80_0000_0000..0x100_0000_0000,
];

/// Whether QEMU, if it agrees, writes neither to tables nor to a device, and reads no device.
fn harmless(ours: &ours::Outcome) -> bool {
    let is_device = |at| at < RAM || WINDOWS.iter().any(|window| window.contains(&at));
    let at = match (ours.reached, ours.fault) {
        (Some(at), _) => at,
        (None, Some(Fault::WalkAbort(_, Gpa(at)) | Fault::CdFetch(Gpa(at)))) => at,
        (None, _) => return true,
    };
    !is_device(at) && !(RAM..PAGES).contains(&at)
}

/// Whether both say the same, but for fields of the record that QEMU is known to get wrong.
fn agree_but_for_fields(
    ours: &ours::Outcome,
    theirs: &theirs::Outcome,
    report: &mut Report,
) -> bool {
    let (Some(expected), [got]) = (ours.record, theirs.records.as_slice()) else {
        return false;
    };
    let mut corrected = *got;
    let mut names = Vec::new();
    for field in FIELDS {
        let before = corrected;
        (field.correct)(&mut corrected, &expected);
        if corrected != before {
            names.push(field.name);
        }
    }
    let corrected = theirs::Outcome {
        landed: theirs.landed,
        records: vec![corrected],
    };
    let agreed = agree(ours, &corrected);
    if agreed {
        names.into_iter().for_each(|name| report.known(name));
    }
    agreed
}

/// Whether both say the same.
fn agree(ours: &ours::Outcome, theirs: &theirs::Outcome) -> bool {
    let records = ours.record.as_slice() == theirs.records.as_slice();
    let landed = match (ours.reached, theirs.landed) {
        (Some(at), landed) if is_ram(at) => landed == Landed::There,
        // Beyond RAM only the absence of a record tells.
        (Some(_), _) | (None, Landed::Unknown) => true,
        (None, landed) => landed == Landed::Failed,
    };
    records && landed
}
