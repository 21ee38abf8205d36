//! SMMUv3 formats and a software translation core, for a VMM or a test that needs to
//! know what an SMMU would make of some bytes in guest memory.
//!
//! What belongs here: the layouts of IHI 0070 ([`spec`]), the pure functions over them
//! ([`decode`], [`encode`]), the one index arithmetic of its queues ([`queue_index`]), the
//! consumer's view of guest memory ([`guest_memory`]) and the translation core: from a stream
//! to a context ([`config`]), from an address to a page ([`walk`]), what went wrong on the way
//! ([`fault`]), the way as a whole ([`translate`]), the cache of what was found ([`tlb`]). What
//! never will: rings, doorbells, threads, host interfaces.
//!
//! ```
//! use smmu_core::command::{Command, Tlbi};
//! use smmu_core::decode::decode;
//! use smmu_core::spec::command::RawCommand;
//! use smmu_core::{Asid, Capabilities};
//!
//! // TLBI_NH_VA as a guest writes it: ASID 7, the page at 0x5000.
//! let raw = RawCommand { dw0: 7 << 48 | 0x12, dw1: 0x5000 };
//! let Ok(Command::Tlbi(Tlbi::NhVa { asid, range, .. })) = decode(raw, &Capabilities::default()) else {
//!     panic!("it is legal");
//! };
//! assert_eq!((asid, range.addr, range.bytes), (Asid(7), 0x5000, 4096));
//! ```
//!
//! The crate is `no_std` + `alloc` without its default feature `std`. All formats are those
//! of the Non-secure programming interface; section numbers are those of IHI 0070 G.b.
#![cfg_attr(not(any(feature = "std", loom)), no_std)]

extern crate alloc;

pub mod access;
pub mod ats;
pub mod attributes;
pub mod caps;
pub mod command;
pub mod config;
pub mod decode;
pub mod encode;
pub mod fault;
pub mod guard;
pub mod guest_memory;
pub mod ids;
pub mod queue_index;
pub mod range;
pub mod spec;
pub mod tlb;
pub mod translate;
pub mod walk;

pub use caps::Capabilities;
pub use command::Command;
pub use guest_memory::{GuestMemory, MemoryError};
pub use ids::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};
