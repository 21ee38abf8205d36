//! An NVMe controller (NVM Express Base Specification 2.0, NVM Command Set 1.0): enough for a
//! stock driver, with every access to memory through [`Dma`].
//!
//! ```text
//! doorbell ─▶ controller: a worker fetches an entry ─▶ admin | io ─▶ prp ─▶ Dma ─▶ disk
//!                                            completion, interrupt ◀─┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `registers.rs` | the controller's registers |
//! | `queue.rs` | submission and completion queues |
//! | `command.rs` | an entry of a submission queue, and its status |
//! | `controller.rs` | state, workers, what a register write sets in motion |
//! | `admin.rs`, `identify.rs` | the admin commands |
//! | `io.rs`, `prp.rs` | read, write, flush, and where their data lies |
//! | `dma.rs` | the way to memory: a stream behind the engine, or RAM as it is |
//! | `interrupt.rs` | the level of INTx, and messages |
//! | `config.rs`, `device.rs` | the PCI function, as vfio-user shows it |

mod admin;
mod command;
mod config;
mod controller;
mod device;
mod dma;
mod identify;
mod interrupt;
mod io;
mod prp;
mod queue;
mod registers;
#[cfg(test)]
mod tests;

pub use config::Vectors;
pub use controller::{Controller, NvmeMetrics};
pub use device::{Served, serve};
pub use dma::{Behind, Dma, Fault, Flat, Hold};
pub use io::{BLOCK, Disk};
