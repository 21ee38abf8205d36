//! What tests put in the place of a host.

mod kernel;
mod streams;

pub use crate::encode::Selftest;
pub use crate::joint::{FailedClosed, ReadsContexts};
pub use kernel::{Cost, Counting, FakeKernel, Fault};
pub use streams::FakeStreams;

/// What [`NestedStreams::replace_stage2`](crate::NestedStreams::replace_stage2) does to a backend's target, with `id`
/// as the new one.
pub fn replace_target(target: &crate::Target, id: u32) {
    target.replace(None);
    target.replace(Some(id));
}
