//! `vcmdq mock`: the iommufd backend inside a Linux for x86-64 whose iommufd has a mock IOMMU.
//!
//! The kernel's first process is this project's program `mock`: it makes the checks, says a line for each, and
//! switches off.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `exit.rs` | what the tool does with it |
//! | `machine.rs` | how QEMU is started |
//! | `run.rs` | one run from its start to its end |
//! | `verdict.rs` | which checks there must be, and what came of them |

mod args;
mod exit;
mod machine;
mod run;
mod verdict;

pub use args::MockArgs;
pub use exit::main;
pub use run::run;
pub use verdict::{CHECKS, MockVerdict};
