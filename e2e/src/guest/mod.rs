//! What runs in the guest: busybox, modules of the kernel, and a script that checks.

mod initramfs;
mod modules;

pub use initramfs::{Program, initramfs, sole_program, with_table};
