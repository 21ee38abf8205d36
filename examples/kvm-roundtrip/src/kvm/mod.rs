//! The measurement under KVM.
//!
//! The way of the code: `cases.rs` says what is measured, `run.rs` goes through it, `consumer.rs`
//! puts somebody behind the guest's doorbells, `vmm.rs` runs the guest, `x86_64` is the guest.

mod backend;
mod bare;
mod cases;
mod consumer;
mod engine;
mod error;
mod in_exit;
mod layout;
mod memory;
mod params;
mod ping_pong;
mod placement;
mod run;
mod tally;
mod vmm;
mod x86_64;
mod zone;

pub use error::Error;

use crate::data::Measured;
use crate::options::{Options, Progress};

/// As [`crate::measure`].
///
/// # Errors
///
/// If a measurement fails.
pub(crate) fn measure(options: &Options, progress: &mut dyn Progress) -> Result<Measured, Error> {
    match kvm_ioctls::Kvm::new() {
        Ok(kvm) => Ok(Measured::Report(run::all(&kvm, options, progress)?)),
        Err(error) => Ok(Measured::Nothing(format!(
            "/dev/kvm cannot be used: {error}"
        ))),
    }
}
