//! What a hostile guest can put before the engine, as functions from bytes to a verdict: a panic
//! is a finding, everything else is not.
//!
//! | target | any | held against |
//! |---|---|---|
//! | [`ste`] | STE under any identification registers | the naive SMMU of `smmu-core`'s tests; itself, encoded |
//! | [`cd`] | CD, likewise | the same |
//! | [`descriptors`] | tables, in stage 1, stage 2 and both | the same; a bound on what a walk reads |
//! | [`ats`] | tables, STE and CD, for ATS requests and ATS-translated transactions | the same |
//! | [`commands`] | ring of commands, and a device with an ATC | errors, CONS, SYNCs that wait, and a bound on the engine's turns |
//! | [`pri`] | page requests of devices, and registers of the PRI queue | the queue as its registers show it |
//! | [`registers`] | accesses to the registers of an SMMU with a CMDQV | what must hold of registers |
//!
//! `cargo xtask fuzz` searches for inputs with libFuzzer, which sees what they reach; the programs
//! for it lie in `targets/`. The tests of this package run the [`seeds`](targets::Target::seeds) and some
//! random bytes without it. What a search has found becomes a test of the crate that was wrong.

pub mod ats;
pub mod cd;
pub mod commands;
pub mod descriptors;
mod input;
mod machine;
mod memory;
mod naive;
pub mod pri;
pub mod reached;
pub mod registers;
mod rig;
pub mod ste;
pub mod targets;

pub use reached::Reached;
