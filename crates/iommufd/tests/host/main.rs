//! The backend on a kernel in memory.

#![cfg(target_os = "linux")]

mod accounting;
mod common;
mod encode;
mod join;
