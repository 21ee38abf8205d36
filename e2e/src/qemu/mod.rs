//! QEMU as a process: its arguments, its console, and the socket by which it takes interrupts.

mod command;
mod console;
mod process;
mod qtest;

pub use command::{Device, Machine, OwnSmmu, SLOT, devicetree};
pub use console::{Line, parse};
pub use process::{Process, Said};
pub use qtest::Qtest;
