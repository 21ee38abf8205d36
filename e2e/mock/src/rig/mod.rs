//! A frame of the engine in front of the mock, and a guest that puts commands into its ring.
//!
//! | file | what |
//! |---|---|
//! | `counted.rs` | the kernel's calls, counted and made to fail |
//! | `commands.rs` | what the guest sends |
//! | `frame.rs` | the frame, its ring, its backend |

mod commands;
mod counted;
mod frame;

pub(crate) use commands::{atc, page, request};
pub(crate) use counted::Counted;
pub(crate) use frame::{Rig, Work};
