//! The measurements: every way to consume, with every waiter, in one guest.

use super::bare;
use super::engine::Consumer;
use super::guest::{DOORBELL, NOTHING, Params, QUEUE_PAGE, RESULTS, Waiter};
use super::in_exit::InExit;
use super::report::{Mode, Report, Row, Sample};
use super::vmm::{Error, Vmm};
use kvm_ioctls::Kvm;
use smmu_core::command::{Command, Msi, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::range::TlbiRange;
use smmu_core::{Asid, Gpa, Vmid};
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Rounds before those that count: they touch every page that the others use.
const WARM_UP: usize = 64;

/// The rounds of a row are spread over so many passes over all rows: what the host does
/// meanwhile, such as moving a thread to another core, then does not meet one row alone.
const PASSES: usize = 5;

/// What is compared. The first is what the others are divided by.
const CASES: [(Mode, Waiter); 9] = [
    (Mode::EmptyExit, Waiter::Nobody),
    (Mode::Bare, Waiter::Spin),
    (Mode::Bare, Waiter::Linux),
    (Mode::TrapInExit, Waiter::Spin),
    (Mode::TrapInExit, Waiter::Linux),
    (Mode::TrapWorker, Waiter::Spin),
    (Mode::TrapWorker, Waiter::Linux),
    (Mode::SharedPage, Waiter::Spin),
    (Mode::SharedPage, Waiter::Linux),
];

/// Measures all cases, at least `rounds` rounds each.
///
/// # Errors
///
/// The first that occurs; there is no report then.
pub(crate) fn all(kvm: &Kvm, rounds: usize) -> Result<Report, Error> {
    let rounds = rounds.div_ceil(PASSES);
    let mut vmm = Vmm::new(kvm, WARM_UP + rounds)?;
    let ticks_per_us = vmm.ticks_per_us()?;
    let mut noted = CASES.map(|case| (case, Vec::new(), 0));
    for _ in 0..PASSES {
        for (case, samples, exits) in &mut noted {
            *exits += one(&mut vmm, rounds, *case)?;
            note(vmm.memory(), rounds, samples)?;
        }
    }
    let runs = (PASSES * (WARM_UP + rounds)) as f64;
    let row = |(case, samples, exits): (_, Vec<_>, u64)| {
        Row::new(case, &samples, exits as f64 / runs, ticks_per_us)
    };
    Ok(Report {
        rounds: PASSES * rounds,
        ticks_per_us,
        rows: noted.into_iter().map(row).collect(),
    })
}

/// Runs one case once, from an empty queue. Returns the exits.
fn one(vmm: &mut Vmm, rounds: usize, (mode, waiter): (Mode, Waiter)) -> Result<u64, Error> {
    let params = params(WARM_UP + rounds, mode, waiter, vmm.ticks_per_us()?);
    let memory = vmm.memory().clone();
    // All six words of a queue's window.
    memory.write_obj([0u64; 3], GuestAddress(QUEUE_PAGE))?;
    exits(vmm, mode, &params, &memory)
}

/// Appends the rounds that count to `samples`.
fn note(memory: &GuestMemoryMmap, rounds: usize, samples: &mut Vec<Sample>) -> Result<(), Error> {
    for at in (RESULTS..).step_by(16).skip(WARM_UP).take(rounds) {
        samples.push(Sample {
            ticks: memory.read_obj(GuestAddress(at))?,
            look: memory.read_obj(GuestAddress(at + 8))?,
        });
    }
    Ok(())
}

/// Runs the guest once, with its queue consumed as `mode` says.
fn exits(
    vmm: &mut Vmm,
    mode: Mode,
    params: &Params,
    memory: &GuestMemoryMmap,
) -> Result<u64, Error> {
    match mode {
        Mode::EmptyExit => vmm.run(params, &|_| {}),
        Mode::Bare => beside(
            |stop| bare::answer(memory, stop),
            || vmm.run(params, &|_| {}),
        ),
        Mode::TrapInExit => {
            let consumer = InExit::new(memory);
            vmm.run(params, &|prod| consumer.doorbell(prod))
        }
        Mode::TrapWorker => {
            let consumer = Consumer::trap(memory)?;
            vmm.run(params, &|prod| consumer.ring.doorbell(prod))
        }
        Mode::SharedPage => {
            let _consumer = Consumer::shared_page(memory)?;
            vmm.run(params, &|_| {})
        }
    }
}

/// Runs the guest with a thread beside it that ends when `stop` is set.
fn beside(
    thread: impl FnOnce(&AtomicBool) -> Result<(), Error> + Send,
    guest: impl FnOnce() -> Result<u64, Error>,
) -> Result<u64, Error> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| thread(&stop));
        let exits = guest();
        stop.store(true, Ordering::Relaxed);
        match thread.join() {
            Ok(ended) => ended.and(exits),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn params(rounds: usize, mode: Mode, waiter: Waiter, ticks_per_us: f64) -> Params {
    let tlbi = encode(&Command::Tlbi(Tlbi::NhVa {
        vmid: Vmid(0),
        asid: Asid(1),
        range: TlbiRange {
            addr: 0,
            bytes: 4096,
            granule: None,
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
        rounds: rounds as u64,
        waiter,
        prod_at: match mode {
            Mode::EmptyExit => NOTHING,
            Mode::TrapInExit | Mode::TrapWorker => DOORBELL,
            Mode::Bare | Mode::SharedPage => QUEUE_PAGE + 4,
        },
        tlbi: [tlbi.dw0, tlbi.dw1],
        sync: sync.dw0,
        ticks_per_us: ticks_per_us as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Where there is no KVM there is nothing to see.

    #[test]
    fn a_shared_page_never_exits_and_a_trap_exits_once() -> Result<(), Error> {
        let Ok(kvm) = Kvm::new() else {
            return Ok(());
        };
        let report = all(&kvm, 10)?;
        for row in &report.rows {
            let exits = match row.mode {
                Mode::Bare | Mode::SharedPage => 0.0,
                _ => 1.0,
            };
            assert_eq!(row.exits_per_round, exits, "{row:?}");
        }
        Ok(())
    }

    #[test]
    fn a_guest_that_nobody_answers_gives_up() -> Result<(), Error> {
        let Ok(kvm) = Kvm::new() else {
            return Ok(());
        };
        let mut vmm = Vmm::new(&kvm, 1)?;
        for waiter in [Waiter::Spin, Waiter::Linux] {
            let params = params(1, Mode::SharedPage, waiter, vmm.ticks_per_us()?);
            let ended = vmm.run(&params, &|_| {});
            assert!(
                matches!(ended, Err(Error::TimedOut)),
                "{waiter:?}: {ended:?}"
            );
        }
        Ok(())
    }
}
