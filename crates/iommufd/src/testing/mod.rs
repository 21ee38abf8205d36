//! What tests put in the place of a host.

mod kernel;
mod streams;

pub use crate::encode::Selftest;
pub use crate::joint::{FailedClosed, ReadsContexts};
pub use kernel::{Cost, Counting, FakeKernel, Fault};
pub use streams::FakeStreams;
