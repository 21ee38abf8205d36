//! The whole run: parts, boots, verdict.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line of `vcmdq boot` |
//! | `exit.rs` | what the tool does with it |
//! | `plan.rs` | which boots there are, and what each checks |
//! | `run.rs` | one QEMU from its start to its end |
//! | `latency.rs`, `table.rs` | guests that measure, and what they gave side by side |
//! | `recording.rs` | takes the queues' streams into a file |
//! | `waited.rs` | how long a worker waited for a processor |
//! | `beneath.rs` | a QEMU whose own SMMU is under the program of `--nesting`, and what it told of it (`traced.rs`) |
//! | `talk.rs` | the conversation with a machine |
//! | `answers.rs` | what the guest asks of the host |
//! | `verdict.rs` | what came out of it |

mod answers;
mod args;
mod beneath;
mod exit;
mod latency;
mod plan;
mod recording;
mod run;
mod table;
mod talk;
mod traced;
mod verdict;
mod waited;

pub use args::BootArgs;
pub(crate) use args::default_directory;
pub(crate) use exit::exit_code;
pub use exit::{SKIPPED, main};
pub use plan::{Mode, Plan};
pub use recording::CannotRecord;
pub use run::boot;
pub(crate) use run::{begin, teller};
pub use verdict::{Check, Verdict};
