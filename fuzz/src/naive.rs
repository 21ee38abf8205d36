//! The naive walker of `smmu-core`'s tests, over our memory. It shares no code with the crates; nor does
//! what answers ATS requests by it.

pub(crate) mod ats;

#[path = "../../crates/smmu-core/tests/naive/asked.rs"]
pub(crate) mod asked;
#[path = "../../crates/smmu-core/tests/naive/attributes.rs"]
pub(crate) mod attributes;
#[path = "../../crates/smmu-core/tests/naive/configuration.rs"]
pub(crate) mod configuration;
#[path = "../../crates/smmu-core/tests/naive/known.rs"]
pub(crate) mod known;
#[path = "../../crates/smmu-core/tests/naive/model.rs"]
pub(crate) mod model;
#[path = "../../crates/smmu-core/tests/naive/second.rs"]
pub(crate) mod second;
#[path = "../../crates/smmu-core/tests/naive/tables.rs"]
mod tables;
#[path = "../../crates/smmu-core/tests/naive/uncached.rs"]
mod uncached;

// What the walker calls memory.
use crate::memory::Ram;
