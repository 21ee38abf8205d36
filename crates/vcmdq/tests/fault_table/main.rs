//! What becomes of a window when a backend fails in the middle of it: every way of failing that a host has,
//! for one ring, for rings that share a call, and for a group of instances (law 4).
//!
//! | a host says | [`Cause`](dispatch::Cause) | what becomes of it |
//! |---|---|---|
//! | a command cannot be converted | `Unsupported` at its index | it is widened; nobody is told |
//! | ETIMEDOUT | `TimedOut` | tried again; then the streams abort, and the VMM is told |
//! | ENOMEM, its count untouched | `Again`, and a count that is no count | tried again, all of it |
//! | EINTR | `Again` behind what is done | tried again from there |
//! | a vdevice has gone | `Gone` | its stream aborts, and the VMM is told |
//! | a device does not answer an ATC_INV | `DeviceTimedOut` | CERROR_ATC_INV at the ring's SYNC |
//!
//! In every cell: where CONS stands and what GERROR says, what was executed, in which calls, who aborts,
//! who was told and when, and that the rings go on afterwards.

#[path = "../common/mod.rs"]
mod common;
mod group;
mod many_rings;
mod one_ring;
mod world;
