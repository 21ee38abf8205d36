//! The naive walker of `smmu-core`'s tests, over our memory. It shares no code with the crates.

#[path = "../../../smmu-core/tests/naive/attributes.rs"]
pub(crate) mod attributes;
#[path = "../../../smmu-core/tests/naive/configuration.rs"]
pub(crate) mod configuration;
#[path = "../../../smmu-core/tests/naive/dice.rs"]
pub(crate) mod dice;
#[path = "../../../smmu-core/tests/naive/known.rs"]
pub(crate) mod known;
#[path = "../../../smmu-core/tests/naive/model.rs"]
pub(crate) mod model;
#[path = "../../../smmu-core/tests/naive/second.rs"]
pub(crate) mod second;
#[path = "../../../smmu-core/tests/naive/tables.rs"]
pub(crate) mod tables;

// What the walker calls memory.
use crate::memory::View as Ram;
