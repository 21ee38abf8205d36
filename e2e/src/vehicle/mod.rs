//! What stands in for a VMM beside QEMU: guest RAM, the registers as a page of it, interrupts.
//!
//! QEMU under TCG has no way to trap an access into another process, so the guest's driver finds
//! its SMMU in reserved memory, and a thread here polls it. No VMM does that: it traps.
//!
//! | file | what |
//! |---|---|
//! | `ram.rs` | guest RAM |
//! | `smmu.rs` | engine, frame and core of one machine |
//! | `polled.rs` | the pages of registers and the thread that polls them |
//! | `window.rs` | which words of the pages are whose |
//! | `cmdqv.rs` | the CMDQV: page 0 of its queues is polled by the engine |
//! | `corrupt.rs` | makes a command of the guest's illegal on its way |
//! | `messages.rs` | interrupts, on their way to QEMU |
//! | `dropping.rs` | a backend that loses invalidations on purpose |
//! | `heard.rs` | which commands come, and what they name |
//! | `seen.rs` | which stages and address spaces the invalidations name |

mod cmdqv;
mod corrupt;
mod dropping;
mod heard;
mod messages;
mod polled;
mod ram;
mod seen;
mod smmu;
mod window;

pub use corrupt::Corruption;
pub use dropping::Dropping;
pub use heard::{Commands, Heard};
pub use messages::Messages;
pub use polled::Polled;
pub use ram::{RAM_BASE, Ram};
pub use seen::{OfVmid, Seen};
pub use smmu::{Bases, Polling, Smmu, SmmuSettings};
