//! The measurements: every case once in each pass, one guest for all.

use super::cases;
use super::consumer;
use super::error::Error;
use super::layout::{
    EVENT, LOW_END, MAX_ROUNDS, NOTHING, PROD_OFFSET, QUEUE_PAGES, QUEUE_PAGES_BYTES, RESULT_BYTES,
    RESULTS, doorbell, queue_page, ring,
};
use super::params::Params;
use super::ping_pong;
use super::placement::Cpus;
use super::tally::Tally;
use super::vmm::{Ran, Vmm};
use crate::data::{Case, Mode, Report};
use crate::options::{Options, Progress};
use kvm_ioctls::Kvm;
use smmu_core::command::{Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::{Asid, Gpa, Vmid};
use vm_memory::{Bytes, GuestAddress};

/// Rounds before those that count: they touch every page that the others use.
const WARM_UP: u64 = 64;
/// The same for a guest that pauses before each.
const FEW_WARM_UP: u64 = 2;
/// Rounds of a row in the pass that only finds out how long they take.
const TRIAL: u32 = 20;
/// Passes over all rows: what the host does meanwhile, such as moving a thread to another
/// core, then does not meet one row alone.
const PASSES: usize = 5;
/// Rounds of one kind before it is the turn of another: much less than a host changes in, and much
/// more than the one behind a change, which finds a worker that has gone to sleep.
const LONGEST_TURN: u64 = 64;
/// What all passes are to take, in microseconds, without setting up.
const ALL_US: f64 = 40e6;
/// Most of it for one row in one pass.
const ROW_US: f64 = 100e3;
/// Rounds of a row in one pass.
const ROUNDS: std::ops::RangeInclusive<u32> = 20..=4000;

/// What does not change from row to row.
pub(super) struct Rig {
    vmm: Vmm,
    cpus: Cpus,
}

/// Measures what the options ask for.
///
/// # Errors
///
/// The first that occurs; there is no report then.
pub(crate) fn all(
    kvm: &Kvm,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, Error> {
    let cpus = Cpus::of_this_thread();
    let cases = cases::all(options, cpus.len());
    let vcpus = cases::vcpus(options, cpus.len());
    let most = vcpus.iter().copied().max().unwrap_or(1) as usize;
    let passes = if options.quick { 1 } else { PASSES };
    let rounds = options.rounds.unwrap_or(*ROUNDS.end()).max(TRIAL) as usize;
    let mut rig = Rig {
        vmm: Vmm::new(kvm, most, (most * rounds).min(MAX_ROUNDS + 1))?,
        cpus,
    };
    let mut tallies: Vec<_> = cases
        .into_iter()
        .map(|case| Tally::new(case, TRIAL))
        .collect();
    let trial = usize::from(!options.quick && options.rounds.is_none());
    progress.begin(((passes + trial) * tallies.len()) as u64);
    if trial == 0 {
        let rounds = options.rounds.unwrap_or(TRIAL);
        for tally in &mut tallies {
            // One of each kind.
            let least = if tally.case.has_exit_beside() { 2 } else { 1 };
            tally.rounds = rounds.max(least);
        }
    } else {
        let row_us = (ALL_US / (PASSES * tallies.len().max(1)) as f64).min(ROW_US);
        for tally in &mut tallies {
            let case = tally.case;
            rig.pass(tally).map_err(|error| error.in_case(case))?;
            *tally = Tally::new(
                tally.case,
                tally.rounds_in(row_us, rig.vmm.ticks_per_us(), ROUNDS),
            );
            progress.step();
        }
    }
    for _ in 0..passes {
        for tally in &mut tallies {
            let case = tally.case;
            rig.pass(tally).map_err(|error| error.in_case(case))?;
            progress.step();
        }
    }
    Ok(rig.report(options.quick, passes, &vcpus, &tallies))
}

impl Rig {
    /// Runs a case once, from empty queues, and notes what came out.
    fn pass(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let case = tally.case;
        if case.mode == Mode::Rtrb {
            return self.ping_pong(tally);
        }
        let vcpus = case.vcpus as usize;
        let ran = self.run(&case, tally)?;
        tally.ran(ran);
        let memory = self.vmm.vm().memory();
        let results = vcpus * tally.rounds as usize;
        for at in (RESULTS..).step_by(RESULT_BYTES).take(results) {
            let ticks = memory.read_obj(GuestAddress(at))?;
            let look = memory.read_obj(GuestAddress(at + 8))?;
            tally.note(ticks, look);
        }
        tally.end_pass();
        Ok(())
    }

    fn run(&mut self, case: &Case, tally: &mut Tally) -> Result<Ran, Error> {
        let vcpus = case.vcpus as usize;
        let memory = self.vmm.vm().memory().clone();
        memory.write_slice(&[0; QUEUE_PAGES_BYTES], GuestAddress(QUEUE_PAGES))?;
        for vcpu in 0..vcpus {
            let params = params(case, vcpu, tally.rounds, self.vmm.ticks_per_us());
            params.write(vcpu, &memory)?;
        }
        let consumer = consumer::of(case, &self.vmm, self.cpus.worker(vcpus))?;
        let busy = case.pause_us == 0;
        let warm_up = if busy { WARM_UP } else { FEW_WARM_UP };
        let ready = || !busy || consumer.is_ready();
        let ran = self
            .vmm
            .run(vcpus, warm_up, &self.cpus, &*consumer, &ready)?;
        if let Some(host) = consumer.host() {
            tally.counted(&host, ran);
        }
        Ok(ran)
    }

    /// The pass of what needs no guest.
    fn ping_pong(&self, tally: &mut Tally) -> Result<(), Error> {
        let ticks_per_us = self.vmm.ticks_per_us();
        let trips = ping_pong::trips(&self.cpus, u64::from(tally.rounds))?;
        for trip in trips.iter_recorded() {
            let ticks = trip.value_iterated_to() as f64 * ticks_per_us / 1000.0;
            (0..trip.count_at_value()).for_each(|_| tally.note(ticks as u64, 0));
        }
        tally.end_pass();
        Ok(())
    }

    fn report(&self, quick: bool, passes: usize, vcpus: &[u32], tallies: &[Tally]) -> Report {
        let ticks_per_us = self.vmm.ticks_per_us();
        let rows: Vec<_> = tallies
            .iter()
            .map(|tally| tally.row(ticks_per_us))
            .collect();
        let empty = Case::of(Mode::EmptyExit);
        let empty = rows.iter().find(|row| row.case == empty);
        let placed = vcpus.iter().map(|vcpus| self.cpus.placed(*vcpus as usize));
        Report {
            quick,
            cpus: self.cpus.len(),
            ticks_per_us,
            passes,
            empty_exit_ns: empty.map_or(f64::NAN, |row| row.latency.passes_p50),
            placement: placed.flatten().collect(),
            rows,
        }
    }
}

/// What a vCPU is told to do in a case.
fn params(case: &Case, vcpu: usize, rounds: u32, ticks_per_us: f64) -> Params {
    let pages = u64::from(case.pages.max(1));
    let (covered, granule) = if case.range {
        (pages, Some(Granule::K4))
    } else {
        (1, None)
    };
    let tlbi = encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(1),
        range: TlbiRange {
            // Each vCPU unmaps elsewhere, in the one address space.
            addr: (vcpu as u64) << 36,
            bytes: covered << 12,
            granule,
            ttl: 0,
            leaf: true,
        },
    }));
    let sync = encode(&Command::Sync(Signal::Irq {
        msi: Some(Msi {
            addr: Gpa(0),
            data: 0,
        }),
    }));
    Params {
        rounds: u64::from(rounds),
        waiter: case.waiter,
        span: case.span,
        vcpus: u64::from(case.vcpus),
        ring: ring(vcpu),
        prod_at: prod_at(case.mode, vcpu),
        exit_at: NOTHING,
        turn: turn(case, rounds),
        results: RESULTS + vcpu as u64 * u64::from(rounds) * RESULT_BYTES as u64,
        tlbi: [tlbi.dw0, tlbi.dw1],
        commands: pages / covered,
        stride: covered << 12,
        sync: sync.dw0,
        pause: (f64::from(case.pause_us) * ticks_per_us) as u64,
        ticks_per_us: ticks_per_us as u64,
        stored: 0,
    }
}

/// Rounds before it is the other's turn: several turns in any run.
fn turn(case: &Case, rounds: u32) -> u64 {
    if case.has_exit_beside() {
        let several = u64::from(rounds / 8).clamp(2, LONGEST_TURN);
        1 << several.ilog2()
    } else {
        0
    }
}

/// Where the guest writes PROD.
fn prod_at(mode: Mode, vcpu: usize) -> u64 {
    match mode {
        Mode::EmptyExit => NOTHING,
        Mode::KernelExit => EVENT,
        // No guest.
        Mode::Rtrb => NOTHING,
        Mode::InExit | Mode::Worker | Mode::Inline | Mode::Coalesced => doorbell(vcpu),
        Mode::Bare | Mode::SharedPage | Mode::Adaptive => queue_page(vcpu) + PROD_OFFSET,
    }
}

const _: () = assert!(LOW_END <= QUEUE_PAGES, "regions do not overlap");

#[cfg(test)]
mod tests;
