//! The SMMUv3 register frame (IHI 0070, chapter 6): what a guest's driver reads and writes.
//!
//! [`RegisterFrame`] stands in front of a [`Frame`](crate::Frame): the VMM's MMIO handler calls
//! [`read`](RegisterFrame::read) and [`write`](RegisterFrame::write) for the 128 KiB of pages 0
//! and 1, on the thread of the vCPU that trapped. No access waits for a worker: what takes time shows
//! in an acknowledge register, as it does in hardware.
//!
//! | file | registers |
//! |---|---|
//! | `frame.rs` | the type; which register an offset is |
//! | `access.rs` | widths, alignment, halves of 64-bit registers |
//! | `bank.rs` | what has been written, and handshakes under way |
//! | `identification.rs` | IDR0 to IDR5, IIDR, AIDR, CIDR |
//! | `control.rs` | CR0, CR0ACK, CR1, CR2 |
//! | `tables.rs` | STRTAB_BASE, STRTAB_BASE_CFG, GBPA: where traffic goes |
//! | `queues.rs` | CMDQ_*, EVENTQ_*, PRIQ_* |
//! | `interrupts.rs` | IRQ_CTRL, IRQ_CTRLACK, *_IRQ_CFG, GERROR, GERRORN |
//! | `gate.rs` | how interrupts leave the frame |
//! | `reset.rs` | reset in any state |
//! | `state.rs` | save and restore |
//! | `metrics.rs` | accesses without effect |
//!
//! # Handshakes
//!
//! | written | acknowledged when |
//! |---|---|
//! | CR0.CMDQEN | the owner of the ring has brought it about; CONS is final then |
//! | CR0.EVENTQEN | set: at once; cleared: every record that was accepted is visible |
//! | CR0.SMMUEN, CR0.ATSCHK, GBPA | no access goes on by what was there before, and the VMM has been told of every bound stream |
//! | IRQ_CTRL | set: at once; cleared: no interrupt is just leaving by it |
//!
//! Guarded registers are writable while both the enable bit and its acknowledge bit are 0;
//! otherwise a write is ignored (as from SMMUv3.2 on) and counted.
//!
//! # Locks
//!
//! CMDQ_PROD, CMDQ_CONS (reads), EVENTQ_PROD and EVENTQ_CONS, GERROR, GERRORN and the
//! identification registers take no lock. The others share one, which is held for a bounded time.

mod access;
mod bank;
mod control;
mod frame;
pub(crate) mod gate;
mod identification;
mod interrupts;
mod metrics;
mod queues;
mod reset;
mod state;
mod tables;

pub use frame::{RegisterFrame, RegisterFrameError};
pub use metrics::RegisterMetrics;
pub use state::{RegisterRestoreError, RegisterState};
