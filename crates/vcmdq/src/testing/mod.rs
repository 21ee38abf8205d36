//! A guest driver to test, measure and model against, and guest memory for it.
//!
//! [`GuestQueue`] inserts commands as Linux's `arm-smmu-v3` driver does, with as many
//! threads as a test likes. One insertion goes through these files:
//!
//! ```text
//! reserve ▶ insert ▶ valid (wait for the others' slots) ▶ one PROD write ▶ wait ▶ (recover)
//! ```
//!
//! * [`reserve`]: slots are taken by one 64-bit compare-and-swap on a shadow of PROD and CONS;
//!   the first to take some becomes their owner and publishes for everybody behind it;
//! * [`valid`]: a bit for each slot says that it has been written in this lap;
//! * [`insert`]: the commands go into guest memory, then their valid bits are turned;
//! * [`wait`]: for space, and for a SYNC by the word in its own slot or by CONS, up to a limit;
//! * [`recover`]: what the driver does about CMDQ_ERR.
//!
//! [`commands`] has the commands that nearly every test sends, and [`ats`] a device with a translation cache, and a witness of what it does.
//!
//! [`numbers`] look random and are the same in every run.
//!
//! Whatever consumes the queue stands behind [`QueueRegisters`]. [`HeapMemory`] is guest
//! memory for tests that need none of a VMM's.
//!
//! Everything here is the *guest's* side: it may panic on misuse by a test, and nothing of it
//! is compiled into a VMM unless the feature `testing` is on.

pub mod ats;
pub mod commands;
pub mod insert;
pub mod memory;
pub mod numbers;
pub mod queue;
pub mod recover;
pub mod registers;
pub mod reserve;
pub mod valid;
pub mod wait;

#[cfg(all(test, not(loom)))]
mod tests;

pub use ats::{AtsWitness, StaleUse, WitnessedDevice};
pub use memory::{HeapMemory, Holed};
pub use numbers::Numbers;
pub use queue::{Completion, GuestQueue, QueueError, QueueSettings};
pub use recover::Recovered;
pub use registers::QueueRegisters;
pub use wait::PendingSync;
