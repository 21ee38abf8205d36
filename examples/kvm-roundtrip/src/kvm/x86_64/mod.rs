//! What of the guest belongs to x86-64: its code, and how a vCPU comes to run it in ring 3.
//!
//! A port to another architecture is these two files: code that does what `code.rs` says, and a
//! vCPU that runs it, told where its [`Params`](super::params::Params) lie. None has been written
//! for aarch64: there the guest's counter is CNTVCT_EL0, a store that exits looks the same, and
//! each store of PROD needs a release.

mod code;
mod vcpu;

pub(crate) use code::code;
pub(crate) use vcpu::{create, start, write_tables};
