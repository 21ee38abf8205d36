//! The smallest VMM that there is: one vCPU, RAM, and three addresses that exit.

use super::guest::{self, DOORBELL, EXIT, NOTHING, Params};
use super::vcpu;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// KVM refused something.
    #[error("KVM: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
    /// The guest's memory could not be had.
    #[error("guest memory: {0}")]
    Memory(#[from] vm_memory::mmap::FromRangesError),
    /// An access of the VMM to guest memory went wrong.
    #[error("guest memory: {0}")]
    Access(#[from] vm_memory::GuestMemoryError),
    /// A word of guest memory is not where it should be.
    #[error("guest memory: {0}")]
    Word(#[from] vm_memory::VolatileMemoryError),
    /// The guest left in a way that it does not know.
    #[error("the guest left unexpectedly: {0}")]
    Exit(String),
    /// The guest gave up.
    #[error("the guest did not see a SYNC in time")]
    TimedOut,
    /// The engine did not start.
    #[error("the engine: {0}")]
    Start(#[from] vcmdq::StartError),
    /// The engine did not take the ring.
    #[error("the engine: {0}")]
    Ring(#[from] vcmdq::RingError),
    /// The engine did not place the ring.
    #[error("the engine: {0}")]
    Configure(#[from] vcmdq::ConfigureError),
    /// The engine did not take the stream.
    #[error("the engine: {0}")]
    Bind(#[from] vcmdq::BindError),
}

/// A VM with its one vCPU.
#[derive(Debug)]
pub(crate) struct Vmm {
    vcpu: VcpuFd,
    _vm: VmFd,
    // Last: KVM uses it until the VM is closed.
    memory: GuestMemoryMmap,
}

impl Vmm {
    /// A VM whose memory has room for `rounds` rounds.
    ///
    /// # Errors
    ///
    /// What KVM or the memory says.
    pub(crate) fn new(kvm: &Kvm, rounds: usize) -> Result<Self, Error> {
        let memory = guest::memory(rounds)?;
        let vm = kvm.create_vm()?;
        guest::map_into(&vm, &memory)?;
        let vcpu = vcpu::create(&vm, &memory)?;
        Ok(Self {
            vcpu,
            _vm: vm,
            memory,
        })
    }

    /// The guest's memory.
    #[must_use]
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Ticks of the guest's TSC in a microsecond.
    ///
    /// # Errors
    ///
    /// If KVM does not know.
    pub(crate) fn ticks_per_us(&self) -> Result<f64, Error> {
        Ok(f64::from(self.vcpu.get_tsc_khz()?) / 1000.0)
    }

    /// Runs the guest's loop once, with `doorbell` called in the exit of each write to
    /// [`DOORBELL`]. Returns how many exits there were before the last.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if a SYNC was not seen, [`Error::Exit`] if the guest did what it
    /// should not.
    pub(crate) fn run(&mut self, params: &Params, doorbell: &dyn Fn(u32)) -> Result<u64, Error> {
        params.write(&self.memory)?;
        vcpu::start(&self.vcpu)?;
        let mut exits = 0;
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(DOORBELL, &[a, b, c, d])) => {
                    doorbell(u32::from_le_bytes([a, b, c, d]));
                }
                Ok(VcpuExit::MmioWrite(NOTHING, _)) => {}
                Ok(VcpuExit::MmioWrite(EXIT, &[0, ..])) => return Ok(exits),
                Ok(VcpuExit::MmioWrite(EXIT, _)) => return Err(Error::TimedOut),
                Ok(other) => {
                    let exit = format!("{other:?}");
                    let at = self.vcpu.get_regs().map_or(0, |regs| regs.rip);
                    return Err(Error::Exit(format!("{exit} at {at:#x}")));
                }
                // A signal for the thread: not the guest's matter.
                Err(error) if interrupted(error) => continue,
                Err(error) => return Err(error.into()),
            }
            exits += 1;
        }
    }
}

fn interrupted(error: kvm_ioctls::Error) -> bool {
    std::io::Error::from(error).kind() == std::io::ErrorKind::Interrupted
}
