//! Loom models of the engine's protocols, over the product's own code.
//!
//! Each model explores every interleaving of two or three threads up to a number of
//! preemptions, and each has a twin that differs in one ordering, fence or step
//! (`vcmdq_sync::weak`) and must fail on the model's own assertion, a deadlock or a data race.
//!
//! Without `--cfg loom` the crate is empty. `cargo xtask test --only loom` runs it.
#![cfg(loom)]

mod access;
mod rig;
mod shared;
pub mod software;
mod vintf;

pub use rig::{Flag, Rig, engine_without_spins, raw_sync, raw_sync_to, raw_tlbi, work_until};
pub use run::{model, twin, wrong};
pub use shared::SharedRig;
pub use vintf::VintfRig;

mod run;
