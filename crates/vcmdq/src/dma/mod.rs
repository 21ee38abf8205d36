//! What emulated devices reach guest memory through: a stream's address space.
//!
//! ```text
//! Device::read ──▶ piece ──▶ Port::translate (guard open) ──▶ bytes, MMIO sink ──▶ guard closed
//!                    └─ fault ──▶ FaultSink: event, stall ──▶ DmaError
//! ```
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | [`Device`]: read, write, fetch, scatter-gather |
//! | `atomic.rs` | read-modify-write accesses |
//! | `piece.rs` | one translation and the bytes behind it |
//! | `bytes.rs` | bytes of guest memory as parts of atomic words |
//! | `held.rs` | [`Held`]: an access that outlives a call, for asynchronous I/O |
//! | `memory_type.rs` | memory attributes of an access, for models that tell memory types apart |
//! | `msi.rs` | [`MsiRoute`]: what a VMM puts into an irqfd route |
//! | [`ats`] | a device that keeps translations of its own |
//! | `sinks.rs` | [`FaultSink`] and [`MmioSink`], which the VMM gives |
//! | `wiring.rs` | [`Frame::device`](crate::Frame::device): a handle in one call |
//! | `error.rs` | [`DmaError`], [`Incomplete`] |
//! | `guest/` | `StreamMemory`: vm-memory's trait, for device models that exist already |
//!
//! # Pieces and guards
//!
//! An access is cut where a translation ends, and every 64 KiB. Each piece is translated under a
//! guard that is open exactly while its bytes are touched (law 3), so a SYNC never waits longer than
//! a piece takes. What a translation says is never kept beyond that, but for [`Held`] accesses
//! and [`MsiRoute`]s.
//!
//! Memory is the map that belongs to the translation (law 9): after
//! [`Frame::update_memory`](crate::Frame::update_memory) no piece uses the old one.
//!
//! # Order
//!
//! Whole naturally aligned values of up to eight bytes are read and written in one piece. A read is
//! ordered before what the caller does next, a write behind what it did before; this is what
//! descriptor rings need.
//!
//! # Threads
//!
//! A [`Device`] is used by one thread at a time (`&mut`), takes no lock and never waits. Its sinks
//! are called with a guard open: they must not wait for the guest, nor for a SYNC.

mod atomic;
pub mod ats;
mod bytes;
mod device;
mod error;
#[cfg(all(feature = "vm-memory", not(loom)))]
mod guest;
mod held;
mod memory_type;
mod msi;
mod piece;
mod sinks;
mod wiring;

pub use device::{Device, Requester, Segment};
pub use error::{DmaError, Incomplete};
#[cfg(all(feature = "vm-memory", not(loom)))]
pub use guest::{HeldSlice, StreamMemory};
pub use held::Held;
pub use msi::MsiRoute;
pub use sinks::{DeviceSeams, FaultSink, MmioSink, NoMmio};
pub use wiring::DeviceError;
