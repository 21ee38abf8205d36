//! From invalidations that a guest asked for to the calls that execute them.
//!
//! ```text
//! leftovers ▶ coalesce ▶ batch per VMID ▶ dispatch ▶ backend
//! ```
//!
//! An [`Invalidation`] names no architecture: Arm TLBI and VT-d stage-1
//! invalidation map onto it without loss. A [`coalesce::Coalescer`] takes those of one
//! window and gives back fewer that remove at least as much (law 7). They leave as
//! [`Batch`]es of one VMID each, and [`dispatch::dispatch`] gives a batch to a [`Backend`] and
//! sees to it that none is lost, whatever the backend says (the fail-closed ladder of law 4).
//!
//! This crate knows no rings, doorbells or workers.
#![forbid(unsafe_code)]

pub mod backend;
pub mod batch;
pub mod coalesce;
mod costs;
mod covering;
pub mod dispatch;
pub mod invalidation;
mod packed;
mod recent;

pub use backend::{
    Backend, BackendCapabilities, Barrier, Cause, Rejected, Traffic, WaiterId, Wake,
};
pub use batch::{Batch, MAX_BATCH, MAX_WAITERS};
pub use costs::{AddressCosts, Costs};
pub use invalidation::{Invalidation, Scope, Stage};
