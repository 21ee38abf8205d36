//! Who consumes the guest's rings.

use super::backend::Executor;
use super::bare;
use super::engine::Behind;
use super::error::Error;
use super::in_exit::InExit;
use super::placement::Worker;
use super::vmm::Vmm;
use crate::data::{Case, Host, Mode};

/// What a VMM has behind the guest's doorbells during one run.
pub(crate) trait Consumer: Sync {
    /// A vCPU's write of PROD has exited; on its thread.
    fn doorbell(&self, vcpu: usize, prod: u32) {
        let _ = (vcpu, prod);
    }

    /// Whether a busy guest finds what it is to find while it is busy.
    fn is_ready(&self) -> bool {
        true
    }

    /// What has been counted so far, without rounds.
    fn host(&self) -> Option<Host> {
        None
    }
}

/// Nobody.
struct Nobody;

impl Consumer for Nobody {}

/// The consumer of a case, for rings that are empty.
///
/// # Errors
///
/// What the engine or the host says.
pub(crate) fn of(case: &Case, vmm: &Vmm, worker: Worker) -> Result<Box<dyn Consumer>, Error> {
    let vm = vmm.vm().clone();
    let vcpus = case.vcpus as usize;
    let executor = Executor::of(case.backend);
    Ok(match case.mode {
        Mode::EmptyExit | Mode::KernelExit | Mode::Rtrb => Box::new(Nobody),
        Mode::Bare => Box::new(bare::Answerer::start(vm, vcpus, worker.cpu)?),
        Mode::InExit => Box::new(InExit::new(vm, vcpus, executor)),
        mode => Box::new(Behind::new(mode, vmm, vcpus, executor, worker)?),
    })
}
