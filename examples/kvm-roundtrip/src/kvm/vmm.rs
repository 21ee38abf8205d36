//! The smallest VMM that there is: vCPUs, RAM, and addresses that exit.

use super::consumer::Consumer;
use super::error::Error;
use super::layout::{EVENT, EXIT, FINISHED, GO, MAX_ROUNDS, MAX_VCPUS, NOTHING, vcpu_of};
use super::memory::{self, Vm};
use super::params::done;
use super::placement::{Cpus, pin};
use super::x86_64;
use super::zone::Writes;
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuExit, VcpuFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// After that, rounds count though the consumer is not ready; and a guest that is stuck has given
/// up by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A VM with its vCPUs.
#[derive(Debug)]
pub(crate) struct Vmm {
    vcpus: Vec<VcpuFd>,
    writes: Arc<Writes>,
    /// Signalled by writes to [`EVENT`]; nobody ever reads it.
    _event: EventFd,
    ticks_per_us: f64,
    // Last, as its memory.
    vm: Arc<Vm>,
}

/// What was counted while the guest ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ran {
    /// Exits to user space, but for each vCPU's last.
    pub(crate) exits: u64,
    /// Rounds, with those that do not count.
    pub(crate) rounds: u64,
}

impl Vmm {
    /// A VM of so many vCPUs, with room for so many rounds of all of them together.
    ///
    /// # Errors
    ///
    /// What KVM or the memory says.
    pub(crate) fn new(kvm: &Kvm, vcpus: usize, rounds: usize) -> Result<Self, Error> {
        if vcpus > MAX_VCPUS || rounds > MAX_ROUNDS {
            let most = format!("at most {MAX_VCPUS} vCPUs and {MAX_ROUNDS} rounds");
            return Err(Error::TooMuch(most));
        }
        let memory = memory::new(rounds)?;
        let vm = Vm::new(kvm.create_vm()?, memory)?;
        let event = EventFd::new(EFD_NONBLOCK)?;
        let at = IoEventAddress::Mmio(EVENT);
        vm.fd().register_ioevent(&event, &at, NoDatamatch)?;
        let fds = (0..vcpus).map(|id| x86_64::create(vm.fd(), id));
        let fds = fds.collect::<Result<Vec<_>, _>>()?;
        let never_run = vm.fd().create_vcpu(vcpus as u64)?;
        let khz = fds.first().unwrap_or(&never_run).get_tsc_khz()?;
        Ok(Self {
            vcpus: fds,
            writes: Arc::new(Writes::new(never_run)?),
            _event: event,
            ticks_per_us: f64::from(khz) / 1000.0,
            vm,
        })
    }

    /// The VM and its memory.
    pub(crate) fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// What KVM has queued of the guest's writes.
    pub(crate) fn writes(&self) -> &Arc<Writes> {
        &self.writes
    }

    /// Ticks of the guest's TSC in a microsecond.
    pub(crate) fn ticks_per_us(&self) -> f64 {
        self.ticks_per_us
    }

    /// Runs the first `vcpus` vCPUs to the end of what their parameters say. Rounds count from when
    /// each has done `warm_up` of them and `ready` says so.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if a SYNC was not seen, [`Error::Exit`] if the guest did what it
    /// should not.
    pub(crate) fn run(
        &mut self,
        vcpus: usize,
        warm_up: u64,
        cpus: &Cpus,
        consumer: &dyn Consumer,
        ready: &dyn Fn() -> bool,
    ) -> Result<Ran, Error> {
        let vm = &*self.vm;
        set(vm, GO, 0)?;
        set(vm, FINISHED, 0)?;
        let ran = thread::scope(|scope| {
            let threads: Vec<_> = (self.vcpus.iter_mut().take(vcpus).enumerate())
                .map(|(id, vcpu)| {
                    let cpu = cpus.of_vcpu(id);
                    scope.spawn(move || {
                        pin(cpu);
                        let ran = x86_64::start(vcpu, id).and_then(|()| exits(vcpu, consumer));
                        if ran.is_err() {
                            // The others are not to wait for it.
                            set(vm, FINISHED, vcpus as u32)?;
                        }
                        ran
                    })
                })
                .collect();
            let warm = warm_up_over(vm, &threads, warm_up, ready);
            let went = warm.and_then(|()| set(vm, GO, 1));
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            let exits = ended.sum::<Result<u64, Error>>();
            went.and(exits)
        })?;
        let rounds = (0..vcpus).map(|vcpu| done(vcpu, vm.memory()));
        Ok(Ran {
            exits: ran,
            rounds: rounds.sum::<Result<u64, Error>>()?,
        })
    }
}

/// Writes one of the words that vCPUs look at.
fn set(vm: &Vm, at: u64, value: u32) -> Result<(), Error> {
    Ok(vm
        .memory()
        .store(value, GuestAddress(at), Ordering::Release)?)
}

/// Waits until rounds may count, or a vCPU has left already.
fn warm_up_over<T>(
    vm: &Vm,
    threads: &[ScopedJoinHandle<'_, T>],
    rounds: u64,
    ready: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let mut least = u64::MAX;
        for vcpu in 0..threads.len() {
            least = least.min(done(vcpu, vm.memory())?);
        }
        let left = threads.iter().any(ScopedJoinHandle::is_finished);
        if (least >= rounds && ready()) || left || start.elapsed() > PATIENCE {
            return Ok(());
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Runs a vCPU until it says that it is done. Returns how many exits there were before the last.
fn exits(vcpu: &mut VcpuFd, consumer: &dyn Consumer) -> Result<u64, Error> {
    let mut exits = 0;
    loop {
        match vcpu.run() {
            Ok(VcpuExit::MmioWrite(NOTHING, _)) => {}
            Ok(VcpuExit::MmioWrite(EXIT, data)) => {
                return match data {
                    [0, ..] => Ok(exits),
                    _ => Err(Error::TimedOut(format!("after {exits} exits"))),
                };
            }
            Ok(VcpuExit::MmioWrite(at, &[a, b, c, d])) if vcpu_of(at).is_some() => {
                let whose = vcpu_of(at).unwrap_or(0);
                consumer.doorbell(whose, u32::from_le_bytes([a, b, c, d]));
            }
            Ok(other) => {
                let exit = format!("{other:?}");
                let at = vcpu.get_regs().map_or(0, |regs| regs.rip);
                return Err(Error::Exit(format!("{exit} at {at:#x}")));
            }
            // A signal for the thread: not the guest's matter.
            Err(error) if interrupted(error) => continue,
            Err(error) => return Err(error.into()),
        }
        exits += 1;
    }
}

fn interrupted(error: kvm_ioctls::Error) -> bool {
    std::io::Error::from(error).kind() == std::io::ErrorKind::Interrupted
}
