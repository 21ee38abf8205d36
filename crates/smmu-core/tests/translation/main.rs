//! The translation core: against the naive model over random worlds, and by hand where a
//! rule has a name.

#[path = "../naive/mod.rs"]
mod naive;

mod attributes;
mod bench;
mod context;
mod nested;
mod random;
mod robustness;
mod stage2_config;
mod stream_table;
mod updates;
mod walk;
