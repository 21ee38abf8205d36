//! A guest without a processor: what its kernel would have in memory, and what its driver would do.

pub(crate) mod driver;
pub(crate) mod tables;
