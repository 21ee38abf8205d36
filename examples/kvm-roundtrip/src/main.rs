//! What a guest under KVM waits for one invalidation: trap against shared page.
//!
//! `cargo run --release -p kvm-roundtrip`
//!
//! A guest of one loop sends TLBI_NH_VA and CMD_SYNC, two thousand times for each way in which its
//! queue can be consumed, and measures with its own clock how long it waits until it sees the
//! SYNC done. The way of the code: `measure.rs` sets up a consumer, `vmm.rs` runs the guest,
//! `vcpu.rs` puts it into ring 3, `guest.rs` is the guest.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm;

use clap::Parser;
use std::process::ExitCode;

/// Measures what a guest under KVM waits for one invalidation.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds for each row of the table.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Args { rounds, json } = Args::parse();
    measure(rounds as usize, json)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use kvm::run as measure;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn measure(_rounds: usize, _json: bool) -> ExitCode {
    println!("kvm-roundtrip: nothing measured, the guest is one for KVM on x86-64");
    ExitCode::SUCCESS
}
