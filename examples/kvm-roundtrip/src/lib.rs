//! What a guest under KVM waits for its invalidations, by the way in which its queue is consumed.
//!
//! A guest of one loop in ring 3 sends TLBIs and a CMD_SYNC, again and again, and measures with its
//! own clock how long it waits until it sees the SYNC done: with the exit that consumes under a
//! mutex, as VMMs do today, and with each doorbell of the engine. Beside them stand references of
//! the same run: an empty exit, an exit that stays in the kernel, a bare ping-pong.
//!
//! ```no_run
//! use kvm_roundtrip::{Case, Measured, Mode, Options, measure};
//!
//! match measure(&Options::default(), &mut ())? {
//!     Measured::Report(report) => {
//!         let page = report.row(&Case::of(Mode::SharedPage)).expect("all modes");
//!         println!("{} ns, {} with an exit", page.latency.passes_p50, report.empty_exit_ns);
//!     }
//!     Measured::Nothing(why) => println!("nothing measured: {why}"),
//! }
//! # Ok::<(), kvm_roundtrip::Error>(())
//! ```
//!
//! The guest is one for x86-64 (`kvm/x86_64`). For aarch64 there is none yet.

mod data;
mod goals;
mod latency;
mod measure;
mod options;
pub mod table;
#[cfg(test)]
mod testing;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod elsewhere;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm;

pub use data::{Case, Cost, Host, Measured, Mode, Placed, Report, Row, Seen, Span, Waiter};
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use elsewhere::Error;
pub use goals::{Bound, Goal, Without, goals};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use kvm::Error;
pub use latency::{CdfPoint, Latency, Recorder};
pub use measure::measure;
pub use options::{Options, Progress};
