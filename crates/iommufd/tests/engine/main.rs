//! Whole frames in front of a kernel in memory.

#![cfg(target_os = "linux")]

mod fault_table;
mod rows;
mod windows;
mod world;
