//! The configuration of a stream: from a StreamID through the stream table to a
//! [`StreamConfig`], and from there with a SubstreamID to a [`Context`].
//!
//! Structures are read once, front to back, in aligned units of 16 bytes, each of which is one
//! load of 16 bytes where the host has one ([`vcmdq_sync::wide`]): a guest that changes both words
//! of a unit in one 128-bit store is seen before it or behind it, as hardware that shares a system
//! with LSE2 processors would see it. Between two units there is no such promise, neither here nor
//! in hardware. Every load acquires, and unit 0, which holds the valid bit, is loaded first:
//! whoever sees it valid sees what was written before it.

pub mod context;
mod descriptor;
pub mod generation;
mod stage2;
mod ste;
pub mod stream_table;
mod updates;

pub use context::{Context, Half, World};
pub use stage2::Stage2Config;
pub use ste::{
    Ats, ContextTable, ContextTableFormat, DefaultSubstream, Stage1Config, StreamAttributes,
    StreamConfig, interpret,
};
pub use stream_table::StreamTable;
pub use updates::Updates;

use crate::guest_memory::{GuestMemory, MemoryError, load_u64, load_unit};
use crate::ids::Gpa;
use vcmdq_sync::atomic::Ordering;

/// Loads a structure of `N` words at `at`, which is aligned to 16 bytes.
fn load_words<const N: usize, M: GuestMemory + ?Sized>(
    memory: &M,
    at: Gpa,
) -> Result<[u64; N], MemoryError> {
    let mut words = [0; N];
    let mut unit_at = at;
    for unit in words.chunks_mut(2) {
        match unit {
            [first, second] => [*first, *second] = load_unit(memory, unit_at)?,
            rest => {
                for word in rest {
                    *word = load_u64(memory, unit_at, Ordering::Acquire)?;
                }
            }
        }
        unit_at = Gpa(unit_at.0.wrapping_add(16));
    }
    Ok(words)
}
