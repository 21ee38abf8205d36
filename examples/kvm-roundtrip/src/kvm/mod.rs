//! The measurement under KVM on x86-64.

mod bare;
mod engine;
mod guest;
mod in_exit;
mod measure;
mod report;
mod table;
mod vcpu;
mod vmm;

use std::process::ExitCode;

/// Measures and prints, or says in one line why not. Only a failed measurement is a failure; a
/// machine without KVM is not.
pub(crate) fn run(rounds: usize, json: bool) -> ExitCode {
    let kvm = match kvm_ioctls::Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            println!("kvm-roundtrip: nothing measured, /dev/kvm cannot be used: {error}");
            return ExitCode::SUCCESS;
        }
    };
    match measure::all(&kvm, rounds) {
        Ok(report) => {
            table::print(&report, json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kvm-roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}
