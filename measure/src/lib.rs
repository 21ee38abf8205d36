//! What the engine does inside one process, measured beside its baselines: plain data for whoever
//! shows it. Nothing here prints or judges.
//!
//! | module | what |
//! |---|---|
//! | [`trips`] | one TLBI and a SYNC between two cores, beside bare queues and cache lines |
//! | [`drains`] | full rings: nanoseconds per command, beside synchronous consumption |
//! | [`throughput`] | many rings of many guests: commands per second |
//! | [`group_commit`] | many producers' SYNCs in one call to the backend |
//! | [`fairness`] | a guest's SYNC while another one floods the same worker |
//! | [`blocked`] | a guest's SYNC while the backends of others block |
//! | [`idle`] | processor time while nothing happens |
//! | [`tlb`] | an invalidation, by how many entries are cached |
//! | [`data`] | distributions, costs, placements |
//! | [`options`] | what is to be measured, and how far it has come |
//! | [`cores`] | where threads run |
//! | [`run`] | everything in one run |
//!
//! Contenders of a row take turns in many short rounds, so that what disturbs the machine
//! disturbs all of them alike, and medians over the rounds are compared.
#![forbid(unsafe_code)]

pub mod blocked;
pub mod cores;
pub mod data;
pub mod drains;
pub mod fairness;
pub mod group_commit;
pub mod idle;
pub mod options;
pub mod run;
pub mod throughput;
pub mod tlb;
pub mod trips;
mod vm;

pub use options::{Options, Part, Progress};
pub use run::{InProcess, measure};
